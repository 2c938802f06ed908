package shop

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/kubernetes/scheme"
)

// manifests is what the shop's manifests hold, by name.
type manifests struct {
	pods     map[string]corev1.PodSpec
	services map[string]corev1.ServiceSpec
	configs  map[string]map[string]string
	claims   []corev1.PersistentVolumeClaim
}

// readManifests reads what "osctl apply -f hack/shop" would.
func readManifests(t *testing.T) manifests {
	t.Helper()
	files, err := filepath.Glob("*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	m := manifests{map[string]corev1.PodSpec{}, map[string]corev1.ServiceSpec{}, map[string]map[string]string{}, nil}
	for _, file := range files {
		for _, object := range readFile(t, file) {
			switch o := object.(type) {
			case *appsv1.Deployment:
				m.pods[o.Name] = o.Spec.Template.Spec
			case *appsv1.StatefulSet:
				m.pods[o.Name] = o.Spec.Template.Spec
				m.claims = append(m.claims, o.Spec.VolumeClaimTemplates...)
			case *corev1.Service:
				m.services[o.Name] = o.Spec
			case *corev1.ConfigMap:
				m.configs[o.Name] = o.Data
			default:
				t.Errorf("%s: this test knows no %T", file, object)
			}
		}
	}
	return m
}

func readFile(t *testing.T, file string) []runtime.Object {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var objects []runtime.Object
	for documents := utilyaml.NewYAMLReader(bufio.NewReader(bytes.NewReader(content))); ; {
		document, err := documents.Read()
		if errors.Is(err, io.EOF) {
			return objects
		}
		if err != nil {
			t.Fatal(err)
		}
		object, _, err := scheme.Codecs.UniversalDeserializer().Decode(document, nil, nil)
		if err != nil {
			t.Fatalf("%s: %v", file, err)
		}
		objects = append(objects, object)
	}
}
