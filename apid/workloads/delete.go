package workloads

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/dynamic"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// goneTimeout bounds waiting for one object to be gone; a finalizer that nobody
// serves would hold it for ever.
const goneTimeout = 15 * time.Minute

// Delete implements WorkloadService. All objects are deleted before any is
// waited for.
func (s *Server) Delete(request *workloadpb.DeleteRequest, stream grpc.ServerStreamingServer[workloadpb.DeleteResponse]) error {
	ctx := stream.Context()
	documents, err := parse(request.GetManifests())
	if err != nil {
		return err
	}
	if err := checkDelete(request, len(documents)); err != nil {
		return err
	}
	session, err := s.session(ctx)
	if err != nil {
		return err
	}
	if err := session.requireNamespace(ctx, documents, request.GetNamespace()); err != nil {
		return err
	}
	doomed, err := session.doomed(ctx, request, documents)
	if err != nil {
		return err
	}
	send := func(d *deletion) error {
		if d.skipped {
			return nil
		}
		if ctx.Err() != nil {
			return statusOf(ctx.Err())
		}
		return stream.Send(&workloadpb.DeleteResponse{Result: d.result})
	}
	for _, d := range doomed {
		d.delete(ctx, request)
		if !request.GetWait() || request.GetDryRun() {
			if err := send(d); err != nil {
				return err
			}
		}
	}
	if !request.GetWait() || request.GetDryRun() {
		return nil
	}
	patience := goneTimeout
	if seconds := request.GetTimeoutSeconds(); seconds > 0 {
		patience = min(patience, time.Duration(seconds)*time.Second)
	}
	for _, d := range doomed {
		d.await(ctx, patience)
		if err := send(d); err != nil {
			return err
		}
	}
	return nil
}

// checkDelete refuses requests that would delete more than they say.
func checkDelete(request *workloadpb.DeleteRequest, documents int) error {
	switch selections := len(request.GetSelections()); {
	case selections == 0 && documents == 0:
		return invalid("nothing to delete: give manifests or a resource")
	case selections > 0 && documents > 0:
		return invalid("give manifests or a resource, not both")
	}
	for _, selection := range request.GetSelections() {
		selects := selection.GetLabelSelector() != "" || selection.GetFieldSelector() != ""
		switch {
		case len(selection.GetNames()) > 0 && request.GetAll():
			return invalid("names and all exclude each other: give one of them")
		case len(selection.GetNames()) == 0 && !selects && !request.GetAll():
			return invalid("give names, a selector or all: an empty selection would delete every %s", selection.GetResource())
		}
	}
	return nil
}

// deletion is one object's deletion.
type deletion struct {
	client dynamic.ResourceInterface
	name   string
	uid    types.UID
	result *workloadpb.ObjectResult
	// skipped: it did not exist, and that is no error.
	skipped bool
}

func (d *deletion) fail(err error) { d.result.Action, d.result.Error = "", statusMessage(err) }

// doomed finds what is to be deleted.
func (s *session) doomed(ctx context.Context, request *workloadpb.DeleteRequest, documents []document) ([]*deletion, error) {
	var found []*deletion
	for _, selection := range request.GetSelections() {
		more, err := s.doomedBySelection(ctx, selection)
		if err != nil {
			return nil, err
		}
		found = append(found, more...)
	}
	// What others need goes last.
	sorted := inOrder(documents)
	slices.Reverse(sorted)
	for _, document := range sorted {
		t, err := s.target(ctx, document, orDefault(request.GetNamespace()), nil)
		d := &deletion{client: t.client, name: t.name, result: t.result(document)}
		if err != nil {
			// Without a kind there is no object of it either.
			d.skipped = t.unknown && request.GetIgnoreNotFound()
			d.fail(err)
		}
		found = append(found, d)
	}
	return found, nil
}

