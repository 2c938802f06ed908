package workloads

import (
	"fmt"
	"log/slog"
	"net/http"
	"os"
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
	resources, err := newResources(config, &http.Client{Transport: shared})
	if err != nil {
		return nil, err
	}
	return &cluster{config: config, transport: shared, resources: resources}, nil
}

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
	transport http.RoundTripper
	objects   dynamic.Interface
	raw       rest.Interface
	resources *resources
	lists     places
}

// as makes a session; it costs no request and no connection.
func (c *cluster) as(who rest.ImpersonationConfig) (*session, error) {
	config := rest.CopyConfig(c.config)
	config.Impersonate = who
	client := &http.Client{Transport: transport.NewImpersonatingRoundTripper(transport.ImpersonationConfig(who), c.transport)}
	objects, err := dynamic.NewForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", who.UserName, err)
	}
	raw, err := rest.UnversionedRESTClientForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("make a client for %s: %w", who.UserName, err)
	}
	return &session{config: config, transport: client.Transport, objects: objects, raw: raw, resources: c.resources}, nil
}
