package logind

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"k8s.io/klog/v2"
	"k8s.io/kubernetes/pkg/kubelet/nodeshutdown/systemd"
)

// patience is for a machine that is busy.
const patience = time.Minute

// startServer serves on a socket that kubelet's own code finds.
func startServer(t *testing.T) (*Server, string) {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "logind", "bus")
	listener, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	s := New(slog.New(slog.NewTextHandler(t.Output(), nil)))
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx, listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
	t.Setenv("DBUS_SYSTEM_BUS_ADDRESS", "unix:path="+socket)
	return s, socket
}

// kubelet is the code that kubelet uses, in the order in which it does.
type kubelet struct {
	*systemd.DBusCon
	lock   systemd.InhibitLock
	events <-chan bool
}

func startKubelet(t *testing.T) *kubelet {
	t.Helper()
	bus, err := systemd.NewDBusCon()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { bus.Close() })
	k := &kubelet{DBusCon: bus}
	if delay, err := k.CurrentInhibitDelay(); err != nil || delay < time.Hour {
		t.Fatalf("logind lets an inhibitor delay by %s, %v", delay, err)
	}
	if k.lock, err = k.InhibitShutdown(); err != nil {
		t.Fatal(err)
	}
	if k.events, err = k.MonitorShutdown(klog.Background()); err != nil {
		t.Fatal(err)
	}
	return k
}

// hears waits for the signal, which may come as soon as the server was asked to
// prepare.
func (k *kubelet) hears(t *testing.T) {
	t.Helper()
	select {
	case active := <-k.events:
		if !active {
			t.Error("the signal says that the shutdown was called off")
		}
	case <-time.After(patience):
		t.Fatal("the signal did not come")
	}
}

func (k *kubelet) release(t *testing.T) {
	t.Helper()
	if err := k.ReleaseInhibitLock(k.lock); err != nil {
		t.Error(err)
	}
}

func prepare(t *testing.T, s *Server, timeout time.Duration) <-chan error {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		ctx, cancel := context.WithTimeout(t.Context(), timeout)
		defer cancel()
		done <- s.Prepare(ctx)
	}()
	return done
}

func TestAShutdownWaitsForKubelet(t *testing.T) {
	s, _ := startServer(t)
	k := startKubelet(t)
	prepared := prepare(t, s, patience)
	k.hears(t)
	select {
	case err := <-prepared:
		t.Fatalf("did not wait for the inhibitor: %v", err)
	default:
	}
	if _, err := k.InhibitShutdown(); err == nil || !strings.Contains(err.Error(), "going down") {
		t.Errorf("a late inhibitor: %v", err)
	}
	k.release(t)
	if err := <-prepared; err != nil {
		t.Error(err)
	}
	// Once more: nobody delays it any longer.
	if err := <-prepare(t, s, patience); err != nil {
		t.Error(err)
	}
}

func TestAnInhibitorThatIsKeptIsNamed(t *testing.T) {
	s, _ := startServer(t)
	k := startKubelet(t)
	err := <-prepare(t, s, 10*time.Millisecond)
	if err == nil || !strings.Contains(err.Error(), "kubelet is not done") {
		t.Errorf("error %v", err)
	}
	k.hears(t)
	k.release(t)
}

func TestAClientThatIsGoneDelaysNothing(t *testing.T) {
	s, _ := startServer(t)
	k := startKubelet(t)
	// What the kernel does when a process ends.
	k.release(t)
	k.Close()
	if err := <-prepare(t, s, patience); err != nil {
		t.Error(err)
	}
}

func TestNobodyDelaysTheShutdownOfANodeWithoutKubelet(t *testing.T) {
	s, _ := startServer(t)
	if err := s.Prepare(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestOtherCallsAreRefused(t *testing.T) {
	_, _ = startServer(t)
	bus, err := dbus.ConnectSystemBus()
	if err != nil {
		t.Fatal(err)
	}
	defer bus.Close()
	var owner string
	if err := bus.BusObject().Call(busName+".GetNameOwner", 0, loginName).Store(&owner); err != nil || owner != loginUnique {
		t.Errorf("logind is %q, %v", owner, err)
	}
	login := bus.Object(loginName, loginPath)
	for want, call := range map[string]*dbus.Call{
		"org.freedesktop.DBus.Error.UnknownMethod":   login.Call(loginManager+".PowerOff", 0, true),
		"org.freedesktop.DBus.Error.NotSupported":    login.Call(loginManager+".Inhibit", 0, "shutdown", "who", "why", "block"),
		"org.freedesktop.DBus.Error.NameHasNoOwner":  bus.BusObject().Call(busName+".GetNameOwner", 0, "org.freedesktop.systemd1"),
		"org.freedesktop.DBus.Error.UnknownProperty": login.Call(busName+".Properties.Get", 0, loginManager, "IdleHint"),
	} {
		var refused dbus.Error
		if !errors.As(call.Err, &refused) || refused.Name != want {
			t.Errorf("%s: %v, want %s", call.Method, call.Err, want)
		}
	}
	for i := range maxInhibitors + 1 {
		call := login.Call(loginManager+".Inhibit", 0, "shutdown:sleep", "who", "why", "delay")
		if (call.Err == nil) != (i < maxInhibitors) {
			t.Fatalf("inhibitor %d: %v", i, call.Err)
		}
	}
}

func TestTheSocketIsRootsAlone(t *testing.T) {
	_, socket := startServer(t)
	for path, want := range map[string]os.FileMode{socket: 0o600, filepath.Dir(socket): 0o700} {
		if info, err := os.Stat(path); err != nil || info.Mode().Perm() != want {
			t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
		}
	}
	// An earlier run's socket is in the way of nothing.
	again, err := Listen(socket)
	if err != nil {
		t.Fatal(err)
	}
	again.Close()
}

// Whatever a client sends, the server lives on and the client is cut off.
func TestNonsenseEndsOnlyItsConnection(t *testing.T) {
	_, socket := startServer(t)
	hello := "\x00AUTH EXTERNAL\r\nDATA\r\nNEGOTIATE_UNIX_FD\r\nBEGIN\r\n"
	large := []byte(hello + "l\x01\x00\x01")
	large = binary.LittleEndian.AppendUint32(large, 1<<30)
	for name, text := range map[string]string{
		"no zero first":        "AUTH EXTERNAL\r\n",
		"another user":         "\x00AUTH EXTERNAL 3939393939\r\nBEGIN\r\nBEGIN\r\n" + strings.Repeat("x\r\n", maxHandshake),
		"a line without end":   "\x00" + strings.Repeat("x", 1<<16),
		"a very large message": string(large) + strings.Repeat("\x00", 8),
		"no message at all":    hello + strings.Repeat("nonsense", 100),
		"zeros":                hello + strings.Repeat("\x00", 16),
		"a header of nothing":  hello + "l\x01\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff",
	} {
		conn, err := net.Dial("unix", socket)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = conn.Write([]byte(text)) // it may be cut off before the end
		var answer bytes.Buffer
		if _, err := answer.ReadFrom(conn); errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("%s: still connected", name)
		}
		conn.Close()
	}
	startKubelet(t)
}

func FuzzReadMessage(f *testing.F) {
	f.Add([]byte("l\x01\x00\x01\x00\x00\x00\x00\x01\x00\x00\x00\x08\x00\x00\x00\xff\xff\xff\xff\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, text []byte) {
		message, err := readMessage(bytes.NewReader(text))
		if err == nil && message == nil {
			t.Error("neither a message nor an error")
		}
	})
}
