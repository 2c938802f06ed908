package main

import (
	"encoding/binary"
	"os"
	"path/filepath"
	"testing"
)

func TestFixBootSize(t *testing.T) {
	const catalog = 20
	for was, want := range map[uint16]uint16{0: 0xffff, 32000: 32000} {
		iso := make([]byte, 32*isoBlock)
		binary.LittleEndian.PutUint32(iso[17*isoBlock+0x47:], catalog)
		count := iso[catalog*isoBlock+32+6:]
		binary.LittleEndian.PutUint16(count, was)
		file := filepath.Join(t.TempDir(), "iso")
		if err := os.WriteFile(file, iso, 0o600); err != nil {
			t.Fatal(err)
		}
		if err := fixBootSize(file); err != nil {
			t.Fatal(err)
		}
		fixed, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if got := binary.LittleEndian.Uint16(fixed[catalog*isoBlock+32+6:]); got != want {
			t.Errorf("%d sectors became %d, expected %d", was, got, want)
		}
	}
}
