package workloads

import (
	"context"
	"encoding/json"
	"maps"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

const actionPruned = "pruned"

// prunedKinds are looked through in every namespace that was applied to, besides
// the kinds that were applied: the last object of a kind may be what is to go.
// They are those of kubectl's apply --prune.
var prunedKinds = []schema.GroupVersionKind{
	{Version: "v1", Kind: "ConfigMap"},
	{Version: "v1", Kind: "PersistentVolumeClaim"},
	{Version: "v1", Kind: "Pod"},
	{Version: "v1", Kind: "ReplicationController"},
	{Version: "v1", Kind: "Secret"},
	{Version: "v1", Kind: "Service"},
	{Group: "apps", Version: "v1", Kind: "DaemonSet"},
	{Group: "apps", Version: "v1", Kind: "Deployment"},
	{Group: "apps", Version: "v1", Kind: "ReplicaSet"},
	{Group: "apps", Version: "v1", Kind: "StatefulSet"},
	{Group: "batch", Version: "v1", Kind: "CronJob"},
	{Group: "batch", Version: "v1", Kind: "Job"},
	{Group: "networking.k8s.io", Version: "v1", Kind: "Ingress"},
}

// applied is what a call has applied, for pruning.
type applied struct {
	uids       map[types.UID]bool
	kinds      map[schema.GroupVersionKind]bool
	namespaces map[string]bool
	failed     bool
}

func newApplied() *applied {
	return &applied{
		uids: make(map[types.UID]bool), kinds: make(map[schema.GroupVersionKind]bool), namespaces: make(map[string]bool),
	}
}

func (a *applied) add(object *unstructured.Unstructured) {
	a.uids[object.GetUID()] = true
	a.kinds[object.GroupVersionKind()] = true
	if namespace := object.GetNamespace(); namespace != "" {
		a.namespaces[namespace] = true
	}
}

// checkPrune refuses to prune what nothing delimits.
func checkPrune(request *workloadpb.ApplyRequest) error {
	if !request.GetPrune() {
		return nil
	}
	selector, err := labels.Parse(request.GetPruneSelector())
	if err != nil {
		return invalid("prune_selector: %v", err)
	}
	if selector.Empty() {
		return invalid("prune deletes what is not in the manifests: say by labels (prune_selector, osctl apply -l) what belongs to them")
	}
	return nil
}

// prune deletes what this field manager applied in earlier calls and this one
// did not, and sends a result for each. All of it is found before any goes.
func (a *apply) prune(ctx context.Context, selector string, send func(*workloadpb.ObjectResult) error) error {
	wanted := maps.Clone(a.done.kinds)
	for _, kind := range prunedKinds {
		wanted[kind] = true
	}
	var stale []staleObject
	for _, kind := range slices.SortedFunc(maps.Keys(wanted), func(a, b schema.GroupVersionKind) int {
		return strings.Compare(a.String(), b.String())
	}) {
		mapping, err := a.resources.ofKind(ctx, kind)
		if meta.IsNoMatchError(err) {
			continue
		}
		if err != nil {
			return err
		}
		places := slices.Sorted(maps.Keys(a.done.namespaces))
		if mapping.Scope.Name() == meta.RESTScopeNameRoot {
			places = []string{metav1.NamespaceAll}
		}
		for _, namespace := range places {
			found, err := a.staleIn(ctx, mapping, namespace, selector)
			if err != nil {
				return err
			}
			stale = append(stale, found...)
		}
	}
	for _, each := range stale {
		if err := send(a.pruneOne(ctx, each)); err != nil {
			return err
		}
	}
	return nil
}

// staleObject is what is to be pruned.
type staleObject struct {
	mapping         *meta.RESTMapping
	namespace, name string
	uid             types.UID
}

// staleIn finds them among the objects of one kind. Only their metadata is read.
func (a *apply) staleIn(ctx context.Context, mapping *meta.RESTMapping, namespace, selector string) ([]staleObject, error) {
	q := &query{session: a.session, mapping: mapping, accept: asMetadata, selection: &workloadpb.Selection{
		Namespace: namespace, LabelSelector: selector,
	}}
	var stale []staleObject
	err := q.eachPage(ctx, q.list, func(_ []byte, p page) error {
		for _, item := range p.items {
			var object metav1.PartialObjectMetadata
			if err := json.Unmarshal(item.json, &object); err != nil {
				return status.Errorf(codes.Internal, "read the API server's answer: %v", err)
			}
			if a.isStale(&object) {
				stale = append(stale, staleObject{mapping, object.Namespace, object.Name, object.UID})
			}
		}
		return nil
	})
	if err != nil {
		return nil, statusOf(err)
	}
	return stale, nil
}

// isStale tells an object that this manager applied before and not now. What
// belongs to another object goes with that one.
func (a *apply) isStale(object *metav1.PartialObjectMetadata) bool {
	if a.done.uids[object.UID] || object.DeletionTimestamp != nil || metav1.GetControllerOf(object) != nil {
		return false
	}
	return slices.ContainsFunc(object.ManagedFields, func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager == a.options.FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == ""
	})
}

func (a *apply) pruneOne(ctx context.Context, object staleObject) *workloadpb.ObjectResult {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	result := &workloadpb.ObjectResult{Object: label(object.mapping, object.name), Namespace: object.namespace}
	policy := metav1.DeletePropagationBackground
	err := a.objects.Resource(object.mapping.Resource).Namespace(object.namespace).Delete(ctx, object.name, metav1.DeleteOptions{
		PropagationPolicy: &policy, DryRun: a.options.DryRun, Preconditions: &metav1.Preconditions{UID: &object.uid},
	})
	if err != nil {
		result.Error = statusMessage(err)
		return result
	}
	result.Action = actionPruned
	return result
}
