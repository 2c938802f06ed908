package etcd

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"

	"github.com/keelson-os/keelson/machined/etcd/mark"
)

// serverTLS is what a member serves with.
func serverTLS(t *testing.T, files map[string][]byte) *tls.Config {
	t.Helper()
	cert, err := tls.X509KeyPair(files[serverCert], files[serverKey])
	if err != nil {
		t.Fatal(err)
	}
	return &tls.Config{Certificates: []tls.Certificate{cert}}
}

func TestAFullDiskRefusesARecoveryAndIsLeftAsItWas(t *testing.T) {
	s := newService(t)
	_, _, err := s.Recover(t.Context(), iotest.ErrReader(syscall.ENOSPC))
	if err == nil || !strings.Contains(err.Error(), "the disk has no room for the snapshot") || errors.Is(err, ErrSnapshot) {
		t.Errorf("got %v", err)
	}
	if left, _ := os.ReadDir(s.options.DataDir); len(left) != 0 {
		t.Errorf("left are %v", left)
	}
}

// Wherever the power fails, the next start finishes the recovery or knows
// nothing of it.
func TestPowerCutsDuringARecovery(t *testing.T) {
	for _, c := range []struct {
		when   string
		files  []string
		marked string // content of the pending mark; "-" for none
		want   state
		kept   bool // the snapshot
	}{
		{"while it comes in", []string{incomingFile}, "-", empty, false},
		{"before it is certain", []string{recoverFile}, "-", empty, false},
		{"when it is certain", []string{recoverFile}, recoverFile, pending, true},
		{"while it is restored", []string{recoverFile, memberDir}, recoverFile, pending, true},
		{"after the first answer", []string{recoverFile, filepath.Join(memberDir, "wal", "0.wal")}, "-", formed, false},
	} {
		s := newService(t)
		for _, name := range c.files {
			path := filepath.Join(s.options.DataDir, name)
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		if c.marked != "-" {
			if err := mark.Set(s.options.DataDir, pendingMark, c.marked); err != nil {
				t.Fatal(err)
			}
		}
		if got, err := read(s.options.DataDir); err != nil || got != c.want {
			t.Errorf("%s: state %d, %v; want %d", c.when, got, err, c.want)
		}
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		if err := s.gate(ended); (err == nil) != (c.want != empty) {
			t.Errorf("%s: the gate answered %v", c.when, err)
		}
		if err := s.prepare(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := os.Stat(filepath.Join(s.options.DataDir, recoverFile)); (err == nil) != c.kept {
			t.Errorf("%s: the snapshot: %v, want it kept: %t", c.when, err, c.kept)
		}
	}
}

func TestOnlyItsGroupReachesTheAdminSocket(t *testing.T) {
	s := newService(t)
	if err := s.prepare(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(filepath.Dir(s.options.AdminSocket))
	if err != nil {
		t.Fatal(err)
	}
	if want := os.ModeDir | os.ModeSetgid | 0o750; info.Mode() != want {
		t.Errorf("its folder has mode %s, want %s", info.Mode(), want)
	}
}
