package main

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
)

// makeInitramfs packs stage 1 and the modules that it may need. /dev/console
// comes from the initramfs that every kernel has built in.
func (b *build) makeInitramfs(context.Context) error {
	stage1 := b.program(programNamed("initramfs"))
	sum, err := b.digest(stage1)
	if err != nil {
		return err
	}
	kernel, _ := b.kernel()
	output := []string{b.path("initramfs.cpio.zst")}
	return b.once("initramfs", output, []string{sum, kernel.sha256}, func(partial []string) error {
		t := newTree()
		t.file("init", stage1, 0o755)
		t.link("lib", "usr/lib")
		for _, dir := range []string{"dev", "proc", "sys", "sysroot"} {
			t.dir(dir, 0o755)
		}
		t.text("etc/modules-load", strings.Join(bootLoad, "\n")+"\n")
		files, err := b.modules.files(b.bootModules())
		if err != nil {
			return err
		}
		if err := b.modules.addTo(t, files); err != nil {
			return err
		}
		return b.writeInitramfs(t, partial[0])
	})
}

func (b *build) writeInitramfs(t *tree, file string) error {
	f, err := os.Create(file)
	if err != nil {
		return err
	}
	defer f.Close()
	// One goroutine: the bytes must not depend on how many processors there are.
	compressed, err := zstd.NewWriter(f, zstd.WithEncoderLevel(zstd.SpeedBestCompression), zstd.WithEncoderConcurrency(1))
	if err != nil {
		return err
	}
	if err := t.writeCPIO(compressed, b.epoch); err != nil {
		return fmt.Errorf("write the initramfs: %w", err)
	}
	if err := compressed.Close(); err != nil {
		return err
	}
	return f.Close()
}
