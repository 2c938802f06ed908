package workloads

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/client-go/dynamic"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

const (
	defaultFieldManager = "osctl"
	// A kind defined in the same call is looked for again so often, for so long:
	// the API server serves it some moments after it accepted the definition.
	definitionRetry   = 250 * time.Millisecond
	definitionTimeout = 15 * time.Second
)

// Actions that an ObjectResult tells.
const (
	actionCreated    = "created"
	actionConfigured = "configured"
	actionUnchanged  = "unchanged"
	actionDeleted    = "deleted"
)

// Apply implements WorkloadService. A manifest that is no YAML stops the call
// before anything is changed; an object that Kubernetes refuses stops nothing.
func (s *Server) Apply(request *workloadpb.ApplyRequest, stream grpc.ServerStreamingServer[workloadpb.ApplyResponse]) error {
	documents, err := parse(request.GetManifests())
	if err != nil {
		return err
	}
	if len(documents) == 0 {
		return invalid("the manifests hold no object")
	}
	if err := checkPrune(request); err != nil {
		return err
	}
	session, err := s.session(stream.Context())
	if err != nil {
		return err
	}
	if err := session.requireNamespace(stream.Context(), documents, request.GetNamespace()); err != nil {
		return err
	}
	run := newApply(session, request)
	for _, d := range inOrder(documents) {
		response, err := run.apply(stream.Context(), d)
		if err != nil {
			return err
		}
		if err := stream.Send(response); err != nil {
			return err
		}
	}
	if !request.GetPrune() || run.done.failed {
		return nil
	}
	return statusOf(run.prune(stream.Context(), request.GetPruneSelector(), func(result *workloadpb.ObjectResult) error {
		return stream.Send(&workloadpb.ApplyResponse{Result: result})
	}))
}

// requireNamespace refuses objects that name another namespace than the caller, who
// may mean either.
func (s *session) requireNamespace(ctx context.Context, documents []document, namespace string) error {
	if namespace == "" {
		return nil
	}
	for _, d := range documents {
		own := d.object.GetNamespace()
		if own == "" || own == namespace {
			continue
		}
		mapping, err := s.resources.ofKind(ctx, d.object.GroupVersionKind())
		if err == nil && mapping.Scope.Name() == meta.RESTScopeNameRoot {
			continue // it has none, whatever it says
		}
		return invalid("%s:%d: the namespace of %s %s is %q and not %q: leave -n out, or give that one",
			d.source, d.line, d.object.GetKind(), d.object.GetName(), own, namespace)
	}
	return nil
}

// apply is one call's progress.
type apply struct {
	*session
	namespace string
	options   metav1.ApplyOptions
	// defined are the kinds whose definitions this call applied.
	defined map[schema.GroupKind]bool
	done    *applied
	// whole: the responses hold the objects.
	whole bool
}

func newApply(s *session, request *workloadpb.ApplyRequest) *apply {
	a := &apply{session: s, namespace: orDefault(request.GetNamespace()), defined: make(map[schema.GroupKind]bool), done: newApplied()}
	a.whole = request.GetReturnObjects()
	a.options = metav1.ApplyOptions{FieldManager: request.GetFieldManager(), Force: request.GetForceConflicts()}
	if a.options.FieldManager == "" {
		a.options.FieldManager = defaultFieldManager
	}
	if request.GetDryRun() {
		a.options.DryRun = []string{metav1.DryRunAll}
	}
	return a
}

// apply returns what became of one object, or an error that would meet all the
// others too.
func (a *apply) apply(ctx context.Context, d document) (*workloadpb.ApplyResponse, error) {
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	t, err := a.target(limited, d, a.namespace, a.defined)
	result := t.result(d)
	response := &workloadpb.ApplyResponse{Result: result}
	if err == nil {
		var after *unstructured.Unstructured
		result.Action, after, err = a.applyTo(limited, t, d.object)
		if err == nil && a.whole {
			response.Json, err = after.MarshalJSON()
		}
	}
	if ctx.Err() != nil {
		return nil, statusOf(ctx.Err())
	}
	if err != nil {
		if failed := statusOf(err); status.Code(failed) == codes.Unavailable {
			return nil, failed
		}
		result.Error = applyError(err)
		a.done.failed = true
	}
	result.Warnings = a.warnings.take()
	return response, nil
}

