package workloads

import (
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/transport"
)

// connector opens the connection to the API server when it is first needed,
// and again when the kubeconfig file has changed.
type connector struct {
	kubeconfig string
	log        *slog.Logger

	mu       sync.Mutex
	modified time.Time
	current  *cluster
}

func (c *connector) cluster() (*cluster, error) {
	if c.kubeconfig == "" {
		return nil, status.Error(codes.FailedPrecondition, "this node is a worker, which does not reach Kubernetes for others: ask a control-plane node")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	info, err := os.Stat(c.kubeconfig)
	if err != nil {
		return nil, status.Error(codes.Unavailable,
			"Kubernetes is not set up on this node yet: bootstrap the cluster (osctl bootstrap), or wait until it has started (osctl health --wait)")
	}
	if c.current != nil && info.ModTime().Equal(c.modified) {
		return c.current, nil
	}
	fresh, err := open(c.kubeconfig)
	if err != nil {
		c.log.Error("kubeconfig is not usable", "file", c.kubeconfig, "reason", err)
		return nil, status.Errorf(codes.Unavailable, "apid cannot reach Kubernetes: %v", err)
	}
	c.current, c.modified = fresh, info.ModTime()
	return fresh, nil
}

// cluster is one connection to the API server, which all callers share.
type cluster struct {
	config    *rest.Config
	transport http.RoundTripper
	// streaming is for answers that may be read slowly.
	streaming http.RoundTripper
	resources *resources
}

func open(kubeconfig string) (*cluster, error) {
	content, err := os.ReadFile(kubeconfig)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig: %w", err)
	}
	config, err := clientcmd.RESTConfigFromKubeConfig(content)
	if err != nil {
		return nil, fmt.Errorf("read the kubeconfig %s: %w", kubeconfig, err)
	}
	config.UserAgent = "keelson-apid"
	// The API server has its own priority and fairness; a second limit here
	// would only delay.
	config.QPS = -1
	// The API server is on this node: compressing costs more than it saves.
	config.DisableCompression = true
	config.WarningHandler = rest.NoWarnings{}
	config.NegotiatedSerializer = codecs()
	shared, err := rest.TransportFor(config)
	if err != nil {
		return nil, fmt.Errorf("set up TLS to the API server: %w", err)
	}
	streaming, err := streamingTransport(config)
	if err != nil {
		return nil, fmt.Errorf("set up TLS to the API server: %w", err)
	}
	resources, err := newResources(config, &http.Client{Transport: shared})
	if err != nil {
		return nil, err
	}
	return &cluster{config: config, transport: shared, streaming: streaming, resources: resources}, nil
}

// streamingTransport makes connections of HTTP/1.1, which hold some KiB of an
// answer that nobody reads. HTTP/2, which the other requests share, holds up to
// 4 MiB of each, and has no way for requests that become streams (exec, port
// forwarding).
func streamingTransport(config *rest.Config) (http.RoundTripper, error) {
	settings, err := config.TransportConfig()
	if err != nil {
		return nil, err
	}
	tls, err := transport.TLSConfigFor(settings)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: connectTimeout, KeepAlive: connectTimeout}
	return transport.HTTPWrappersForConfig(settings, &http.Transport{
		TLSClientConfig: tls, DialContext: dialer.DialContext, TLSHandshakeTimeout: connectTimeout,
		MaxIdleConnsPerHost: maxIdleStreams, IdleConnTimeout: idleStream, DisableCompression: true,
	})
}

const (
	// connectTimeout bounds connecting to the API server, which is on this node.
	connectTimeout = 30 * time.Second
	// Connections that nobody uses are kept for the next request so many and so
	// long.
	maxIdleStreams, idleStream = 8, time.Minute
)

// codecs decode what apid itself reads of the API server's answers: its errors.
func codecs() runtime.NegotiatedSerializer {
	scheme := runtime.NewScheme()
	metav1.AddToGroupVersion(scheme, schema.GroupVersion{Version: "v1"})
	return serializer.NewCodecFactory(scheme).WithoutConversion()
}

// session is the cluster as one user.
type session struct {
	// config carries the impersonation too, for executors that make connections
	// of their own.
	config    *rest.Config
	streaming http.RoundTripper
	objects   dynamic.Interface
	raw       rest.Interface
	// streams is raw for answers that may be read slowly.
	streams   rest.Interface
	resources *resources
	lists     places
	warnings  *warnings
}

// warnings are what the API server warned of since they were last taken.
type warnings struct {
	mu    sync.Mutex
	texts []string
}

// maxWarnings is how many are kept: one request has few.
const maxWarnings = 20

// HandleWarningHeader implements rest.WarningHandler. 299 is the code of
// warnings that are meant for people.
func (w *warnings) HandleWarningHeader(code int, _, text string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if code == 299 && text != "" && len(w.texts) < maxWarnings && !slices.Contains(w.texts, text) {
		w.texts = append(w.texts, text)
	}
}

func (w *warnings) take() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	taken := w.texts
	w.texts = nil
	return taken
}

// as makes a session; it costs no request and no connection.
func (c *cluster) as(who rest.ImpersonationConfig) (*session, error) {
	config := rest.CopyConfig(c.config)
	config.Impersonate = who
	warned := &warnings{}
	config.WarningHandler = warned
	as := func(base http.RoundTripper) *http.Client {
		return &http.Client{Transport: transport.NewImpersonatingRoundTripper(transport.ImpersonationConfig(who), base)}
	}
	client, streaming := as(c.transport), as(c.streaming)
	objects, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", who.UserName, err)
	}
	raw, err := rest.UnversionedRESTClientForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", who.UserName, err)
	}
	streams, err := rest.UnversionedRESTClientForConfigAndClient(config, streaming)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", who.UserName, err)
	}
	return &session{
		config: config, streaming: streaming.Transport, objects: objects, raw: raw, streams: streams, resources: c.resources, warnings: warned,
	}, nil
}
