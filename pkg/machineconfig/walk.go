package machineconfig

import (
	"encoding"
	"fmt"
	"net/netip"
	"reflect"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// structure decodes a mapping into the struct that target points to.
func (decoder *decoder) structure(node *yaml.Node, path string, target any) {
	decoder.fields(node, path, reflect.ValueOf(target).Elem(), "apiVersion", "kind")
}

// value decodes a node into a value of one of the kinds the schema is made of.
func (decoder *decoder) value(node *yaml.Node, path string, value reflect.Value) {
	decoder.positions[path] = position{node.Line, node.Column}
	if node.Kind == yaml.AliasNode || node.Anchor != "" {
		decoder.failAt(path, "anchors and aliases are not supported: write the value out")
		return
	}
	if text, ok := value.Addr().Interface().(encoding.TextUnmarshaler); ok {
		decoder.text(node, path, text)
		return
	}
	if value.Type() == reflect.TypeFor[time.Duration]() {
		decoder.duration(node, path, value)
		return
	}
	switch value.Kind() {
	case reflect.Struct:
		decoder.fields(node, path, value)
	case reflect.Slice:
		decoder.list(node, path, value)
	case reflect.Map:
		if value.Type().Elem().Kind() == reflect.Struct {
			decoder.entries(node, path, value)
		} else {
			decoder.dictionary(node, path, value)
		}
	case reflect.String:
		if decoder.scalar(node, path, "a string", "!!str") {
			value.SetString(node.Value)
		}
	case reflect.Bool:
		if decoder.scalar(node, path, "true or false", "!!bool") {
			value.SetBool(strings.EqualFold(node.Value, "true"))
		}
	case reflect.Int:
		decoder.integer(node, path, value)
	default:
		panic(fmt.Sprintf("machineconfig: the schema holds a %s at %s", value.Type(), path))
	}
}

// fields decodes a mapping into a struct. skip names fields read elsewhere.
func (decoder *decoder) fields(node *yaml.Node, path string, value reflect.Value, skip ...string) {
	if node.Kind != yaml.MappingNode {
		decoder.failAt(path, "expected fields, found %s", describe(node))
		return
	}
	known := map[string]reflect.Value{}
	var names []string
	for i := range value.NumField() {
		name, _, _ := strings.Cut(value.Type().Field(i).Tag.Get("yaml"), ",")
		known[name] = value.Field(i)
		names = append(names, name)
	}
	for _, name := range skip {
		known[name] = reflect.Value{}
	}
	if holdsSecrets(value.Type()) {
		defer func(before bool) { decoder.secret = before }(decoder.secret)
		decoder.secret = true
	}
	seen := map[string]int{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, content := node.Content[i], node.Content[i+1]
		at := position{key.Line, key.Column}
		field, ok := known[key.Value]
		if !ok || key.Kind != yaml.ScalarNode {
			decoder.fail(at, path, "%s", decoder.unknownField(key.Value, names))
			continue
		}
		if first, ok := seen[key.Value]; ok {
			decoder.fail(at, path+"."+key.Value, "given twice: the first time on line %d", first)
			continue
		}
		seen[key.Value] = key.Line
		if field.IsValid() && content.Tag != "!!null" {
			decoder.value(content, path+"."+key.Value, field)
		}
	}
}

// holdsSecrets tells whether a struct has a field that must not be quoted.
func holdsSecrets(kind reflect.Type) bool {
	for i := range kind.NumField() {
		if kind.Field(i).Type == reflect.TypeFor[Secret]() {
			return true
		}
	}
	return false
}

func (decoder *decoder) unknownField(name string, names []string) string {
	near := nearest(name, names)
	if near != "" {
		return fmt.Sprintf("unknown field %q: did you mean %q?", name, near)
	}
	// What stands in place of a field may be a piece of a key that was
	// indented wrongly.
	if decoder.secret {
		return "unknown field: expected one of " + strings.Join(names, ", ")
	}
	return fmt.Sprintf("unknown field %q: expected one of %s", shorten(name), strings.Join(names, ", "))
}

func (decoder *decoder) list(node *yaml.Node, path string, value reflect.Value) {
	if node.Kind != yaml.SequenceNode {
		decoder.failAt(path, "expected a list, found %s", describe(node))
		return
	}
	list := reflect.MakeSlice(value.Type(), len(node.Content), len(node.Content))
	for i, item := range node.Content {
		decoder.value(item, fmt.Sprintf("%s[%d]", path, i), list.Index(i))
	}
	value.Set(list)
}

// dictionary decodes a mapping of names to texts. Numbers and booleans are
// taken as they are written: "vm.max_map_count: 262144" needs no quotes.
func (decoder *decoder) dictionary(node *yaml.Node, path string, value reflect.Value) {
	if node.Kind != yaml.MappingNode {
		decoder.failAt(path, "expected names and values, found %s", describe(node))
		return
	}
	texts := map[string]string{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, content := node.Content[i], node.Content[i+1]
		item := path + "[" + strconv.Quote(shorten(key.Value)) + "]"
		decoder.positions[item] = position{key.Line, key.Column}
		_, twice := texts[key.Value]
		switch {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			decoder.failAt(item, "expected a name")
		case twice:
			decoder.failAt(item, "given twice")
		case content.Kind != yaml.ScalarNode || content.Tag == "!!null":
			decoder.failAt(item, "expected a text, found %s", describe(content))
		default:
			texts[key.Value] = content.Value
		}
	}
	value.Set(reflect.ValueOf(texts))
}

// entries decodes a mapping of names to fields.
func (decoder *decoder) entries(node *yaml.Node, path string, value reflect.Value) {
	if node.Kind != yaml.MappingNode {
		decoder.failAt(path, "expected names and fields, found %s", describe(node))
		return
	}
	entries := reflect.MakeMap(value.Type())
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, content := node.Content[i], node.Content[i+1]
		item := keyed(path, key.Value)
		decoder.positions[item] = position{key.Line, key.Column}
		switch {
		case key.Kind != yaml.ScalarNode || key.Tag == "!!merge":
			decoder.failAt(item, "expected a name")
			continue
		case entries.MapIndex(reflect.ValueOf(key.Value)).IsValid():
			decoder.failAt(item, "given twice")
			continue
		}
		entry := reflect.New(value.Type().Elem()).Elem()
		if content.Tag != "!!null" {
			decoder.fields(content, item, entry)
		}
		entries.SetMapIndex(reflect.ValueOf(key.Value), entry)
	}
	value.Set(entries)
}

