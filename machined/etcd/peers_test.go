package etcd

import (
	"context"
	"errors"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/machined/etcd/reach"
)

func TestOthersAreAllButThisNode(t *testing.T) {
	for what, c := range map[string]struct{ peers, want []string }{
		"addresses": {
			[]string{"10.0.0.5", "10.0.0.6", "fd00::7"},
			[]string{"https://10.0.0.6:2379", "https://[fd00::7]:2379"},
		},
		"names":         {[]string{"Node-1", "cp-2.example.com"}, []string{"https://cp-2.example.com:2379"}},
		"given twice":   {[]string{"10.0.0.6", "10.0.0.6:2379"}, []string{"https://10.0.0.6:2379"}},
		"another port":  {[]string{"10.0.0.5:4001", "10.0.0.5:2379"}, []string{"https://10.0.0.5:4001"}},
		"nobody at all": {nil, nil},
	} {
		o := Options{Hostname: "node-1", NodeIP: netip.MustParseAddr("10.0.0.5"), Peers: func() []string { return c.peers }}
		if got := o.withDefaults().others(); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", what, got, c.want)
		}
	}
}

func TestWhatOthersSay(t *testing.T) {
	ready := report{peer: "a", ready: true, listens: true}
	off := report{peer: "b", said: "connection refused"}
	stuck := report{peer: "c", listens: true, said: "its etcd is not ready: linearizable_read failed"}
	foreign := report{peer: "d", listens: true, said: reach.Foreign}
	for _, c := range []struct {
		reports     []report
		join, start string // why this cannot be done; empty if it can
	}{
		{nil, "run osctl bootstrap on one control-plane node", ""},
		{[]report{off}, "no etcd to join: b: connection refused; run osctl bootstrap on one control-plane node if the cluster is new", ""},
		{[]report{off, ready}, "", "a serves the cluster already"},
		{[]report{off, stuck}, "b: connection refused; c: its etcd is not ready", "c runs etcd already (its etcd is not ready"},
		{[]report{foreign}, "d: answers with a certificate of another cluster", "d answers with a certificate of another cluster"},
	} {
		if can, why := canJoin(c.reports); can != (c.join == "") || why != nil && !strings.Contains(why.Error(), c.join) {
			t.Errorf("join %v: %t, %v; want %q", c.reports, can, why, c.join)
		}
		if err := refuseNew(c.reports); (err == nil) != (c.start == "") || err != nil && !strings.Contains(err.Error(), c.start) {
			t.Errorf("start beside %v: %v, want %q", c.reports, err, c.start)
		}
	}
}

// The gate tells whom it asked, and opens when one of them has a quorum.
func TestGateOpensForAClusterThatCanBeJoined(t *testing.T) {
	answer := make(chan int, 1)
	answer <- http.StatusServiceUnavailable
	status := http.StatusOK
	peer := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		select {
		case now := <-answer:
			w.WriteHeader(now)
			_, _ = w.Write([]byte("[+]serializable_read ok\n[-]linearizable_read failed: no leader\n"))
		default:
			w.WriteHeader(status)
		}
	}))
	s := newService(t)
	files, err := certificates(s.options)
	if err != nil {
		t.Fatal(err)
	}
	peer.TLS = serverTLS(t, files)
	peer.StartTLS()
	defer peer.Close()
	address := strings.TrimPrefix(peer.URL, "https://")
	s.options.Peers = func() []string { return []string{address} }

	if got := s.askOthers(t.Context()); len(got) != 1 || got[0].ready || !got[0].listens ||
		got[0].said != "its etcd is not ready: linearizable_read failed: no leader" {
		t.Errorf("one without a quorum: %+v", got)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := s.gate(ctx); err != nil {
		t.Errorf("the gate answered %v", err)
	}
	if waits := s.Waiting(); waits != "" {
		t.Errorf("it still waits: %s", waits)
	}
	if err := s.Bootstrap(ctx); err == nil || errors.Is(err, ErrFormed) || !strings.Contains(err.Error(), address) {
		t.Errorf("a bootstrap beside it: %v", err)
	}
}
