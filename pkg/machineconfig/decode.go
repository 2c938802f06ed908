package machineconfig

import (
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxSize bounds a config file, in bytes: far above what a node needs, far
// below what would hurt PID 1.
const MaxSize = 1 << 20

// maxDocuments bounds the documents of one file; there are three kinds.
const maxDocuments = 16

// Decode reads the config of a node: one document of each kind. It sets the
// defaults and validates. What is wrong is returned all together, as *Error
// joined: see Errors. name stands for the source in their texts.
func Decode(name string, reader io.Reader) (*Config, error) {
	decoder := &decoder{file: name, positions: map[string]position{}}
	config, err := decoder.decode(reader)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{KindMachine, KindCluster, KindSecrets} {
		if _, ok := decoder.positions[documentPath(kind)]; !ok && decoder.unknownKinds == 0 {
			decoder.fail(position{1, 1}, "", "no document of kind %s: a node needs one each of Machine, Cluster and Secrets", kind)
		}
	}
	if len(decoder.errors) == 0 {
		decoder.validateConfig(config)
	}
	if len(decoder.errors) > 0 {
		return nil, join(decoder.errors)
	}
	return config, nil
}

// DecodeSecrets reads a file that holds a Secrets document and nothing else,
// with every key, as Encode writes it.
func DecodeSecrets(name string, reader io.Reader) (*Secrets, error) {
	decoder := &decoder{file: name, positions: map[string]position{}}
	config, err := decoder.decode(reader)
	if err != nil {
		return nil, err
	}
	for _, kind := range []string{KindMachine, KindCluster} {
		if at, ok := decoder.positions[documentPath(kind)]; ok {
			decoder.fail(at, "", "a document of kind %s: only Secrets is expected here", kind)
		}
	}
	if _, ok := decoder.positions[documentPath(KindSecrets)]; !ok && decoder.unknownKinds == 0 {
		decoder.fail(position{1, 1}, "", "no document of kind Secrets")
	}
	if len(decoder.errors) == 0 {
		decoder.validateSecrets(config.Secrets, ControlPlane)
	}
	if len(decoder.errors) > 0 {
		return nil, join(decoder.errors)
	}
	return config.Secrets, nil
}

// position is a place in the file, from 1.
type position struct{ line, column int }

// decoder reads one file and gathers what is wrong with it.
type decoder struct {
	file   string
	errors []*Error
	// positions of every field that the file holds, by path.
	positions map[string]position
	// unknownKinds counts documents of unknown kind: the missing ones are not
	// named then, since one of these was probably meant.
	unknownKinds int
	// secret is set while the Secrets document is decoded: no value of it may
	// be quoted.
	secret bool
}

func (decoder *decoder) fail(at position, path, format string, args ...any) {
	decoder.errors = append(decoder.errors, &Error{
		File: decoder.file, Line: at.line, Column: at.column,
		Field: path, Message: fmt.Sprintf(format, args...),
	})
}

// failAt reports a field's error at its place, or at that of the nearest field
// around it which the file does hold.
func (decoder *decoder) failAt(path, format string, args ...any) {
	for around := path; around != ""; {
		if at, ok := decoder.positions[around]; ok {
			decoder.fail(at, path, format, args...)
			return
		}
		around = around[:max(strings.LastIndexAny(around, ".["), 0)]
	}
	decoder.fail(position{1, 1}, path, format, args...)
}

// decode reads every document into a config that begins with the defaults.
// Only an error that ends the reading is returned; the others are gathered.
func (decoder *decoder) decode(reader io.Reader) (*Config, error) {
	limited := &io.LimitedReader{R: reader, N: MaxSize + 1}
	text, err := io.ReadAll(limited)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", decoder.file, err)
	}
	if len(text) > MaxSize {
		return nil, &Error{File: decoder.file, Line: 1, Column: 1, Message: fmt.Sprintf("larger than %d bytes", MaxSize)}
	}
	config := Default()
	documents := yaml.NewDecoder(strings.NewReader(string(text)))
	for count := 0; ; {
		var document yaml.Node
		err := documents.Decode(&document)
		if errors.Is(err, io.EOF) {
			return config, nil
		}
		if err != nil {
			return nil, decoder.syntaxError(err)
		}
		if len(document.Content) == 0 || document.Content[0].Tag == "!!null" {
			continue // an empty document, as a trailing "---" leaves
		}
		if count++; count > maxDocuments {
			return nil, &Error{File: decoder.file, Line: document.Line, Column: document.Column,
				Message: fmt.Sprintf("more than %d documents", maxDocuments)}
		}
		decoder.document(document.Content[0], config)
	}
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)`)

// syntaxError gives the parser's error the form of the others. The parser
// knows the line only.
func (decoder *decoder) syntaxError(err error) error {
	line, message := 1, "not valid YAML"
	if match := yamlLine.FindStringSubmatch(err.Error()); match != nil {
		if number, err := strconv.Atoi(match[1]); err == nil && number > 0 {
			line = number
		}
		message += ": " + match[2]
		if strings.HasPrefix(match[2], "unknown anchor") {
			// The parser quotes the anchor, which may be a piece of a secret.
			message = "anchors and aliases are not supported: write the value out"
		}
	}
	return &Error{File: decoder.file, Line: line, Column: 1, Message: message}
}

// document decodes one document into the part of the config it is about.
func (decoder *decoder) document(node *yaml.Node, config *Config) {
	at := position{node.Line, node.Column}
	if node.Kind != yaml.MappingNode {
		decoder.unknownKinds++
		decoder.fail(at, "", "expected a document with apiVersion and kind, found %s", describe(node))
		return
	}
	version, kind := scalarField(node, "apiVersion"), scalarField(node, "kind")
	if version == nil || version.Value != APIVersion {
		if version != nil {
			at = position{version.Line, version.Column}
		}
		decoder.fail(at, "apiVersion", "expected %q", APIVersion)
		decoder.unknownKinds++
		return
	}
	var target any
	switch {
	case kind == nil:
	case kind.Value == KindMachine:
		target = config.Machine
	case kind.Value == KindCluster:
		target = config.Cluster
	case kind.Value == KindSecrets:
		target = config.Secrets
	default:
		at = position{kind.Line, kind.Column}
	}
	if target == nil {
		decoder.unknownKinds++
		decoder.fail(at, "kind", "expected Machine, Cluster or Secrets")
		return
	}
	path := documentPath(kind.Value)
	if first, ok := decoder.positions[path]; ok {
		decoder.fail(at, "", "a second document of kind %s: the first one begins at line %d", kind.Value, first.line)
		return
	}
	decoder.positions[path] = at
	decoder.secret = kind.Value == KindSecrets
	decoder.structure(node, path, target)
	decoder.secret = false
}

// documentPath begins the paths of a kind's fields.
func documentPath(kind string) string { return strings.ToLower(kind) }

// scalarField finds a field of a mapping, nil when it is absent or no scalar.
func scalarField(node *yaml.Node, name string) *yaml.Node {
	for i := 0; i+1 < len(node.Content); i += 2 {
		if node.Content[i].Value == name && node.Content[i+1].Kind == yaml.ScalarNode {
			return node.Content[i+1]
		}
	}
	return nil
}
