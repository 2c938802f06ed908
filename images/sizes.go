package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/google/renameio/v2"
)

// artefacts are the files that the targets make for others to use.
var artefacts = []string{"vmlinuz", "initramfs.cpio.zst", "rootfs.img", "rootfs.roothash", "keelson.efi", "keelson.iso", "keelson-netboot.efi", "keelson-netboot.initrd", "keelson.qcow2", "keelson.bundle", "sbom.spdx.json", "sample-web.tar"}

// sizes is sizes.json. All numbers are bytes.
type sizes struct {
	// Artifacts are the files in the folder of the artefacts.
	Artifacts map[string]int64 `json:"artifacts"`
	// Components are the parts of the root image before it is compressed.
	Components map[string]int64 `json:"components"`
}

func (b *build) makeSizes(context.Context) error {
	s := sizes{Artifacts: map[string]int64{}, Components: map[string]int64{}}
	for _, name := range artefacts {
		info, err := os.Stat(b.path(name))
		if err != nil {
			return err
		}
		s.Artifacts[name] = info.Size()
	}
	for _, p := range programs {
		if p.path == "" {
			continue
		}
		info, err := os.Stat(b.program(p))
		if err != nil {
			return err
		}
		s.Components[p.name] = info.Size()
	}
	var err error
	if s.Components["kernel modules"], err = folderSize(filepath.Join(b.modules.dir, "kernel")); err != nil {
		return err
	}
	text, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return err
	}
	for _, name := range artefacts {
		b.log.say("%-20s %7.1f MiB", name, float64(s.Artifacts[name])/(1<<20))
	}
	if err := renameio.WriteFile(b.path("sizes.json"), append(text, '\n'), 0o644); err != nil {
		return fmt.Errorf("write sizes.json: %w", err)
	}
	return nil
}

func folderSize(dir string) (int64, error) {
	var size int64
	err := filepath.WalkDir(dir, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		size += info.Size()
		return nil
	})
	return size, err
}
