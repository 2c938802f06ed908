package provision

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/keelson-os/keelson/pkg/provision/vnet"
)

// The control protocol is JSON over HTTP on a unix socket in the runtime folder:
// GET /status, POST /faults with a list of rules, DELETE /faults.

// controlTimeout bounds one request, controlBytes its body.
const (
	controlTimeout = 10 * time.Second
	controlBytes   = 1 << 20
)

// networkStatus is the answer to GET /status.
type networkStatus struct {
	Ports  []vnet.PortStatus `json:"ports"`
	Faults []vnet.FaultRule  `json:"faults"`
}

// serveControl answers control requests until ctx ends.
func serveControl(ctx context.Context, listener net.Listener, sw *vnet.Switch, faults *faults) error {
	server := &http.Server{
		Handler:      controlHandler(sw, faults),
		ReadTimeout:  controlTimeout,
		WriteTimeout: controlTimeout,
		IdleTimeout:  controlTimeout,
	}
	defer context.AfterFunc(ctx, func() { server.Close() })()
	if err := server.Serve(listener); ctx.Err() == nil {
		return fmt.Errorf("serve the control socket: %w", err)
	}
	return ctx.Err()
}

func controlHandler(sw *vnet.Switch, faults *faults) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /status", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// A client that is gone does not miss the rest.
		_ = json.NewEncoder(w).Encode(networkStatus{Ports: sw.Ports(), Faults: sw.Faults()})
	})
	mux.HandleFunc("POST /faults", func(w http.ResponseWriter, r *http.Request) {
		var rules []vnet.FaultRule
		err := json.NewDecoder(http.MaxBytesReader(w, r.Body, controlBytes)).Decode(&rules)
		if err == nil {
			err = faults.set(rules)
		}
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
		}
	})
	mux.HandleFunc("DELETE /faults", func(w http.ResponseWriter, _ *http.Request) {
		if err := faults.heal(); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	return mux
}

// controlClient talks to a cluster's network process.
type controlClient struct{ socket string }

func (c *Cluster) control() controlClient {
	return controlClient{filepath.Join(c.spec.RuntimeDir, controlSocketName)}
}

func (c controlClient) status(ctx context.Context) (networkStatus, error) {
	var s networkStatus
	return s, c.do(ctx, http.MethodGet, "/status", nil, &s)
}

func (c controlClient) setFaults(ctx context.Context, rules []vnet.FaultRule) error {
	return c.do(ctx, http.MethodPost, "/faults", rules, nil)
}

func (c controlClient) heal(ctx context.Context) error {
	return c.do(ctx, http.MethodDelete, "/faults", nil, nil)
}

func (c controlClient) do(ctx context.Context, method, path string, body, into any) error {
	ctx, cancel := context.WithTimeout(ctx, controlTimeout)
	defer cancel()
	if err := c.roundTrip(ctx, method, path, body, into); err != nil {
		return fmt.Errorf("ask the network process: %w", err)
	}
	return nil
}

func (c controlClient) roundTrip(ctx context.Context, method, path string, body, into any) error {
	encoded, err := json.Marshal(body)
	if err != nil {
		return err
	}
	request, err := http.NewRequestWithContext(ctx, method, "http://network"+path, bytes.NewReader(encoded))
	if err != nil {
		return err
	}
	transport := &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.socket)
		},
	}
	response, err := transport.RoundTrip(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, controlBytes))
	switch {
	case err != nil:
		return err
	case response.StatusCode != http.StatusOK:
		return errors.New(string(bytes.TrimSpace(answer)))
	case into == nil:
		return nil
	}
	return json.Unmarshal(answer, into)
}
