package layout

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"k8s.io/apimachinery/pkg/runtime/serializer/json"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// Every manifest is one that Kubernetes knows, field by field.
func TestManifestsAreStrictlyRight(t *testing.T) {
	strict := json.NewSerializerWithOptions(json.DefaultMetaFactory, scheme.Scheme, scheme.Scheme, json.SerializerOptions{Yaml: true, Strict: true})
	found := 0
	for _, file := range tracked(t) {
		if !strings.HasPrefix(file, "hack/") || filepath.Ext(file) != ".yaml" || strings.Contains(file, "/testdata/") {
			continue
		}
		content, err := os.ReadFile(filepath.Join(root, file))
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted in the working tree
		}
		if err != nil {
			t.Fatal(err)
		}
		for documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content))); ; {
			document, err := documents.Read()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", file, err)
			}
			if _, _, err := strict.Decode(document, nil, nil); err != nil {
				t.Errorf("%s: %v", file, err)
			}
			found++
		}
	}
	if found < 10 {
		t.Errorf("only %d objects in manifests", found)
	}
}