// applyTo applies one object and tells what that did, and made of it.
func (a *apply) applyTo(ctx context.Context, t target, object *unstructured.Unstructured) (action string, after *unstructured.Unstructured, err error) {
	// Kubernetes fills it in and refuses it from others; objects that were
	// fetched and edited carry it.
	object.SetManagedFields(nil)
	before, err := t.client.Get(ctx, t.name, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) && !apierrors.IsForbidden(err) {
		return "", nil, err
	}
	existed := err == nil
	missing := apierrors.IsNotFound(err)
	dryRun := len(a.options.DryRun) > 0
	if existed && !dryRun {
		if err := a.takeOver(ctx, t, before); err != nil {
			return "", nil, err
		}
	}
	after, err = t.client.Apply(ctx, t.name, object, a.options)
	if apierrors.IsConflict(err) && existed && dryRun && clientSideManagers(before).Len() > 0 {
		return "", nil, status.Errorf(codes.Aborted, "%s (without a dry run, what kubectl applied is taken over first)", statusMessage(err))
	}
	if err != nil {
		return "", nil, err
	}
	a.done.add(after)
	if kind, ok := definedKind(object); ok && !dryRun {
		a.defined[kind] = true
	}
	switch {
	case missing:
		return actionCreated, after, nil
	case existed && unchanged(before, after):
		return actionUnchanged, after, nil
	}
	return actionConfigured, after, nil
}

// unchanged tells whether applying made no difference. The resource version is
// no help: a dry run never moves it, and a first apply moves it only to record
// who manages which field.
func unchanged(before, after *unstructured.Unstructured) bool {
	before, after = before.DeepCopy(), after.DeepCopy()
	for _, object := range []*unstructured.Unstructured{before, after} {
		object.SetManagedFields(nil)
		object.SetResourceVersion("")
		object.SetGeneration(0)
	}
	return reflect.DeepEqual(before.Object, after.Object)
}

// definedKind is the kind that a custom resource definition defines.
func definedKind(object *unstructured.Unstructured) (schema.GroupKind, bool) {
	if object.GroupVersionKind().GroupKind() != definitionKind {
		return schema.GroupKind{}, false
	}
	group, _, _ := unstructured.NestedString(object.Object, "spec", "group")
	kind, _, _ := unstructured.NestedString(object.Object, "spec", "names", "kind")
	return schema.GroupKind{Group: group, Kind: kind}, true
}

func applyError(err error) string {
	message := statusMessage(err)
	if apierrors.IsConflict(err) && strings.Contains(message, "conflict with") {
		message += " (apply with --force-conflicts to take these fields over)"
	}
	return message
}

// target is where an object goes.
type target struct {
	client    dynamic.ResourceInterface
	label     string
	name      string
	namespace string
	// unknown: the cluster has no such kind.
	unknown bool
}

// target finds the resource of a document's object. It waits for kinds that
// were defined a moment ago.
func (s *session) target(ctx context.Context, d document, namespace string, defined map[schema.GroupKind]bool) (target, error) {
	kind := d.object.GroupVersionKind()
	t := target{label: strings.ToLower(kind.Kind) + "/" + d.object.GetName(), name: d.object.GetName()}
	mapping, err := s.resources.ofKind(ctx, kind)
	if meta.IsNoMatchError(err) && defined[kind.GroupKind()] {
		mapping, err = s.awaitKind(ctx, kind)
	}
	if meta.IsNoMatchError(err) {
		t.unknown = true
		near := ""
		if kinds := s.resources.nearKinds(ctx, kind.Kind); len(kinds) > 0 {
			near = "; is it one of: " + strings.Join(kinds, ", ") + "?"
		}
		return t, fmt.Errorf("the cluster has no kind %s in %s: apply its definition first, or check apiVersion and kind%s",
			kind.Kind, kind.GroupVersion(), near)
	}
	if err != nil {
		return t, err
	}
	t.label = label(mapping, t.name)
	if mapping.Scope.Name() == meta.RESTScopeNameRoot {
		d.object.SetNamespace("")
		t.client = s.objects.Resource(mapping.Resource)
		return t, nil
	}
	t.namespace = d.object.GetNamespace()
	if t.namespace == "" {
		t.namespace = namespace
		d.object.SetNamespace(namespace)
	}
	t.client = s.objects.Resource(mapping.Resource).Namespace(t.namespace)
	return t, nil
}

func (s *session) awaitKind(ctx context.Context, kind schema.GroupVersionKind) (mapping *meta.RESTMapping, err error) {
	// The error of the last try says more than that time is up.
	_ = wait.PollUntilContextTimeout(ctx, definitionRetry, definitionTimeout, true, func(ctx context.Context) (bool, error) {
		s.resources.refresh(ctx, 0)
		mapping, err = s.resources.ofKind(ctx, kind)
		return !meta.IsNoMatchError(err), nil
	})
	return mapping, err
}

func (t target) result(d document) *workloadpb.ObjectResult {
	return &workloadpb.ObjectResult{Object: t.label, Namespace: t.namespace, Source: d.source, Line: uint32(d.line)}
}

// label names an object the way kubectl prints it: "deployment.apps/web".
func label(mapping *meta.RESTMapping, name string) string { return kindLabel(mapping) + "/" + name }

// kindLabel is what precedes the slash.
func kindLabel(mapping *meta.RESTMapping) string {
	return strings.ToLower(mapping.GroupVersionKind.GroupKind().String())
}
