package workloads

import (
	"bytes"
	stdjson "encoding/json"
	"errors"
	"fmt"
	"io"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	yamlv3 "go.yaml.in/yaml/v3"
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
			parts, err := part.documents(manifest.GetSource())
			if err != nil {
				problems = append(problems, fmt.Errorf("%s:%w", manifest.GetSource(), err))
				continue
			}
			for _, part := range parts {
				objects, err := part.objects()
				if err != nil {
					problems = append(problems, fmt.Errorf("%s:%w", manifest.GetSource(), err))
					continue
				}
				for _, object := range objects {
					documents = append(documents, document{object, manifest.GetSource(), part.line})
				}
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
	// begin is where it begins in the text that it was cut from, in bytes.
	begin int
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

// documents cuts a part where a document ends without a separator on a line of its
// own: JSON objects that follow each other, "--- {}". What decodes a document reads
// the first one, and says nothing of the others.
func (p part) documents(source string) ([]part, error) {
	if bytes.HasPrefix(bytes.TrimSpace(p.text), []byte("{")) {
		parts, err := p.json()
		if err == nil {
			return parts, nil
		}
		if path.Ext(source) == ".json" {
			return nil, err
		}
		// It may be YAML, which has braces too.
	}
	var roots []*yamlv3.Node
	decoder := yamlv3.NewDecoder(bytes.NewReader(p.text))
	for {
		var node yamlv3.Node
		err := decoder.Decode(&node)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			if _, err := yaml.YAMLToJSONStrict(p.text); err != nil {
				return []part{p}, nil // which says it better
			}
			line, message := p.position(err)
			if strings.Contains(message, "expected <document start>") {
				message = "more follows the end of the document: a line of --- goes between two"
			}
			return nil, fmt.Errorf("%d: %s", line, message)
		}
		if len(node.Content) > 0 {
			roots = append(roots, node.Content[0])
		}
	}
	if len(roots) == 1 {
		return []part{p}, nil
	}
	var parts []part
	lines := bytes.SplitAfter(p.text, []byte("\n"))
	for i, root := range roots {
		if root.Line > len(lines) { // YAML knows line breaks that nobody else does
			return nil, fmt.Errorf("%d: several documents, and line breaks that are no newlines: a line of --- goes between two", p.line)
		}
		begin := offset(lines, root.Line, root.Column)
		if i > 0 {
			parts[i-1].text = p.text[parts[i-1].begin:begin]
		}
		parts = append(parts, part{line: p.line + root.Line - 1, begin: begin, text: p.text[begin:]})
	}
	return parts, nil
}

// json cuts a part into the JSON values that it is.
func (p part) json() ([]part, error) {
	var parts []part
	decoder := stdjson.NewDecoder(bytes.NewReader(p.text))
	for {
		var value stdjson.RawMessage
		err := decoder.Decode(&value)
		if errors.Is(err, io.EOF) {
			return parts, nil
		}
		end := decoder.InputOffset()
		if err != nil {
			if wrong, ok := errors.AsType[*stdjson.SyntaxError](err); ok {
				end = wrong.Offset
			}
			return nil, fmt.Errorf("%d: invalid JSON: %w", p.lineAt(end), err)
		}
		begin := end - int64(len(value))
		parts = append(parts, part{text: value, line: p.lineAt(begin)})
	}
}

// lineAt is the line in the file of a place in the part.
func (p part) lineAt(offset int64) int {
	return p.line + bytes.Count(p.text[:min(int(offset), len(p.text))], []byte("\n"))
}

// offset is where a line and column, counted from 1, are in a text. Columns count
// characters.
func offset(lines [][]byte, line, column int) (at int) {
	for _, text := range lines[:line-1] {
		at += len(text)
	}
	text := lines[line-1]
	for range column - 1 {
		_, size := utf8.DecodeRune(text)
		at, text = at+size, text[size:]
	}
	return at
}

// objects decodes the part, one document. Errors begin with the line in the whole
// file.
func (p part) objects() ([]*unstructured.Unstructured, error) {
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
