package main

import (
	"context"
	"crypto/rand"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/keelson-os/keelson/pkg/pki"
	"github.com/keelson-os/keelson/pkg/snapshot"
)

// The S3 server of these tests: a gateway to a folder. It is built once, apart
// from our module, into the user's cache.
const (
	s3Module  = "github.com/versity/versitygw"
	s3Version = "v1.8.0"
	s3Command = "versitygw"
	// s3Build is how long a build may take: about a minute on two cores, more
	// when they have other work.
	s3Build = 10 * time.Minute
)

// s3Program returns the server's program, or skips the test where it is not
// built yet and cannot be.
func s3Program(t *testing.T) string {
	t.Helper()
	cache, err := os.UserCacheDir()
	if err != nil {
		t.Skipf("no place for an S3 server: %v", err)
	}
	dir := filepath.Join(cache, "keelson", "tools", s3Command+"-"+s3Version)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Skipf("no place for an S3 server: %v", err)
	}
	program := filepath.Join(dir, s3Command)
	lock, err := os.Create(filepath.Join(dir, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(program); err == nil {
		return program
	}
	ctx, cancel := context.WithTimeout(t.Context(), s3Build)
	defer cancel()
	build := exec.CommandContext(ctx, "go", "install", s3Module+"/cmd/"+s3Command+"@"+s3Version)
	build.Dir = dir
	build.Env = append(os.Environ(), "GOBIN="+dir, "GOFLAGS=-trimpath", "GOWORK=off", "CGO_ENABLED=0")
	if output, err := build.CombinedOutput(); err != nil {
		t.Skipf("the S3 server %s cannot be built: %v\n%s", s3Module, err, lastLines(output))
	}
	return program
}

func lastLines(output []byte) string {
	lines := strings.Split(strings.TrimSpace(string(output)), "\n")
	return strings.Join(lines[max(0, len(lines)-5):], "\n")
}

// s3Server is a running store.
type s3Server struct {
	folder string // of its buckets
	config snapshot.Store
}

// startS3 starts a store with one empty bucket, reached over TLS.
func startS3(t *testing.T) *s3Server { return startS3By(t, "https") }

// startS3By starts one that is reached by http or https.
func startS3By(t *testing.T, scheme string) *s3Server {
	t.Helper()
	program := s3Program(t)
	ca, err := pki.NewCA("store", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	pair, err := ca.Issue(pki.Request{
		CommonName: "store", Server: true, TTL: time.Hour, IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")},
	})
	if err != nil {
		t.Fatal(err)
	}
	base := t.TempDir()
	path := func(name string) string { return filepath.Join(base, name) }
	for _, dir := range []string{"data", "data/backups", "meta"} {
		if err := os.Mkdir(path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for name, content := range map[string][]byte{"cert": pair.Cert, "key": pair.Key} {
		if err := os.WriteFile(path(name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	server := &s3Server{folder: path("data"), config: snapshot.Store{
		Bucket: "backups", Prefix: "keelson/c0ffee/", CA: string(ca.KeyPair().Cert),
		AccessKeyID: "tester", SecretAccessKey: rand.Text(),
	}}
	address := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	server.config.Endpoint = scheme + "://" + address
	args := []string{"--port", address, "--quiet"}
	if scheme == "https" {
		args = append(args, "--cert", path("cert"), "--key", path("key"))
	}
	process := exec.Command(program, append(args, "posix", "--sidecar", path("meta"), path("data"))...)
	process.Env = append(os.Environ(), "ROOT_ACCESS_KEY="+server.config.AccessKeyID, "ROOT_SECRET_KEY="+server.config.SecretAccessKey)
	output := &strings.Builder{}
	process.Stdout, process.Stderr = output, output
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = process.Wait() }()
	t.Cleanup(func() { _ = process.Process.Kill(); <-ended })
	give := time.After(deadline)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
			return server
		}
		select {
		case <-ended:
			t.Fatalf("the S3 server ended: %s", output)
		case <-give:
			t.Fatalf("the S3 server does not answer: %v", err)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// open returns the store, after change.
func (s *s3Server) open(t *testing.T, change func(*snapshot.Store)) *bucket {
	t.Helper()
	config := s.config
	if change != nil {
		change(&config)
	}
	opened, err := newBucket(config)
	if err != nil {
		t.Fatal(err)
	}
	return opened
}
