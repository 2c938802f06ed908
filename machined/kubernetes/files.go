package kubernetes

import (
	"bytes"
	"embed"
	"fmt"
	"text/template"
)

//go:embed files
var files embed.FS

var templates = template.Must(template.New("").Option("missingkey=error").ParseFS(files, "files/*.tmpl"))

// static returns a file that is the same on every node.
func static(name string) []byte {
	text, err := files.ReadFile("files/" + name)
	if err != nil {
		panic(err) // embedded: a mistake of the code, which every test finds
	}
	return text
}

// render fills a template in. Values come from a validated config: names,
// addresses and numbers, which YAML needs no quotes for.
func render(name string, data any) ([]byte, error) {
	var text bytes.Buffer
	if err := templates.ExecuteTemplate(&text, name, data); err != nil {
		return nil, fmt.Errorf("render %s: %w", name, err)
	}
	return text.Bytes(), nil
}
