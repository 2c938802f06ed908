package machineconfig

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"go.yaml.in/yaml/v3"
)

// Patch is a change to a config: documents of one or more kinds that hold only
// what differs. Mappings are merged field by field, everything else, lists
// included, is replaced; a field with no value goes back to its default.
type Patch struct {
	// Name stands for the source in errors.
	Name string
	Text []byte
}

// lineBand keeps the lines of several files apart in one tree: a file is at
// most MaxSize bytes, so that it never has as many lines.
const lineBand = MaxSize + 1

// Apply returns a config with patches merged into it, one after the other, and
// decoded as strictly as a node decodes it. What is wrong is returned all
// together, as Decode does; errors of what no patch touched have no place.
func Apply(config *Config, patches ...Patch) (*Config, error) {
	text, err := Encode(config)
	if err != nil {
		return nil, err
	}
	merged, err := parseDocuments(text, 0)
	if err != nil {
		return nil, err
	}
	var wrong []*Error
	for i, patch := range patches {
		// Alone first: the merge must not hide a field that is given twice or
		// one of the wrong type.
		alone := &decoder{file: patch.Name, positions: map[string]position{}}
		if _, err := alone.decode(bytes.NewReader(patch.Text)); err != nil {
			return nil, err
		}
		if len(alone.errors) > 0 {
			wrong = append(wrong, alone.errors...)
			continue
		}
		documents, err := parseDocuments(patch.Text, (i+1)*lineBand)
		if err != nil {
			return nil, err
		}
		for _, document := range documents {
			merged = mergeDocument(merged, document)
		}
	}
	if len(wrong) > 0 {
		return nil, join(wrong)
	}
	return decodeMerged(merged, patches)
}

// decodeMerged decodes the documents and says in which patch an error is.
func decodeMerged(documents []*yaml.Node, patches []Patch) (*Config, error) {
	decoder := &decoder{positions: map[string]position{}}
	config := Default()
	for _, document := range documents {
		decoder.document(document, config)
	}
	if len(decoder.errors) == 0 {
		decoder.validateConfig(config)
	}
	if len(decoder.errors) == 0 {
		return config, nil
	}
	err := join(decoder.errors)
	for _, one := range decoder.errors {
		if patch := one.Line / lineBand; patch > 0 {
			one.File, one.Line = patches[patch-1].Name, one.Line%lineBand
			continue
		}
		one.File, one.Line, one.Column = "", 0, 0
	}
	return nil, err
}

// parseDocuments reads the mappings of a YAML stream; lines are moved by an offset.
func parseDocuments(text []byte, offset int) ([]*yaml.Node, error) {
	var documents []*yaml.Node
	for decoder := yaml.NewDecoder(bytes.NewReader(text)); ; {
		var document yaml.Node
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return documents, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the config: %w", err)
		}
		if len(document.Content) == 0 || document.Content[0].Kind != yaml.MappingNode {
			continue
		}
		moveLines(document.Content[0], offset)
		documents = append(documents, document.Content[0])
	}
}

func moveLines(node *yaml.Node, offset int) {
	node.Line += offset
	for _, child := range node.Content {
		moveLines(child, offset)
	}
}

// mergeDocument merges a document into the one of its kind.
func mergeDocument(documents []*yaml.Node, patch *yaml.Node) []*yaml.Node {
	kind := scalarField(patch, "kind")
	for _, document := range documents {
		if own := scalarField(document, "kind"); kind != nil && own != nil && own.Value == kind.Value {
			merge(document, patch)
			return documents
		}
	}
	return append(documents, patch)
}

// merge changes a mapping by what another one holds.
func merge(base, patch *yaml.Node) {
	for i := 0; i+1 < len(patch.Content); i += 2 {
		key, value := patch.Content[i], patch.Content[i+1]
		at := fieldIndex(base, key.Value)
		switch {
		case at < 0:
			base.Content = append(base.Content, key, value)
		case base.Content[at+1].Kind == yaml.MappingNode && value.Kind == yaml.MappingNode:
			merge(base.Content[at+1], value)
		default:
			base.Content[at], base.Content[at+1] = key, value
		}
	}
}

// fieldIndex finds the key of a field in a mapping's content, or -1.
func fieldIndex(node *yaml.Node, name string) int {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name {
			return i
		}
	}
	return -1
}
