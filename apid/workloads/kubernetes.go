package workloads

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"k8s.io/streaming/pkg/httpstream"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/kubetunnel"
)

// What one tunnelled connection may hold.
const (
	tunnelHeaderTimeout = 30 * time.Second
	tunnelIdleTimeout   = 2 * time.Minute
	tunnelMaxHeader     = 64 << 10
)

// Kubernetes implements WorkloadService: an HTTP server that has one connection.
func (s *Server) Kubernetes(stream grpc.BidiStreamingServer[workloadpb.KubernetesRequest, workloadpb.KubernetesResponse]) error {
	ctx := stream.Context()
	session, err := s.session(ctx)
	if err != nil {
		return err
	}
	handler, err := session.proxy(s.kube.log)
	if err != nil {
		return statusOf(err)
	}
	if err := stream.SendHeader(metadata.Pairs(identity.MetadataConnected, "true")); err != nil {
		return err
	}
	conn := kubetunnel.New(serverStream{stream}, kubernetesAddress{})
	defer conn.Close()
	server := &http.Server{
		Handler:           handler,
		ReadHeaderTimeout: tunnelHeaderTimeout,
		IdleTimeout:       tunnelIdleTimeout,
		MaxHeaderBytes:    tunnelMaxHeader,
		ErrorLog:          slog.NewLogLogger(s.kube.log.Handler(), slog.LevelDebug),
		BaseContext:       func(net.Listener) context.Context { return ctx },
	}
	go func() { _ = server.Serve(&single{conn: conn}) }() // ends with the connection
	select {
	case <-conn.Done():
	case <-ctx.Done():
	}
	// A watch's handler ends when its request's context does.
	_ = server.Close()
	return statusOf(ctx.Err())
}

type serverStream struct {
	grpc.BidiStreamingServer[workloadpb.KubernetesRequest, workloadpb.KubernetesResponse]
}

func (s serverStream) Send(data []byte) error {
	return s.BidiStreamingServer.Send(&workloadpb.KubernetesResponse{Data: data})
}

func (s serverStream) Recv() ([]byte, error) {
	request, err := s.BidiStreamingServer.Recv()
	return request.GetData(), err
}

// kubernetesAddress is the remote address of a tunnelled connection.
type kubernetesAddress struct{}

func (kubernetesAddress) Network() string { return "grpc" }
func (kubernetesAddress) String() string  { return "client" }

// single is a listener that accepts one connection and then waits until that
// has ended.
type single struct {
	conn  *kubetunnel.Conn
	taken bool
}

func (l *single) Accept() (net.Conn, error) {
	if !l.taken {
		l.taken = true
		return l.conn, nil
	}
	<-l.conn.Done()
	return nil, net.ErrClosed
}

func (l *single) Close() error   { return nil }
func (l *single) Addr() net.Addr { return kubernetesAddress{} }

// proxy passes requests on to the API server as the session's user.
func (s *session) proxy(log *slog.Logger) (http.Handler, error) {
	target, _, err := rest.DefaultServerUrlFor(s.config)
	if err != nil {
		return nil, err
	}
	return &httputil.ReverseProxy{
		Rewrite: func(r *httputil.ProxyRequest) {
			r.Out.URL.Scheme, r.Out.URL.Host, r.Out.Host = target.Scheme, target.Host, ""
			dropCredentials(r.Out.Header)
			if r.In.Method != http.MethodGet && r.In.Method != http.MethodHead || httpstream.IsUpgradeRequest(r.In) {
				// Not the query: a program's arguments may be secret.
				log.Info("Kubernetes asked", "name", s.config.Impersonate.UserName, "method", r.In.Method, "path", r.In.URL.Path)
			}
		},
		Transport:     roundTripper(s.roundTrip),
		FlushInterval: -1, // watches and logs
		ErrorHandler:  sayUnanswered,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}, nil
}

type roundTripper func(*http.Request) (*http.Response, error)

func (r roundTripper) RoundTrip(request *http.Request) (*http.Response, error) { return r(request) }

// roundTrip makes a connection of its own for a request that is to become a
// stream (exec, port forwarding): HTTP/2, which the others share, has no way for
// that.
func (s *session) roundTrip(request *http.Request) (*http.Response, error) {
	if !httpstream.IsUpgradeRequest(request) {
		return s.transport.RoundTrip(request)
	}
	config, err := s.config.TransportConfig()
	if err != nil {
		return nil, err
	}
	tls, err := transport.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: tunnelHeaderTimeout, KeepAlive: tunnelHeaderTimeout}
	own := &http.Transport{
		TLSClientConfig: tls, DialContext: dialer.DialContext, TLSHandshakeTimeout: tunnelHeaderTimeout,
		ForceAttemptHTTP2: false, DisableKeepAlives: true,
	}
	wrapped, err := transport.HTTPWrappersForConfig(config, own)
	if err != nil {
		return nil, err
	}
	return wrapped.RoundTrip(request)
}

// dropCredentials removes what would make the API server, or client-go on the
// way to it, take the request for somebody else's.
func dropCredentials(header http.Header) {
	for name := range header {
		if lower := strings.ToLower(name); lower == "authorization" || strings.HasPrefix(lower, "impersonate-") || strings.HasPrefix(lower, "x-remote-") {
			delete(header, name)
		}
	}
}

// sayUnanswered tells in Kubernetes' own form that Kubernetes does not answer.
func sayUnanswered(w http.ResponseWriter, _ *http.Request, err error) {
	// As client-go would put it.
	err = &url.Error{Op: "ask", URL: "Kubernetes", Err: err}
	answer := apierrors.NewServiceUnavailable(statusMessage(err)).Status()
	answer.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(answer.Code))
	_ = json.NewEncoder(w).Encode(answer) // the client is gone then
}
