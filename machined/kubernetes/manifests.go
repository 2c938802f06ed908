package kubernetes

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"go.yaml.in/yaml/v3"
)

// manifest is one object that the cluster must hold.
type manifest struct {
	kind, name string
	collection string // the path of all objects of its kind
	object     map[string]any
}

func (m manifest) path() string { return m.collection + "/" + m.name }

func (m manifest) String() string { return m.kind + " " + m.name }

// collections are the kinds that manifests may have. All are without namespace
// and few, so that one list per kind shows what the cluster holds.
var collections = map[string]string{
	"ClusterRole":        "/apis/rbac.authorization.k8s.io/v1/clusterroles",
	"ClusterRoleBinding": "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings",
	"StorageClass":       storageClasses,

	"ValidatingAdmissionPolicy":        "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicies",
	"ValidatingAdmissionPolicyBinding": "/apis/admissionregistration.k8s.io/v1/validatingadmissionpolicybindings",
}

// Every manifest has this label, by which it is found again.
const (
	managedLabel = "app.kubernetes.io/managed-by"
	managedBy    = "keelson"
)

// parseManifests reads the built-in manifests.
func parseManifests() ([]manifest, error) {
	var list []manifest
	decoder := yaml.NewDecoder(bytes.NewReader(static("manifests.yaml")))
	for {
		object := map[string]any{}
		err := decoder.Decode(&object)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read the built-in manifests: %w", err)
		}
		kind, _ := object["kind"].(string)
		metadata, _ := object["metadata"].(map[string]any)
		name, _ := metadata["name"].(string)
		if collections[kind] == "" || name == "" || strings.Contains(name, "/") {
			return nil, fmt.Errorf("read the built-in manifests: %s %q is of no kind that can be applied", kind, name)
		}
		metadata["labels"] = map[string]any{managedLabel: managedBy}
		list = append(list, manifest{kind: kind, name: name, collection: collections[kind], object: object})
	}
}

// pending returns the manifests that the live objects, by path, do not show.
func pending(manifests []manifest, live map[string]any) []manifest {
	var list []manifest
	for _, each := range manifests {
		// A list's items bear no kind or version of their own.
		wanted := map[string]any{}
		for key, value := range each.object {
			if key != "kind" && key != "apiVersion" {
				wanted[key] = value
			}
		}
		if seeded[each.kind] && live[each.path()] != nil {
			continue
		}
		if !covers(live[each.path()], wanted) {
			list = append(list, each)
		}
	}
	return list
}

// covers tells whether live has everything that wanted has. Objects may hold
// more, lists not: those of RBAC are replaced as a whole.
func covers(live, wanted any) bool {
	switch wanted := wanted.(type) {
	case map[string]any:
		live, ok := live.(map[string]any)
		if !ok {
			return false
		}
		for key, value := range wanted {
			if !covers(live[key], value) {
				return false
			}
		}
		return true
	case []any:
		live, ok := live.([]any)
		if !ok || len(live) != len(wanted) {
			return false
		}
		for i := range wanted {
			if !covers(live[i], wanted[i]) {
				return false
			}
		}
		return true
	default:
		return live == wanted
	}
}
