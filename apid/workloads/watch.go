package workloads

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/types"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/rest"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// minWatch is how long a watch must have lasted for the next one to begin at
// once.
const minWatch = time.Second

// Watch implements WorkloadService. It sends the objects that exist, then what
// changes. With tables, the first messages hold the rows that exist, pageSize of
// them each, if only none, and the column definitions; later ones may leave the
// definitions out.
func (s *Server) Watch(request *workloadpb.WatchRequest, stream grpc.ServerStreamingServer[workloadpb.WatchResponse]) error {
	ctx := stream.Context()
	session, err := s.session(ctx)
	if err != nil {
		return err
	}
	q, err := session.query(ctx, request.GetSelection(), request.GetOutput())
	if err != nil {
		return err
	}
	if names := q.selection.GetNames(); len(names) > 1 {
		return invalid("watch takes one name, or a selector")
	}
	w := &watcher{query: q, onlyChanges: request.GetOnlyChanges(), seen: make(map[types.UID]metav1.PartialObjectMetadata)}
	label := kindLabel(q.mapping)
	w.send = func(kind apiwatch.EventType, object []byte) error {
		return stream.Send(&workloadpb.WatchResponse{Type: string(kind), Json: object, Kind: label})
	}
	return statusOf(w.run(ctx))
}

// watcher is one watch. It knows which objects its client has seen, to tell
// after a gap what has changed meanwhile.
type watcher struct {
	*query
	onlyChanges bool
	send        func(apiwatch.EventType, []byte) error
	version     string
	seen        map[types.UID]metav1.PartialObjectMetadata
}

// selected restricts a list to the selection's name, if it has one.
func (w *watcher) selected() *rest.Request {
	if names := w.selection.GetNames(); len(names) == 1 {
		return w.request().Param("fieldSelector", fields.OneTermEqualSelector(metav1.ObjectNameField, names[0]).String())
	}
	return w.list()
}

// relistTries is how often a list begins anew that the API server forgot before all
// pages of it were read: the client may be slow to take them.
const relistTries = 3

