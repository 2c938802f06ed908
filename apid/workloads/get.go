package workloads

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// Forms of an answer, as the API server's Accept header names them.
const (
	asObjects  = "application/json"
	asTable    = "application/json;as=Table;v=v1;g=meta.k8s.io,application/json"
	asMetadata = "application/json;as=PartialObjectMetadataList;v=v1;g=meta.k8s.io"
)

// Get implements WorkloadService.
func (s *Server) Get(ctx context.Context, request *workloadpb.GetRequest) (*workloadpb.GetResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	session, err := s.session(ctx)
	if err != nil {
		return nil, err
	}
	release, err := session.lists.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	q, err := session.query(ctx, request.GetSelection(), request.GetOutput())
	if err != nil {
		return nil, err
	}
	switch {
	case request.GetIncludeObjects() && request.GetColumnsOnly():
		return nil, invalid("columns only, and objects included: ask for one of them")
	case request.GetIncludeObjects():
		q.rows = metav1.IncludeObject
	case request.GetColumnsOnly():
		q.rows = metav1.IncludeNone
	}
	q.limit, q.from = int(request.GetLimit()), request.GetContinue()
	answers, missing, err := q.fetch(ctx)
	if err != nil {
		return nil, statusOf(err)
	}
	response := &workloadpb.GetResponse{Kind: kindLabel(q.mapping)}
	switch {
	case request.GetIgnoreNotFound():
	case len(answers) == 0:
		return nil, status.Error(codes.NotFound, strings.Join(missing, "; "))
	default:
		response.NotFound = missing
	}
	if len(answers) == 0 {
		return response, nil
	}
	if response.Json, err = q.join(answers); err == nil && request.GetLimit() > 0 {
		response.Continue, err = continueOf(response.Json)
	}
	if err != nil {
		return nil, status.Errorf(codes.Internal, "read the API server's answer: %v", err)
	}
	return response, nil
}

// query is a selection in the API server's terms.
type query struct {
	*session
	mapping   *meta.RESTMapping
	selection *workloadpb.Selection
	accept    string
	// rows is what of the objects is in a table's rows; empty is their metadata.
	rows metav1.IncludeObjectPolicy
	// limit and from are the part of a list that is asked for.
	limit int
	from  string
}

func (s *session) query(ctx context.Context, selection *workloadpb.Selection, output workloadpb.Output) (*query, error) {
	mapping, err := s.resources.named(ctx, selection.GetResource())
	if err != nil {
		return nil, err
	}
	q := &query{session: s, mapping: mapping, selection: selection, accept: asTable}
	if output == workloadpb.Output_OUTPUT_OBJECTS {
		q.accept = asObjects
	}
	return q, q.check()
}

// check refuses what the API server would understand in another way than the
// caller.
func (q *query) check() error {
	for _, name := range append(slices.Clone(q.selection.GetNames()), orDefault(q.selection.GetNamespace())) {
		if wrong := content.IsPathSegmentName(name); name == "" || len(wrong) > 0 {
			return invalid("%q is no name of an object or namespace", name)
		}
	}
	if len(q.selection.GetNames()) == 0 {
		return nil
	}
	if q.selection.GetLabelSelector() != "" || q.selection.GetFieldSelector() != "" {
		return invalid("names and selectors exclude each other: give one of them")
	}
	if q.selection.GetAllNamespaces() && q.namespaced() {
		return invalid("a name belongs to one namespace: leave all namespaces out, or the name")
	}
	return nil
}

func (q *query) namespaced() bool { return q.mapping.Scope.Name() == meta.RESTScopeNameNamespace }

// isTable tells whether rows were asked for.
func (q *query) isTable() bool { return q.accept == asTable }

// request asks for the selection's list, or for one object of it.
func (q *query) request(name ...string) *rest.Request {
	prefix := []string{"/apis", q.mapping.Resource.Group, q.mapping.Resource.Version}
	if q.mapping.Resource.Group == "" {
		prefix = []string{"/api", q.mapping.Resource.Version}
	}
	request := q.raw.Get().AbsPath(prefix...).Resource(q.mapping.Resource.Resource).SetHeader("Accept", q.accept)
	if q.namespaced() && !q.selection.GetAllNamespaces() {
		request.Namespace(orDefault(q.selection.GetNamespace()))
	}
	if len(name) == 1 {
		request.Name(name[0])
	}
	if q.rows != "" && q.isTable() {
		request.Param("includeObject", string(q.rows))
	}
	return request
}

