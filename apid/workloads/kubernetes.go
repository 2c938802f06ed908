package workloads

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/proxy"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/transport"
	"k8s.io/streaming/pkg/httpstream"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
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
	if err := stream.SendHeader(metadata.MD{}); err != nil {
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
	toServer := proxy.NewUpgradeAwareHandler(&url.URL{Scheme: target.Scheme, Host: target.Host}, s.transport, false, false, tunnelErrors{})
	toServer.UseRequestLocation = true
	toServer.UseLocationHost = true
	return http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		dropCredentials(request.Header)
		if request.Method != http.MethodGet && request.Method != http.MethodHead || httpstream.IsUpgradeRequest(request) {
			// Not the query: a program's arguments may be secret.
			log.Info("Kubernetes asked", "name", s.config.Impersonate.UserName, "method", request.Method, "path", request.URL.Path)
		}
		if !httpstream.IsUpgradeRequest(request) {
			toServer.ServeHTTP(w, request)
			return
		}
		upgrade, err := s.upgradeTransport()
		if err != nil {
			tunnelErrors{}.Error(w, request, err)
			return
		}
		upgrading := *toServer
		upgrading.UpgradeTransport = upgrade
		upgrading.ServeHTTP(w, request)
	}), nil
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

// upgradeTransport makes connections that turn into streams, which HTTP/2 has
// no way for.
func (s *session) upgradeTransport() (proxy.UpgradeRequestRoundTripper, error) {
	config, err := s.config.TransportConfig()
	if err != nil {
		return nil, err
	}
	tls, err := transport.TLSConfigFor(config)
	if err != nil {
		return nil, err
	}
	tls.NextProtos = []string{"http/1.1"}
	wrapper, err := transport.HTTPWrappersForConfig(config, proxy.MirrorRequest)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: tunnelHeaderTimeout, KeepAlive: tunnelHeaderTimeout}
	return proxy.NewUpgradeRequestRoundTripper(&http.Transport{
		TLSClientConfig: tls, DialContext: dialer.DialContext, TLSHandshakeTimeout: tunnelHeaderTimeout,
	}, wrapper), nil
}

// tunnelErrors answers in Kubernetes' own form that Kubernetes does not answer.
type tunnelErrors struct{}

func (tunnelErrors) Error(w http.ResponseWriter, _ *http.Request, err error) {
	answer := apierrors.NewServiceUnavailable(statusMessage(unanswered(err))).Status()
	answer.TypeMeta = metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(int(answer.Code))
	_ = json.NewEncoder(w).Encode(answer) // the client is gone then
}

// unanswered makes a transport's error what client-go would make of it.
func unanswered(err error) error {
	return &url.Error{Op: "ask", URL: "Kubernetes", Err: err}
}