func (s *session) doomedBySelection(ctx context.Context, selection *workloadpb.Selection) ([]*deletion, error) {
	q, err := s.query(ctx, selection, workloadpb.Output_OUTPUT_OBJECTS)
	if err != nil {
		return nil, err
	}
	var found []*deletion
	add := func(namespace, name string) {
		resource := s.objects.Resource(q.mapping.Resource)
		d := &deletion{client: resource, name: name, result: &workloadpb.ObjectResult{Object: label(q.mapping, name)}}
		if q.namespaced() {
			d.client, d.result.Namespace = resource.Namespace(namespace), namespace
		}
		found = append(found, d)
	}
	for _, name := range selection.GetNames() {
		add(orDefault(selection.GetNamespace()), name)
	}
	if len(selection.GetNames()) > 0 {
		return found, nil
	}
	q.accept = asMetadata
	err = q.eachPage(ctx, q.list, func(_ []byte, p page) error {
		for _, item := range p.items {
			add(item.meta.Namespace, item.meta.Name)
		}
		return nil
	})
	if err != nil {
		return nil, statusOf(err)
	}
	return found, nil
}

var propagation = map[workloadpb.Cascade]metav1.DeletionPropagation{
	workloadpb.Cascade_CASCADE_UNSPECIFIED: metav1.DeletePropagationBackground,
	workloadpb.Cascade_CASCADE_BACKGROUND:  metav1.DeletePropagationBackground,
	workloadpb.Cascade_CASCADE_FOREGROUND:  metav1.DeletePropagationForeground,
	workloadpb.Cascade_CASCADE_ORPHAN:      metav1.DeletePropagationOrphan,
}

// delete asks for the deletion; the object may stay until its finalizers ran.
func (d *deletion) delete(ctx context.Context, request *workloadpb.DeleteRequest) {
	if d.result.GetError() != "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	policy, ok := propagation[request.GetCascade()]
	if !ok {
		d.fail(invalid("cascade %d is not known here", request.GetCascade()))
		return
	}
	options := metav1.DeleteOptions{PropagationPolicy: &policy}
	if request.GetDryRun() {
		options.DryRun = []string{metav1.DryRunAll}
	}
	if seconds := request.GetGracePeriodSeconds(); seconds >= 0 {
		options.GracePeriodSeconds = &seconds
	}
	if request.GetWait() {
		// To tell the object from another that takes its name.
		if object, err := d.client.Get(ctx, d.name, metav1.GetOptions{}); err == nil {
			d.uid = object.GetUID()
		}
	}
	err := d.client.Delete(ctx, d.name, options)
	if apierrors.IsNotFound(err) && request.GetIgnoreNotFound() {
		d.skipped = true
		return
	}
	if err != nil {
		d.fail(err)
		return
	}
	d.result.Action = actionDeleted
}

// await returns when the object is gone.
func (d *deletion) await(ctx context.Context, patience time.Duration) {
	if d.skipped || d.result.GetError() != "" {
		return
	}
	limited, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var finalizers []string
	for {
		object, err := d.client.Get(limited, d.name, metav1.GetOptions{})
		switch {
		case apierrors.IsNotFound(err), err == nil && d.uid != "" && object.GetUID() != d.uid:
			return
		case err == nil:
			finalizers = object.GetFinalizers()
			err = d.watchGone(limited, object.GetResourceVersion())
		}
		if limited.Err() != nil && ctx.Err() == nil {
			d.fail(stuck(finalizers, patience))
			return
		}
		if err != nil {
			d.fail(err)
			return
		}
	}
}

// watchGone returns when the object was deleted, or the watch ended.
func (d *deletion) watchGone(ctx context.Context, version string) error {
	began := time.Now()
	events, err := d.client.Watch(ctx, metav1.ListOptions{
		FieldSelector:   fields.OneTermEqualSelector(metav1.ObjectNameField, d.name).String(),
		ResourceVersion: version,
	})
	if err != nil {
		return err
	}
	defer events.Stop()
	for event := range events.ResultChan() {
		if event.Type == apiwatch.Deleted {
			return nil
		}
		if event.Type == apiwatch.Error {
			break
		}
	}
	if time.Since(began) < minWatch {
		return pause(ctx, minWatch)
	}
	return ctx.Err()
}

func stuck(finalizers []string, patience time.Duration) error {
	why := "it is still ending"
	if len(finalizers) > 0 {
		why = "its finalizers wait: " + strings.Join(finalizers, ", ")
	}
	return fmt.Errorf("deleted, but not gone after %s: %s", patience, why)
}
