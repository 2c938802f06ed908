package workloads

import (
	"encoding/json"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
)

// page is an answer of the API server, or an event's object, taken apart: one
// object, a list, or a table.
type page struct {
	version string
	columns []metav1.TableColumnDefinition
	items   []item
}

// item is one object, or one row, in the form the caller asked for.
type item struct {
	meta metav1.PartialObjectMetadata
	json []byte
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
	p := page{version: all.ResourceVersion, columns: all.ColumnDefinitions}
	for _, row := range all.Rows {
		i := item{}
		if err := json.Unmarshal(row.Object.Raw, &i.meta); err != nil {
			return page{}, err
		}
		var err error
		if i.json, err = json.Marshal(table(all.ColumnDefinitions, row)); err != nil {
			return page{}, err
		}
		i.meta = identity(i.meta)
		if p.version == "" {
			p.version = i.meta.ResourceVersion
		}
		p.items = append(p.items, i)
	}
	return p, nil
}

func objectPage(answer []byte) (page, error) {
	object, err := runtime.Decode(unstructured.UnstructuredJSONScheme, answer)
	if err != nil {
		return page{}, err
	}
	one, single := object.(*unstructured.Unstructured)
	if single {
		i, err := newItem(one)
		return page{version: one.GetResourceVersion(), items: []item{i}}, err
	}
	list := object.(*unstructured.UnstructuredList)
	p := page{version: list.GetResourceVersion()}
	for i := range list.Items {
		next, err := newItem(&list.Items[i])
		if err != nil {
			return page{}, err
		}
		p.items = append(p.items, next)
	}
	return p, nil
}

func newItem(object *unstructured.Unstructured) (item, error) {
	text, err := object.MarshalJSON()
	meta := metav1.PartialObjectMetadata{ObjectMeta: metav1.ObjectMeta{
		Name: object.GetName(), Namespace: object.GetNamespace(),
		UID: object.GetUID(), ResourceVersion: object.GetResourceVersion(),
	}}
	return item{meta, text}, err
}

// identity is as much of an object's metadata as a watch remembers.
func identity(object metav1.PartialObjectMetadata) metav1.PartialObjectMetadata {
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
