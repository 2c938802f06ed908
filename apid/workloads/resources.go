package workloads

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"regexp"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/discovery/cached/memory"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/restmapper"
	"k8s.io/klog/v2"

	"github.com/keelson-os/keelson/pkg/nearest"
)

const (
	// discoveryTimeout bounds asking the API server what resources it has.
	discoveryTimeout = 20 * time.Second
	// minRefresh is how often unknown names may cause such a question.
	minRefresh = 2 * time.Second
)

// resourceName is what a resource can be called: a word, and its API group.
var resourceName = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*(\.[A-Za-z0-9-]+)*\.?$`)

// resources knows what the cluster can hold, by every name that it may be
// called. The knowledge is fetched once, and again when a name is unknown.
type resources struct {
	cache  discovery.CachedDiscoveryInterfaceWithContext
	mapper meta.ResettableRESTMapperWithContext
	names  meta.RESTMapperWithContext

	mu        sync.Mutex
	refreshed time.Time
}

func newResources(config *rest.Config, client *http.Client) (*resources, error) {
	asked, err := discovery.NewDiscoveryClientForConfigAndClient(config, client)
	if err != nil {
		return nil, fmt.Errorf("make a discovery client: %w", err)
	}
	cache := memory.NewMemCacheClientWithContext(asked)
	mapper := restmapper.NewDeferredDiscoveryRESTMapperWithContext(cache)
	return &resources{cache: cache, mapper: mapper, names: restmapper.NewShortcutExpanderWithContext(mapper, cache, nil)}, nil
}

// named finds a resource by any form of its name: "pods", "po", "Pod",
// "deployments.apps", "deployments.v1.apps".
func (r *resources) named(ctx context.Context, name string) (*meta.RESTMapping, error) {
	if name == "" {
		return nil, invalid("the resource is missing, for example pods")
	}
	if strings.Contains(name, ",") {
		return nil, invalid("%q names several resources: ask for each by itself", name)
	}
	if !resourceName.MatchString(name) {
		return nil, invalid("%q is no name of a resource", name)
	}
	mapping, err := r.lookup(ctx, func(ctx context.Context) (*meta.RESTMapping, error) { return r.byName(ctx, name) })
	if !meta.IsNoMatchError(err) {
		return mapping, err
	}
	if near := nearest.Names(strings.ToLower(name), r.known(ctx)); len(near) > 0 {
		return nil, status.Errorf(codes.NotFound, "the cluster has no resource %q; is it one of: %s", name, strings.Join(near, ", "))
	}
	return nil, status.Errorf(codes.NotFound, "the cluster has no resource %q", name)
}

// ofKind finds the resource of an object. The error is a NoMatch of package
// meta when there is none.
func (r *resources) ofKind(ctx context.Context, kind schema.GroupVersionKind) (*meta.RESTMapping, error) {
	return r.lookup(ctx, func(ctx context.Context) (*meta.RESTMapping, error) {
		return r.mapper.RESTMappingWithContext(ctx, kind.GroupKind(), kind.Version)
	})
}

// lookup tries again with fresh knowledge when find has no match. (The mapper
// does so by itself only before the cache was first filled.)
func (r *resources) lookup(ctx context.Context, find func(context.Context) (*meta.RESTMapping, error)) (*meta.RESTMapping, error) {
	ctx, cancel := discoveryContext(ctx)
	defer cancel()
	mapping, err := find(ctx)
	if meta.IsNoMatchError(err) && r.refresh(ctx, minRefresh) {
		mapping, err = find(ctx)
	}
	if apierrors.IsForbidden(err) {
		// Everybody who is authenticated may ask this.
		return nil, status.Error(codes.Unavailable, "Kubernetes is still starting: it has not set up its own access rules yet; try again in a few seconds")
	}
	if err != nil && !meta.IsNoMatchError(err) {
		return nil, statusOf(err)
	}
	return mapping, err
}

// discoveryContext outlives the caller: all callers share the answer, and one
// that gives up must not spoil it. client-go logs nothing under it; the errors
// are returned as well.
func discoveryContext(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx = klog.NewContext(context.WithoutCancel(ctx), klog.Logger{})
	return context.WithTimeout(ctx, discoveryTimeout)
}

// refresh forgets what is known, unless that is younger than age.
func (r *resources) refresh(ctx context.Context, age time.Duration) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if time.Since(r.refreshed) < age {
		return false
	}
	r.mapper.ResetWithContext(ctx)
	r.refreshed = time.Now()
	return true
}

func (r *resources) byName(ctx context.Context, name string) (*meta.RESTMapping, error) {
	full, resource := schema.ParseResourceArg(name)
	if full != nil {
		if kind, err := r.names.KindForWithContext(ctx, *full); err == nil {
			return r.mapper.RESTMappingWithContext(ctx, kind.GroupKind(), kind.Version)
		}
	}
	kind, err := r.names.KindForWithContext(ctx, resource.WithVersion(""))
	if err == nil {
		return r.mapper.RESTMappingWithContext(ctx, kind.GroupKind(), kind.Version)
	}
	if !meta.IsNoMatchError(err) {
		return nil, err
	}
	// Not a resource's name; kinds are names too, but with a capital.
	return r.mapper.RESTMappingWithContext(ctx, schema.ParseGroupKind(name))
}

// nearKinds are the kinds that are likely meant by a mistyped one, each with the
// version it has.
func (r *resources) nearKinds(ctx context.Context, typed string) []string {
	ctx, cancel := discoveryContext(ctx)
	defer cancel()
	lists, _ := r.cache.ServerPreferredResourcesWithContext(ctx)
	versions := map[string]string{}
	for _, list := range lists {
		for _, resource := range list.APIResources {
			versions[resource.Kind] = list.GroupVersion
		}
	}
	near := nearest.Names(typed, slices.Collect(maps.Keys(versions)))
	if _, exact := versions[typed]; exact {
		near = []string{typed} // of another version
	}
	for i, kind := range near {
		near[i] = fmt.Sprintf("%s (%s)", kind, versions[kind])
	}
	return near
}

// known lists every plain name a resource is known by.
func (r *resources) known(ctx context.Context) []string {
	ctx, cancel := discoveryContext(ctx)
	defer cancel()
	// A group that does not answer hides its own resources only.
	lists, _ := r.cache.ServerPreferredResourcesWithContext(ctx)
	return nearest.ResourceNames(lists)
}