// list asks for the objects that the selectors let through.
func (q *query) list() *rest.Request {
	request := q.request()
	if labels := q.selection.GetLabelSelector(); labels != "" {
		request.Param("labelSelector", labels)
	}
	if fields := q.selection.GetFieldSelector(); fields != "" {
		request.Param("fieldSelector", fields)
	}
	return request
}

// nextOf restricts a list to so many objects, zero being all, after those whose answer
// said to go on from there.
func nextOf(list *rest.Request, limit int, from string) *rest.Request {
	if limit > 0 {
		list.Param("limit", strconv.Itoa(limit))
	}
	if from != "" {
		list.Param("continue", from)
	}
	return list
}

// fetch returns the list, or each of the named objects, and what Kubernetes says
// of those that do not exist.
func (q *query) fetch(ctx context.Context) (answers [][]byte, missing []string, err error) {
	if len(q.selection.GetNames()) == 0 {
		answer, err := read(ctx, nextOf(q.list(), q.limit, q.from))
		return [][]byte{answer}, nil, err
	}
	size := 0
	for _, name := range q.selection.GetNames() {
		answer, err := read(ctx, q.request(name))
		if apierrors.IsNotFound(err) {
			missing = append(missing, statusMessage(err))
			continue
		}
		if err != nil {
			return nil, nil, err
		}
		if size += len(answer); size > maxResponse {
			return nil, nil, tooLarge()
		}
		answers = append(answers, answer)
	}
	return answers, missing, nil
}

// read reads one answer of bounded size.
func read(ctx context.Context, request *rest.Request) ([]byte, error) {
	body, err := request.Stream(ctx)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	answer, err := io.ReadAll(io.LimitReader(body, maxResponse+1))
	if err != nil {
		return nil, fmt.Errorf("read the API server's answer: %w", err)
	}
	if len(answer) > maxResponse {
		return nil, tooLarge()
	}
	return answer, nil
}

func tooLarge() error {
	return status.Errorf(codes.ResourceExhausted,
		"the answer is larger than %d MiB: ask for fewer objects at a time (get --chunk-size), or select less by namespace, label or name", maxResponse>>20)
}

// join makes one answer of several: a Table of all rows, a List, or the object
// itself if it was asked for by its one name.
func (q *query) join(answers [][]byte) ([]byte, error) {
	if q.isTable() {
		return joinTables(answers)
	}
	if len(q.selection.GetNames()) == 1 {
		return answers[0], nil
	}
	all := list{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "List"}, Items: []json.RawMessage{}}
	for _, answer := range answers {
		next, _, err := splitList(answer)
		if err != nil {
			return nil, err
		}
		all.Items = append(all.Items, next.Items...)
		all.Metadata.Continue = next.Metadata.Continue
	}
	return json.Marshal(all)
}

// continueOf is what a list says to go on from for more of it. That comes early in
// it, and the rest is not read.
func continueOf(answer []byte) (string, error) {
	decoder := json.NewDecoder(bytes.NewReader(answer))
	if _, err := decoder.Token(); err != nil { // the brace
		return "", err
	}
	for decoder.More() {
		name, err := decoder.Token()
		if err != nil {
			return "", err
		}
		if name == "metadata" {
			var list metav1.ListMeta
			err := decoder.Decode(&list)
			return list.Continue, err
		}
		var other json.RawMessage
		if err := decoder.Decode(&other); err != nil {
			return "", err
		}
	}
	return "", nil
}

func joinTables(tables [][]byte) ([]byte, error) {
	if len(tables) == 1 {
		return tables[0], nil
	}
	var all metav1.Table
	for i, answer := range tables {
		var table metav1.Table
		if err := json.Unmarshal(answer, &table); err != nil {
			return nil, err
		}
		if i == 0 {
			all = table
			continue
		}
		all.Rows = append(all.Rows, table.Rows...)
	}
	return json.Marshal(&all)
}
