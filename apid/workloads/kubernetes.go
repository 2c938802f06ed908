package workloads

import (
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/kubetunnel"
)

// What one tunnelled connection may hold.
const (
	tunnelHeaderTimeout = 30 * time.Second
	tunnelIdleTimeout   = 2 * time.Minute
	tunnelMaxHeader     = 64 << 10
	// tunnelMaxChunk is bytes of one message. Clients of ours send 32 KiB.
	tunnelMaxChunk = 64 << 10
	// maxTunnels bounds the connections of all clients together; each takes about
	// 100 KiB of apid's 256 MiB.
	maxTunnels = 256
	// maxLoggedPath is how much of a request's path is logged, in bytes.
	maxLoggedPath = 256
)

// Kubernetes implements WorkloadService: an HTTP server that has one connection.
func (s *Server) Kubernetes(stream grpc.BidiStreamingServer[workloadpb.KubernetesRequest, workloadpb.KubernetesResponse]) error {
	ctx := stream.Context()
	session, err := s.session(ctx)
	if err != nil {
		return err
	}
	select {
	case s.tunnels <- struct{}{}:
		defer func() { <-s.tunnels }()
	default:
		return status.Errorf(codes.ResourceExhausted, "this node carries %d connections to Kubernetes, which is the most: end some, or ask another node (-N)", maxTunnels)
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
	if err == nil && len(request.GetData()) > tunnelMaxChunk {
		return nil, invalid("a message of %d bytes: send at most %d", len(request.GetData()), tunnelMaxChunk)
	}
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
		},
		ModifyResponse: func(response *http.Response) error {
			s.logChange(log, response)
			return nil
		},
		// Not the one that others share: HTTP/2 holds up to 4 MiB of an answer that
		// nobody reads, and has no way for requests that become streams.
		Transport:     s.streaming,
		FlushInterval: -1, // watches and logs
		ErrorHandler:  sayUnanswered,
		ErrorLog:      slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}, nil
}

// logChange keeps who changed something, or got into a container. Who was
// refused changed nothing, and is in Kubernetes' own audit log.
func (s *session) logChange(log *slog.Logger, response *http.Response) {
	request := response.Request
	reads := request.Method == http.MethodGet || request.Method == http.MethodHead
	if reads && response.StatusCode != http.StatusSwitchingProtocols || response.StatusCode >= http.StatusBadRequest {
		return
	}
	// Not the query: a program's arguments may be secret.
	path := request.URL.Path
	log.Info("Kubernetes asked", "name", s.config.Impersonate.UserName, "method", request.Method, "path", path[:min(len(path), maxLoggedPath)])
}

// dropCredentials removes what would make the API server, or client-go on the
// way to it, take the request for somebody else's.
func dropCredentials(header http.Header) {
	for name := range header {
		if lower := strings.ToLower(name); lower == "authorization" || strings.HasPrefix(lower, "impersonate-") || strings.HasPrefix(lower, "x-remote-") {
			delete(header, name)
		}
	}
	// A browser's way to present a token.
	protocols := header.Values("Sec-WebSocket-Protocol")
	for i := range protocols {
		kept := slices.DeleteFunc(strings.Split(protocols[i], ","), func(protocol string) bool {
			return strings.HasPrefix(strings.TrimSpace(protocol), bearerProtocol)
		})
		protocols[i] = strings.Join(kept, ",")
	}
}

// bearerProtocol begins a WebSocket's subprotocol that is a token (package
// websocket of the API server's authenticators).
const bearerProtocol = "base64url.bearer.authorization.k8s.io."

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
