package kubetunnel

import (
	"bytes"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// pairedStream is one end of a call; what one end sends the other receives.
type pairedStream struct {
	in, out chan []byte
	gone    chan struct{} // closed when the other end is
}

func pair() (a, b pairedStream) {
	one, other := make(chan []byte), make(chan []byte)
	return pairedStream{in: one, out: other, gone: make(chan struct{})}, pairedStream{in: other, out: one, gone: make(chan struct{})}
}

func (s pairedStream) Send(data []byte) error {
	select {
	case s.out <- bytes.Clone(data):
		return nil
	case <-s.gone:
		return errors.New("the call is over")
	}
}

func (s pairedStream) Recv() ([]byte, error) {
	select {
	case data := <-s.in:
		return data, nil
	case <-s.gone:
		return nil, io.EOF
	}
}

// connected returns the two ends of a connection, each of which ends its call
// for the other as gRPC would.
func connected(t *testing.T) (near, far *Conn) {
	t.Helper()
	a, b := pair()
	near, far = New(a, nil), New(b, nil)
	go func() { <-near.Done(); close(b.gone) }()
	go func() { <-far.Done(); close(a.gone) }()
	deadline := time.Now().Add(20 * time.Second)
	for _, c := range []*Conn{near, far} {
		if err := c.SetDeadline(deadline); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
	}
	return near, far
}

func TestAllThatWasWrittenArrivesBeforeTheEnd(t *testing.T) {
	near, far := connected(t)
	sent := bytes.Repeat([]byte("0123456789"), 50_000)
	go func() {
		_, _ = near.Write(sent) // a failure shows in what arrives
		_ = near.Close()
	}()
	received, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(received, sent) {
		t.Errorf("%d of %d bytes arrived, then %v", len(received), len(sent), err)
	}
}

func TestBothDirectionsAtOnce(t *testing.T) {
	near, far := connected(t)
	go func() { _, _ = io.Copy(far, far) }()
	sent := bytes.Repeat([]byte("abc"), 100_000)
	go func() { _, _ = near.Write(sent) }()
	received := make([]byte, len(sent))
	if _, err := io.ReadFull(near, received); err != nil || !bytes.Equal(received, sent) {
		t.Errorf("the echo differs: %v", err)
	}
}

func TestTheEndOfOneSideIsTheOthers(t *testing.T) {
	near, far := connected(t)
	if err := near.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := far.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("reading at the other side: %v, want the end", err)
	}
	if _, err := far.Write([]byte("x")); err == nil {
		t.Error("writing to a side that is gone succeeded")
	}
	for _, c := range []*Conn{near, far} {
		select {
		case <-c.Done():
		case <-time.After(20 * time.Second):
			t.Fatal("a connection that was ended is not over")
		}
	}
}

func TestReadingHasADeadline(t *testing.T) {
	near, _ := connected(t)
	if err := near.SetReadDeadline(time.Now().Add(-time.Second)); err != nil {
		t.Fatal(err)
	}
	var late net.Error
	if _, err := near.Read(make([]byte, 1)); !errors.As(err, &late) || !late.Timeout() {
		t.Errorf("reading after the deadline: %v", err)
	}
}