// run lists and then watches, until the client or the API server is gone. The
// API server ends every watch after some time, and forgets old versions.
func (w *watcher) run(ctx context.Context) error {
	if err := w.catchUp(ctx); err != nil {
		return err
	}
	for {
		began := time.Now()
		err := w.follow(ctx)
		if apierrors.IsGone(err) || apierrors.IsResourceExpired(err) {
			err = w.catchUp(ctx)
		}
		if err != nil {
			return err
		}
		if time.Since(began) < minWatch {
			if err := pause(ctx, minWatch); err != nil {
				return err
			}
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// follow passes changes on until the API server ends the watch.
func (w *watcher) follow(ctx context.Context) error {
	body, err := w.selected().Param("watch", "true").Param("allowWatchBookmarks", "true").
		Param("resourceVersion", w.version).Stream(ctx)
	if err != nil {
		return err
	}
	defer body.Close()
	events := json.NewDecoder(body)
	for {
		var event struct {
			Type   apiwatch.EventType `json:"type"`
			Object json.RawMessage    `json:"object"`
		}
		if err := events.Decode(&event); err != nil {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
				return nil
			}
			return fmt.Errorf("read the API server's watch: %w", err)
		}
		if err := w.pass(event.Type, event.Object); err != nil {
			return err
		}
	}
}

// pass sends one event on, and keeps what of it is needed to resume.
func (w *watcher) pass(kind apiwatch.EventType, object json.RawMessage) error {
	if kind == apiwatch.Error {
		var failure metav1.Status
		if err := json.Unmarshal(object, &failure); err != nil {
			return fmt.Errorf("read the API server's watch: %w", err)
		}
		if failure.Code == 0 {
			failure.Code = http.StatusInternalServerError
		}
		return &apierrors.StatusError{ErrStatus: failure}
	}
	page, err := w.page(object)
	if err != nil {
		return err
	}
	w.version = page.version
	if kind == apiwatch.Bookmark {
		return nil
	}
	for _, item := range page.items {
		if kind == apiwatch.Deleted {
			delete(w.seen, item.meta.UID)
		} else {
			w.seen[item.meta.UID] = item.meta
		}
	}
	return w.send(kind, object)
}

// catchUp lists until a list came to its end.
func (w *watcher) catchUp(ctx context.Context) error {
	for try := 1; ; try++ {
		err := w.relist(ctx)
		if try == relistTries || !apierrors.IsGone(err) && !apierrors.IsResourceExpired(err) {
			return err
		}
	}
}

// relist sends how the objects that exist differ from those the client has
// seen; the first time, all of them.
func (w *watcher) relist(ctx context.Context) error {
	// One that came to no end has shown some of them, unless only changes are shown.
	first := w.version == "" && (w.onlyChanges || len(w.seen) == 0)
	gone, version := w.seen, ""
	var columns []metav1.TableColumnDefinition
	w.seen = make(map[types.UID]metav1.PartialObjectMetadata, len(gone))
	err := w.eachPage(ctx, w.selected, func(answer []byte, p page) error {
		begins := version == ""
		if begins {
			version, columns = p.version, p.columns
		}
		if names := w.selection.GetNames(); first && len(names) == 1 && len(p.items) == 0 {
			return status.Errorf(codes.NotFound, "%s %q not found", w.mapping.Resource.Resource, names[0])
		}
		if first {
			return w.sendFirst(answer, p, begins)
		}
		return w.sendDifference(gone, p)
	})
	if err != nil {
		for uid, object := range gone { // they may be gone, and may come yet
			w.seen[uid] = object
		}
		return err
	}
	w.version = version
	for _, object := range gone {
		ghost, err := w.ghost(object, columns)
		if err != nil {
			return err
		}
		if err := w.send(apiwatch.Deleted, ghost); err != nil {
			return err
		}
	}
	return nil
}

// sendFirst sends a page of the objects that exist when the watch begins: a table
// as a whole, objects one by one.
func (w *watcher) sendFirst(answer []byte, p page, begins bool) error {
	for _, item := range p.items {
		w.seen[item.meta.UID] = item.meta
		if w.isTable() || w.onlyChanges {
			continue
		}
		if err := w.send(apiwatch.Added, item.json); err != nil {
			return err
		}
	}
	switch {
	case !w.isTable() || w.onlyChanges && !begins:
		return nil
	case w.onlyChanges:
		columns, err := withoutRows(answer)
		if err != nil {
			return err
		}
		answer = columns
	}
	return w.send(apiwatch.Added, answer)
}

// withoutRows is a Table with nothing but its columns.
func withoutRows(table []byte) ([]byte, error) {
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(table, &fields); err != nil {
		return nil, fmt.Errorf("decode the table: %w", err)
	}
	fields["rows"] = json.RawMessage("[]")
	return json.Marshal(fields)
}

// sendDifference sends what of a page the client has not seen as it is now, and
// takes it out of what may be gone.
func (w *watcher) sendDifference(gone map[types.UID]metav1.PartialObjectMetadata, now page) error {
	for _, item := range now.items {
		before, known := gone[item.meta.UID]
		delete(gone, item.meta.UID)
		w.seen[item.meta.UID] = item.meta
		kind := apiwatch.Added
		if known {
			if before.ResourceVersion == item.meta.ResourceVersion {
				continue
			}
			kind = apiwatch.Modified
		}
		if err := w.send(kind, item.json); err != nil {
			return err
		}
	}
	return nil
}

// ghost describes an object of which nothing but its metadata is known any
// more. In a table its row has a name and no other cell.
func (w *watcher) ghost(object metav1.PartialObjectMetadata, columns []metav1.TableColumnDefinition) ([]byte, error) {
	object.SetGroupVersionKind(w.mapping.GroupVersionKind)
	whole, err := json.Marshal(&object)
	if err != nil || !w.isTable() {
		return whole, err
	}
	cells := make([]any, max(1, len(columns)))
	named := slices.IndexFunc(columns, func(c metav1.TableColumnDefinition) bool { return c.Format == "name" })
	cells[max(0, named)] = object.Name
	return json.Marshal(table(columns, metav1.TableRow{Cells: cells, Object: rawObject(whole)}))
}
