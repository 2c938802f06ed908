package workloads

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/rest"
)

// page is an answer of the API server, or an event's object, taken apart: one
// object, a list, or a table.
type page struct {
	version string
	// more is from where a list goes on; empty at its end.
	more    string
	columns []metav1.TableColumnDefinition
	items   []item
}

// item is one object, or one row, in the form the caller asked for.
type item struct {
	meta metav1.PartialObjectMetadata
	json []byte
}

// pageSize is how many objects are read at once of a list that is taken apart: as
// many as kubectl's --chunk-size says.
const pageSize = 500

// eachPage reads a list of any length, page by page.
func (q *query) eachPage(ctx context.Context, list func() *rest.Request, use func(answer []byte, p page) error) error {
	for from := ""; ; {
		answer, p, err := q.readPage(ctx, nextOf(list(), pageSize, from))
		if err != nil {
			return err
		}
		if err := use(answer, p); err != nil || p.more == "" {
			return err
		}
		from = p.more
	}
}

// readPage reads an answer of any size that is allowed, and takes it apart.
func (q *query) readPage(ctx context.Context, request *rest.Request) ([]byte, page, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	release, err := q.lists.take(ctx)
	if err != nil {
		return nil, page{}, err
	}
	defer release()
	answer, err := read(ctx, request)
	if err != nil {
		return nil, page{}, err
	}
	p, err := q.page(answer)
	return answer, p, err
}

func (q *query) page(answer []byte) (page, error) {
	var kind metav1.TypeMeta
	if err := json.Unmarshal(answer, &kind); err != nil {
		return page{}, fmt.Errorf("read the API server's answer: %w", err)
	}
	read := objectPage
	if kind.Kind == "Table" {
		read = tablePage
	}
	p, err := read(answer)
	if err != nil {
		return page{}, fmt.Errorf("read the API server's answer: %w", err)
	}
	return p, nil
}

func tablePage(answer []byte) (page, error) {
	var all metav1.Table
	if err := json.Unmarshal(answer, &all); err != nil {
		return page{}, err
	}
	p := page{version: all.ResourceVersion, more: all.Continue, columns: all.ColumnDefinitions}
	for _, row := range all.Rows {
		i := item{}
		if err := json.Unmarshal(row.Object.Raw, &i.meta); err != nil {
			return page{}, err
		}
		var err error
		if i.json, err = json.Marshal(table(all.ColumnDefinitions, row)); err != nil {
			return page{}, err
		}
		i.meta = remembered(i.meta)
		if p.version == "" {
			p.version = i.meta.ResourceVersion
		}
		p.items = append(p.items, i)
	}
	return p, nil
}

func objectPage(answer []byte) (page, error) {
	all, single, err := splitList(answer)
	if err != nil {
		return page{}, err
	}
	p := page{version: all.Metadata.ResourceVersion, more: all.Metadata.Continue}
	for _, text := range all.Items {
		i := item{json: text}
		if err := json.Unmarshal(text, &i.meta); err != nil {
			return page{}, err
		}
		i.meta = remembered(i.meta)
		if single {
			p.version = i.meta.ResourceVersion
		}
		p.items = append(p.items, i)
	}
	return p, nil
}

// list is a list of objects that stay undecoded: decoded, they would take ten
// times the memory.
type list struct {
	metav1.TypeMeta
	Metadata metav1.ListMeta   `json:"metadata"`
	Items    []json.RawMessage `json:"items"`
}

// splitList takes a list apart; an object counts as a list of one. The items
// get their kind, which the API server leaves out in lists of its own kinds.
func splitList(answer []byte) (all list, single bool, err error) {
	if err := json.Unmarshal(answer, &all); err != nil {
		return all, false, err
	}
	kind, isList := strings.CutSuffix(all.Kind, "List")
	// An object's own kind may end in List; items tell a list for sure.
	if !isList || all.Items == nil {
		all.Items = []json.RawMessage{answer}
		return all, true, nil
	}
	for i, text := range all.Items {
		if all.Items[i], err = withKind(text, all.APIVersion, kind); err != nil {
			return all, false, err
		}
	}
	return all, false, nil
}

func withKind(text json.RawMessage, apiVersion, kind string) (json.RawMessage, error) {
	var own metav1.TypeMeta
	if err := json.Unmarshal(text, &own); err != nil {
		return nil, err
	}
	if own.Kind != "" {
		return text, nil
	}
	head, err := json.Marshal(metav1.TypeMeta{APIVersion: apiVersion, Kind: kind})
	if err != nil {
		return nil, err
	}
	body, _ := bytes.CutPrefix(bytes.TrimSpace(text), []byte("{"))
	if len(bytes.TrimSpace(body)) > 1 {
		body = append([]byte(","), body...)
	}
	return append(bytes.TrimSuffix(head, []byte("}")), body...), nil
}

// remembered is as much of an object's metadata as a watch remembers.
func remembered(object metav1.PartialObjectMetadata) metav1.PartialObjectMetadata {
	return metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Name: object.Name, Namespace: object.Namespace,
		UID: object.UID, ResourceVersion: object.ResourceVersion,
	}}
}

func table(columns []metav1.TableColumnDefinition, rows ...metav1.TableRow) *metav1.Table {
	return &metav1.Table{
		TypeMeta:          metav1.TypeMeta{APIVersion: "meta.k8s.io/v1", Kind: "Table"},
		ColumnDefinitions: columns,
		Rows:              rows,
	}
}

func rawObject(text []byte) runtime.RawExtension { return runtime.RawExtension{Raw: text} }
