package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/entries"
	"github.com/keelson-os/keelson/machined/host/verity"
	"github.com/keelson-os/keelson/pkg/osdisk"
)

// espMount is where stage 1 mounts the ESP.
const espMount = "/esp"

// giveUp has the other slot booted next, since the root image cannot be started.
// The boot loader does so by itself while an image is on probation.
func giveUp(ctx context.Context, machine host.OS, modules *host.Modules, rootHash verity.RootHash) error {
	disks, err := installedDisks(machine.Root())
	if err != nil {
		return err
	}
	if len(disks) == 0 {
		return nil // booted from a medium
	}
	steps, err := modules.Plan(entries.Modules...)
	if err := errors.Join(err, host.LoadModules(ctx, machine, steps)); err != nil {
		return err
	}
	var failed []error
	for _, disk := range disks {
		node, err := host.PartitionNode(machine.Root(), disk, osdisk.ESP.Name)
		if err != nil {
			failed = append(failed, err)
			continue
		}
		entry, err := entries.GiveUp(machine, node, espMount, rootHash.String())
		if err == nil {
			say(errorLevel, "the image in slot %s is given up; the other one is next", entry.Slot)
			return nil
		}
		failed = append(failed, err)
	}
	return errors.Join(failed...)
}

// installedDisks are the disks with the partitions of an installed node, by the
// kernel's names.
func installedDisks(root fs.FS) (disks []string, err error) {
	files, err := fs.Glob(root, "sys/block/*/*/uevent")
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		text, err := fs.ReadFile(root, file)
		if err == nil && strings.Contains(string(text), "PARTNAME="+osdisk.RootA.Name+"\n") {
			disks = append(disks, path.Base(path.Dir(path.Dir(file))))
		}
	}
	return disks, nil
}

// checkProgram reads a program to its end, so that one that is damaged is found
// while there is a choice: process 1 would die of it, and the machine restart for
// ever. It costs nothing that the start of the program would not: the pages stay.
func checkProgram(name string) error {
	file, err := os.Open(name)
	if err != nil {
		return err
	}
	defer file.Close()
	if _, err := io.Copy(io.Discard, file); err != nil {
		return fmt.Errorf("read the first program of the root image: %w", err)
	}
	return nil
}
