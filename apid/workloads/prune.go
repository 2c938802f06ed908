package workloads

import (
	"context"
	"maps"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

const (
	actionPruned = "pruned"
	// prunedPage is how many objects are looked at in one request.
	prunedPage = 500
)

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
// did not, and sends a result for each.
func (a *apply) prune(ctx context.Context, selector string, send func(*workloadpb.ObjectResult) error) error {
	wanted := maps.Clone(a.done.kinds)
	for _, kind := range prunedKinds {
		wanted[kind] = true
	}
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
			if err := a.pruneKind(ctx, mapping, namespace, selector, send); err != nil {
				return err
			}
		}
	}
	return nil
}

func (a *apply) pruneKind(ctx context.Context, mapping *meta.RESTMapping, namespace, selector string, send func(*workloadpb.ObjectResult) error) error {
	resource := a.objects.Resource(mapping.Resource)
	options := metav1.ListOptions{LabelSelector: selector, Limit: prunedPage}
	for {
		limited, cancel := context.WithTimeout(ctx, requestTimeout)
		list, err := resource.Namespace(namespace).List(limited, options)
		cancel()
		if err != nil {
			return statusOf(err)
		}
		for i := range list.Items {
			if !a.isStale(&list.Items[i]) {
				continue
			}
			if err := send(a.pruneOne(ctx, mapping, &list.Items[i])); err != nil {
				return err
			}
		}
		if options.Continue = list.GetContinue(); options.Continue == "" {
			return nil
		}
	}
}

// isStale tells an object that this manager applied before and not now. What
// belongs to another object goes with that one.
func (a *apply) isStale(object *unstructured.Unstructured) bool {
	if a.done.uids[object.GetUID()] || object.GetDeletionTimestamp() != nil || metav1.GetControllerOf(object) != nil {
		return false
	}
	return slices.ContainsFunc(object.GetManagedFields(), func(entry metav1.ManagedFieldsEntry) bool {
		return entry.Manager == a.options.FieldManager && entry.Operation == metav1.ManagedFieldsOperationApply && entry.Subresource == ""
	})
}

func (a *apply) pruneOne(ctx context.Context, mapping *meta.RESTMapping, object *unstructured.Unstructured) *workloadpb.ObjectResult {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	result := &workloadpb.ObjectResult{Object: label(mapping, object.GetName()), Namespace: object.GetNamespace()}
	policy, uid := metav1.DeletePropagationBackground, object.GetUID()
	err := a.objects.Resource(mapping.Resource).Namespace(object.GetNamespace()).Delete(ctx, object.GetName(), metav1.DeleteOptions{
		PropagationPolicy: &policy, DryRun: a.options.DryRun, Preconditions: &metav1.Preconditions{UID: &uid},
	})
	if err != nil {
		result.Error = statusMessage(err)
		return result
	}
	result.Action = actionPruned
	return result
}
