package kubetunnel

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"time"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Dial opens a connection to the Kubernetes API through a tunnel.
type Dial func(context.Context) (net.Conn, error)

// Limits of the gateway. Connections through the tunnel are calls of one gRPC
// connection, of which a node takes 100.
const (
	maxTunnels    = 64
	headerTimeout = 30 * time.Second
	idleTimeout   = 90 * time.Second
)

// Gateway is an HTTP server on this host's loopback that passes requests
// through the tunnel. Executors of client-go dial their streams (exec, port
// forwarding) themselves, so that a dial function alone does not carry them.
// Requests must bear a token that only this process knows: other users of the
// host can reach the port and are refused.
type Gateway struct {
	server   *http.Server
	listener net.Listener
	token    string
}

// Listen starts a gateway on a free port. Close ends it.
func Listen(dial Dial) (*Gateway, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("open a port on the loopback for Kubernetes' API: %w", err)
	}
	g := &Gateway{listener: listener, token: rand.Text()}
	quiet := log.New(io.Discard, "", 0) // what goes wrong is in the answers
	proxy := &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.SetURL(&url.URL{Scheme: "http", Host: "kubernetes"})
			r.Out.Header.Del("Authorization")
		},
		Transport: &http.Transport{
			DialContext:         func(ctx context.Context, _, _ string) (net.Conn, error) { return dial(ctx) },
			MaxConnsPerHost:     maxTunnels,
			MaxIdleConnsPerHost: maxTunnels,
			IdleConnTimeout:     idleTimeout,
			DisableCompression:  true, // passed on as it comes
		},
		FlushInterval: -1, // watches and logs
		ErrorHandler:  refuse,
		ErrorLog:      quiet,
	}
	g.server = &http.Server{Handler: g.onlyUs(proxy), ReadHeaderTimeout: headerTimeout, ErrorLog: quiet}
	go func() { _ = g.server.Serve(listener) }() // until Close
	return g, nil
}

// Config returns how clients reach Kubernetes through the gateway. It holds
// the token, and is for this process alone.
func (g *Gateway) Config() *rest.Config {
	return &rest.Config{
		Host:        "http://" + g.listener.Addr().String(),
		BearerToken: g.token,
		// The way is loopback and then gRPC; a proxy of the environment is neither's.
		Proxy: func(*http.Request) (*url.URL, error) { return nil, nil },
		// The API server has its own priority and fairness.
		QPS: -1,
	}
}

// Close ends the gateway and every request on it.
func (g *Gateway) Close() error { return g.server.Close() }

// onlyUs refuses requests of other processes.
func (g *Gateway) onlyUs(next http.Handler) http.Handler {
	wanted := []byte("Bearer " + g.token)
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if subtle.ConstantTimeCompare([]byte(request.Header.Get("Authorization")), wanted) != 1 {
			http.Error(w, "this port is another program's", http.StatusUnauthorized)
			return
		}
		next.ServeHTTP(w, request)
	})
}

// refuse says in Kubernetes' own form why a request could not be passed on.
func refuse(w http.ResponseWriter, _ *http.Request, err error) {
	answer := apierrors.NewServiceUnavailable(err.Error()).Status()
	answer.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(answer.Code))
	_ = json.NewEncoder(w).Encode(answer) // the client is gone then
}
