package main

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/disk"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/keelson-os/keelson/pkg/kubetunnel"
)

const (
	// discoveryTTL is how long is believed what kinds there are; one that is
	// missing is looked for again at once. It is kubectl's.
	discoveryTTL = 6 * time.Hour
	// dialTimeout bounds opening a connection to Kubernetes through the node.
	dialTimeout = 30 * time.Second
	// firstTimeout is how long the first connection, which tells whether there is
	// a way at all, is kept for the first request. The node ends it after 30 s.
	firstTimeout = 10 * time.Second
)

// kubernetes is the Kubernetes API through the node's, for client-go and for
// commands of kubectl. It connects when it is first used.
type kubernetes struct {
	app       *app
	namespace string
	// ctx is the command's: it ends what is under way. There is none while names are
	// completed.
	ctx context.Context

	mu      sync.Mutex
	gateway *kubetunnel.Gateway
	end     context.CancelFunc
	// failing is told the message of a command that has failed, before the user is.
	failing func(message string)

	// lost is why Kubernetes could not be reached at all.
	lost error
}

// connect opens the way, and tries it: an error is the node's own.
func (k *kubernetes) connect() (*kubetunnel.Gateway, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gateway != nil || k.lost != nil {
		return k.gateway, k.lost
	}
	ctx, end := k.begin()
	gateway, err := k.open(ctx)
	if err != nil {
		end()
		k.lost = err
		return nil, err
	}
	k.gateway, k.end = gateway, end
	return gateway, nil
}

// begin is what all connections live in.
func (k *kubernetes) begin() (context.Context, context.CancelFunc) {
	if k.ctx == nil { // no command runs: a Tab key is pressed
		silenceClientGo()
		return context.WithTimeout(context.Background(), completionDeadline)
	}
	return context.WithCancel(k.ctx)
}

func (k *kubernetes) open(ctx context.Context) (*kubetunnel.Gateway, error) {
	node, err := k.app.connect(ctx)
	if err != nil {
		return nil, err
	}
	dial := func(ctx context.Context) (net.Conn, error) {
		ctx, cancel := context.WithTimeout(ctx, dialTimeout)
		defer cancel()
		return node.DialKubernetes(ctx)
	}
	first, err := dial(ctx)
	if err != nil {
		return nil, err
	}
	waiting := make(chan net.Conn, 1)
	waiting <- first
	// A connection on which nothing is asked ends at the other side.
	time.AfterFunc(firstTimeout, func() {
		select {
		case conn := <-waiting:
			_ = conn.Close()
		default:
		}
	})
	return kubetunnel.Listen(func(ctx context.Context) (net.Conn, error) {
		select {
		case conn := <-waiting:
			return conn, nil
		default:
			return dial(ctx)
		}
	})
}

// lostError is why Kubernetes could not be reached; nil if it could.
func (k *kubernetes) lostError() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lost
}

// close ends the way and whatever goes on on it.
func (k *kubernetes) close() {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.gateway != nil {
		_ = k.gateway.Close()
		k.end()
		k.gateway = nil
	}
}

// ToRESTConfig implements genericclioptions.RESTClientGetter, as do the next.
func (k *kubernetes) ToRESTConfig() (*rest.Config, error) {
	gateway, err := k.connect()
	if err != nil {
		return nil, err
	}
	return gateway.Config(), nil
}

// ToDiscoveryClient remembers what kinds there are in the user's cache folder.
func (k *kubernetes) ToDiscoveryClient() (discovery.CachedDiscoveryInterface, error) {
	config, err := k.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	if dir := k.cacheDir(); dir != "" {
		return disk.NewCachedDiscoveryClientForConfig(config, filepath.Join(dir, "discovery"), filepath.Join(dir, "http"), discoveryTTL)
	}
	client, err := discovery.NewDiscoveryClientForConfig(config)
	if err != nil {
		return nil, err
	}
	return memory.NewMemCacheClient(client), nil
}

// cacheDir is one folder for each context: a cluster that was made anew under
// the same name has another CA. Empty means that nothing is kept.
func (k *kubernetes) cacheDir() string {
	base, err := os.UserCacheDir()
	if err != nil {
		return ""
	}
	access, name, err := k.app.currentContext()
	if err != nil {
		return ""
	}
	sum := sha256.Sum256([]byte(name + "\n" + access.CA))
	return filepath.Join(base, "osctl", hex.EncodeToString(sum[:8]))
}

// ToRESTMapper finds resources by any of their names.
func (k *kubernetes) ToRESTMapper() (meta.RESTMapper, error) {
	client, err := k.ToDiscoveryClient()
	if err != nil {
		return nil, err
	}
	mapper := restmapper.NewDeferredDiscoveryRESTMapper(client)
	return restmapper.NewShortcutExpander(mapper, client, nil), nil
}

// ToRawKubeConfigLoader tells the namespace; there is no kubeconfig.
func (k *kubernetes) ToRawKubeConfigLoader() clientcmd.ClientConfig {
	overrides := &clientcmd.ConfigOverrides{Context: clientcmdapi.Context{Namespace: k.namespace}}
	return loader{clientcmd.NewDefaultClientConfig(*clientcmdapi.NewConfig(), overrides).(rawConfig), k}
}

// loader answers for what there is no kubeconfig of.
type loader struct {
	rawConfig
	kubernetes *kubernetes
}

// rawConfig is clientcmd.ClientConfig but for what loader answers itself.
type rawConfig interface {
	RawConfig() (clientcmdapi.Config, error)
	ConfigAccess() clientcmd.ConfigAccess
}

func (l loader) ClientConfig() (*rest.Config, error) { return l.kubernetes.ToRESTConfig() }

// Namespace tells also whether the user chose it.
func (l loader) Namespace() (string, bool, error) {
	if l.kubernetes.namespace == "" {
		return "default", false, nil
	}
	return l.kubernetes.namespace, true, nil
}