// scalar tells whether a node is a scalar with the tag, and reports it if not.
func (decoder *decoder) scalar(node *yaml.Node, path, expected, tag string) bool {
	if node.Kind == yaml.ScalarNode && node.Tag == tag {
		return true
	}
	hint := ""
	if expected == "a string" && node.Kind == yaml.ScalarNode {
		hint = ": put it in quotes"
	}
	decoder.failAt(path, "expected %s, found %s%s", expected, describe(node), hint)
	return false
}

func (decoder *decoder) integer(node *yaml.Node, path string, value reflect.Value) {
	if !decoder.scalar(node, path, "a number", "!!int") {
		return
	}
	number, err := strconv.Atoi(node.Value)
	if err != nil {
		decoder.failAt(path, "expected a whole number in decimal, found %q", shorten(node.Value))
		return
	}
	value.SetInt(int64(number))
}

func (decoder *decoder) duration(node *yaml.Node, path string, value reflect.Value) {
	const expected = `a duration such as "500ms" or "5s"`
	if !decoder.scalar(node, path, expected, "!!str") {
		return
	}
	duration, err := time.ParseDuration(node.Value)
	if err != nil {
		decoder.failAt(path, "expected %s, found %q", expected, shorten(node.Value))
		return
	}
	value.SetInt(int64(duration))
}

func (decoder *decoder) text(node *yaml.Node, path string, target encoding.TextUnmarshaler) {
	expected := "a text"
	switch target.(type) {
	case *netip.Addr:
		expected = `an IP address such as "10.0.0.5"`
	case *netip.Prefix:
		expected = `an IP address with a prefix length such as "10.0.0.5/24"`
	}
	if !decoder.scalar(node, path, expected, "!!str") {
		return
	}
	if err := target.UnmarshalText([]byte(node.Value)); err != nil || node.Value == "" {
		decoder.failAt(path, "expected %s, found %q", expected, shorten(node.Value))
	}
}

// describe says what a node is, without its value.
func describe(node *yaml.Node) string {
	switch node.Kind {
	case yaml.MappingNode:
		return "fields"
	case yaml.SequenceNode:
		return "a list"
	case yaml.AliasNode:
		return "an alias"
	}
	switch node.Tag {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!null":
		return "nothing"
	case "!!str":
		return "a text"
	}
	return "a value of another type"
}

// shorten keeps a quoted value from filling a console.
func shorten(text string) string {
	const limit = 60
	if len(text) > limit {
		return text[:limit] + "…"
	}
	return text
}
