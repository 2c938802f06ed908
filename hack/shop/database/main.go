// Command database starts PostgreSQL in a container. At the first start it makes
// the database cluster on the volume, with one database and one user for the
// shop; the password is read from a file. Arguments are passed on to postgres.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

const (
	// binaries is where Debian's package has the server's programs.
	binaries = "/usr/lib/postgresql/15/bin"
	// volume is where the manifest mounts the volume. The data is in a folder of
	// its own: postgres wants one that only its user can open.
	volume = "/var/lib/postgresql"
	// passwordFile is where the manifest mounts the key of the Secret.
	passwordFile = "/run/secrets/shop/password"
	maxPassword  = 256
	// hba says who may log in from where; the image has it.
	hba = "/etc/postgresql/pg_hba.conf"
)

func main() {
	if err := run(volume, passwordFile, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "database:", err)
		os.Exit(1)
	}
}

func run(volume, passwordFile string, args []string) error {
	data := filepath.Join(volume, "15")
	if _, err := os.Stat(data); errors.Is(err, fs.ErrNotExist) {
		password, err := readPassword(passwordFile)
		if err != nil {
			return err
		}
		if err := create(data, password); err != nil {
			return fmt.Errorf("make the database on the volume: %w", err)
		}
	} else if err != nil {
		return err
	}
	postgres := filepath.Join(binaries, "postgres")
	args = append([]string{"postgres", "-D", data, "-c", "hba_file=" + hba, "-c", "listen_addresses=*"}, args...)
	// In this process's place: the container's signals are for postgres.
	if err := syscall.Exec(postgres, args, os.Environ()); err != nil {
		return fmt.Errorf("start %s: %w", postgres, err)
	}
	return nil
}

// create makes the data in a folder beside its own and renames it when all of
// it is there: a start that is cut off leaves nothing that looks whole.
func create(data, password string) error {
	partial := data + ".new"
	if err := os.RemoveAll(partial); err != nil {
		return fmt.Errorf("remove what an earlier start left: %w", err)
	}
	initdb := exec.Command(filepath.Join(binaries, "initdb"), "-D", partial,
		"--username=postgres", "--auth-local=peer", "--auth-host=scram-sha-256", "--encoding=UTF8", "--locale=C", "--no-instructions")
	initdb.Stdout, initdb.Stderr = os.Stdout, os.Stderr
	if err := initdb.Run(); err != nil {
		return fmt.Errorf("initdb: %w; its output is above. It needs a folder that user %d can write to: %s", err, os.Getuid(), filepath.Dir(data))
	}
	// A server of one session, that reads statements from its standard input:
	// the password is in no argument and in no log.
	single := exec.Command(filepath.Join(binaries, "postgres"), "--single", "-D", partial,
		"-c", "exit_on_error=on", "-c", "log_min_error_statement=panic", "postgres")
	single.Stdin = strings.NewReader(statements(password))
	single.Stderr = os.Stderr
	if err := single.Run(); err != nil {
		return fmt.Errorf("create the shop's user and database: %w", err)
	}
	if err := os.Rename(partial, data); err != nil {
		return err
	}
	return syncFolder(filepath.Dir(data))
}

// statements make the shop's user and its database, one statement a line.
func statements(password string) string {
	quoted := "'" + strings.ReplaceAll(password, "'", "''") + "'"
	return "CREATE ROLE shop LOGIN PASSWORD " + quoted + "\nCREATE DATABASE shop OWNER shop\n"
}

func readPassword(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the database's password: %w", err)
	}
	password := strings.TrimRight(string(content), "\n")
	switch {
	case password == "":
		return "", fmt.Errorf("%s is empty: the Secret needs a password", file)
	case len(password) > maxPassword:
		return "", fmt.Errorf("the password in %s is longer than %d bytes", file, maxPassword)
	case strings.ContainsFunc(password, func(r rune) bool { return r < ' ' || r == 0x7f }):
		return "", fmt.Errorf("the password in %s has control characters in it; choose one without", file)
	}
	return password, nil
}

func syncFolder(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}
