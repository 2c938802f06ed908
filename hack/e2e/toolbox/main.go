// Command toolbox is the one program of the end-to-end tests' own image. It
// does to a node, from a privileged pod, what no API should offer: kill
// processes by number, fill the disk, read any file.
package main

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"syscall"
	"time"
)

var commands = map[string]func(args []string) error{
	"wait":  wait,
	"kill":  kill,
	"hold":  hold,
	"cat":   cat,
	"get":   get,
	"write": write,
	"ls":    list,
}

func main() {
	if len(os.Args) < 2 || commands[os.Args[1]] == nil {
		fmt.Fprintln(os.Stderr, "usage: toolbox wait|kill PID|hold FILE|cat FILE|get URL|write FILE TEXT|ls DIR")
		os.Exit(2)
	}
	if err := commands[os.Args[1]](os.Args[2:]); err != nil {
		fmt.Fprintln(os.Stderr, "toolbox:", err)
		os.Exit(1)
	}
}

// wait keeps the pod running until it is told to end.
func wait([]string) error {
	stop := make(chan os.Signal, 1)
	signal.Notify(stop, syscall.SIGTERM, syscall.SIGINT)
	<-stop
	return nil
}

// kill sends SIGKILL, the one signal no process can prepare for. A process
// that is gone already is fine: killing a service that carries the call ends
// the call too, and the caller tries again.
func kill(args []string) error {
	pid, err := strconv.Atoi(strings.Join(args, " "))
	if err != nil || pid <= 1 {
		return fmt.Errorf("kill %q: not a process ID above 1", args)
	}
	if err := syscall.Kill(pid, syscall.SIGKILL); !errors.Is(err, syscall.ESRCH) {
		return err
	}
	return nil
}

// hold makes a file grow until the disk is full, and keeps it so.
func hold(args []string) error {
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	// Allocating is enough to fill a disk, and far quicker than writing.
	var size int64
	for chunk := int64(1 << 30); chunk >= 4096; {
		if err := syscall.Fallocate(int(f.Fd()), 0, size, chunk); err != nil {
			chunk /= 2
			continue
		}
		size += chunk
	}
	fmt.Println(size)
	return wait(nil)
}

func cat(args []string) error {
	f, err := os.Open(args[0])
	if err != nil {
		return err
	}
	defer f.Close()
	_, err = io.Copy(os.Stdout, f)
	return err
}

// write makes a file that outlives a power cut.
func write(args []string) error {
	f, err := os.Create(args[0])
	if err != nil {
		return err
	}
	_, err = f.WriteString(args[1])
	return errors.Join(err, f.Sync(), f.Close())
}

func list(args []string) error {
	entries, err := os.ReadDir(args[0])
	for _, entry := range entries {
		fmt.Println(entry.Name())
	}
	return err
}

func get(args []string) error {
	client := http.Client{Timeout: 10 * time.Second}
	response, err := client.Get(args[0])
	if err != nil {
		return err
	}
	defer response.Body.Close()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("get %s: %s", args[0], response.Status)
	}
	_, err = io.Copy(os.Stdout, response.Body)
	return err
}
