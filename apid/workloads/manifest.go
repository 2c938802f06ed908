package workloads

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/json"
	"sigs.k8s.io/yaml"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// document is one object of a manifest and where it stands.
type document struct {
	object *unstructured.Unstructured
	source string
	// line is where the document begins, counted from 1.
	line int
}

// parse reads manifests of any number of documents, YAML or JSON. A List counts
// as the objects in it. All that is wrong is reported, nothing is left out.
func parse(manifests []*workloadpb.Manifest) ([]document, error) {
	var documents []document
	var problems []error
	for _, manifest := range manifests {
		for _, part := range split(manifest.GetContent()) {
			objects, err := part.objects(manifest.GetContent())
			if err != nil {
				problems = append(problems, fmt.Errorf("%s:%w", manifest.GetSource(), err))
				continue
			}
			for _, object := range objects {
				documents = append(documents, document{object, manifest.GetSource(), part.line})
			}
		}
	}
	if len(problems) > 0 {
		return nil, invalid("%v", errors.Join(problems...))
	}
	return documents, nil
}

// part is the text of one document.
type part struct {
	text []byte
	line int
}

// split cuts at YAML's document separators and leaves out documents that hold
// nothing but comments.
func split(content []byte) []part {
	var parts []part
	var current part
	line := 0
	for text := range bytes.Lines(content) {
		line++
		if isSeparator(text) {
			parts = append(parts, current)
			current = part{}
			continue
		}
		if current.line == 0 {
			if trimmed := bytes.TrimSpace(text); len(trimmed) == 0 || trimmed[0] == '#' || trimmed[0] == '%' {
				continue
			}
			current.line = line
		}
		current.text = append(current.text, text...)
	}
	parts = append(parts, current)
	return slices.DeleteFunc(parts, func(p part) bool { return p.line == 0 })
}

func isSeparator(line []byte) bool {
	rest, found := bytes.CutPrefix(line, []byte("---"))
	rest = bytes.TrimSpace(rest)
	return found && (len(rest) == 0 || rest[0] == '#')
}

// objects decodes the part. Errors begin with the line in the whole file.
func (p part) objects(whole []byte) ([]*unstructured.Unstructured, error) {
	object := &unstructured.Unstructured{}
	text, err := yaml.YAMLToJSONStrict(p.text)
	if err != nil {
		line, message := p.position(err)
		return nil, fmt.Errorf("%d: %s", line, message)
	}
	if err := json.Unmarshal(text, &object.Object); err != nil {
		return nil, fmt.Errorf("%d: not an object: a manifest begins with apiVersion and kind", p.line)
	}
	if !object.IsList() {
		return []*unstructured.Unstructured{object}, p.check(object)
	}
	list, err := object.ToList()
	if err != nil {
		return nil, fmt.Errorf("%d: %w", p.line, err)
	}
	var objects []*unstructured.Unstructured
	for i := range list.Items {
		if err := p.check(&list.Items[i]); err != nil {
			return nil, fmt.Errorf("%w (item %d of the list)", err, i+1)
		}
		objects = append(objects, &list.Items[i])
	}
	return objects, nil
}

// yamlLine is how the YAML library says where in the text an error is.
var yamlLine = regexp.MustCompile(`(?s)^(?:error converting YAML to JSON: )?yaml: (?:unmarshal errors:\s*)?line (\d+): (.*)$`)

// position translates a line of the document into one of the file.
func (p part) position(err error) (line int, message string) {
	found := yamlLine.FindStringSubmatch(err.Error())
	if found == nil {
		return p.line, err.Error()
	}
	n, _ := strconv.Atoi(found[1])
	return p.line + n - 1, found[2]
}

func (p part) check(object *unstructured.Unstructured) error {
	for _, field := range []struct{ name, value string }{
		{"apiVersion", object.GetAPIVersion()},
		{"kind", object.GetKind()},
		{"metadata.name", object.GetName()},
	} {
		if field.value == "" {
			return fmt.Errorf("%d: %s is missing", p.line, field.name)
		}
	}
	return nil
}

// inOrder puts first what others need: namespaces, and definitions of kinds.
// All else keeps the order it was given in.
func inOrder(documents []document) []document {
	sorted := slices.Clone(documents)
	slices.SortStableFunc(sorted, func(a, b document) int { return rank(a.object) - rank(b.object) })
	return sorted
}

func rank(object *unstructured.Unstructured) int {
	switch object.GroupVersionKind().GroupKind() {
	case schema.GroupKind{Kind: "Namespace"}:
		return 0
	case definitionKind:
		return 1
	}
	return 2
}

// definitionKind is the kind that defines kinds.
var definitionKind = schema.GroupKind{Group: "apiextensions.k8s.io", Kind: "CustomResourceDefinition"}
