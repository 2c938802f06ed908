package kubernetes

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"strings"

	"go.yaml.in/yaml/v3"
)

// manifest is one object that the cluster must hold.
type manifest struct {
	kind      string
	namespace string // empty for a kind without
	name      string
	object    map[string]any
}

func (m manifest) path() string { return kinds[m.kind].path(m.namespace, m.name) }

func (m manifest) String() string {
	if m.namespace != "" {
		return m.kind + " " + m.namespace + "/" + m.name
	}
	return m.kind + " " + m.name
}

// kind is where the API server has the objects of a kind.
type kind struct {
	version    string // group and version, as manifests write them
	plural     string
	namespaced bool
}

// kinds are those that manifests may have. They are few, and one list of each
// shows what the cluster holds.
var kinds = map[string]kind{
	"APIService":                       {version: "apiregistration.k8s.io/v1", plural: "apiservices"},
	"ClusterRole":                      {version: "rbac.authorization.k8s.io/v1", plural: "clusterroles"},
	"ClusterRoleBinding":               {version: "rbac.authorization.k8s.io/v1", plural: "clusterrolebindings"},
	"Service":                          {version: "v1", plural: "services", namespaced: true},
	"StorageClass":                     {version: "storage.k8s.io/v1", plural: "storageclasses"},
	"ValidatingAdmissionPolicy":        {version: "admissionregistration.k8s.io/v1", plural: "validatingadmissionpolicies"},
	"ValidatingAdmissionPolicyBinding": {version: "admissionregistration.k8s.io/v1", plural: "validatingadmissionpolicybindings"},
}

// root is the path of the kind's API.
func (k kind) root() string {
	if strings.Contains(k.version, "/") {
		return "/apis/" + k.version
	}
	return "/api/" + k.version
}

// all is the path of the kind's objects, those of all namespaces together.
func (k kind) all() string { return k.root() + "/" + k.plural }

// path is the path of one object.
func (k kind) path(namespace, name string) string {
	if k.namespaced {
		return k.root() + "/namespaces/" + namespace + "/" + k.plural + "/" + name
	}
	return k.all() + "/" + name
}

// Every manifest has this label, by which it is found again.
const (
	managedLabel = "app.kubernetes.io/managed-by"
	managedBy    = "keelson"
)

// builtIn reads the built-in manifests, in the order in which they are applied.
func (k *Kubernetes) builtIn() ([]manifest, error) {
	metrics, err := k.metricsManifests()
	if err != nil {
		return nil, err
	}
	var list []manifest
	for _, text := range [][]byte{static("manifests.yaml"), metrics} {
		more, err := parseManifests(text)
		if err != nil {
			return nil, fmt.Errorf("read the built-in manifests: %w", err)
		}
		list = append(list, more...)
	}
	return list, nil
}

// parseManifests reads the documents of a YAML text.
func parseManifests(text []byte) ([]manifest, error) {
	var list []manifest
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	for {
		var document map[string]any
		err := decoder.Decode(&document)
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, err
		}
		each, err := newManifest(document)
		if err != nil {
			return nil, err
		}
		list = append(list, each)
	}
}

func newManifest(document map[string]any) (manifest, error) {
	// As the API server's answers are read, so that the two can be compared: all
	// numbers are of one type.
	text, err := json.Marshal(document)
	if err != nil {
		return manifest{}, err
	}
	var object map[string]any
	if err := json.Unmarshal(text, &object); err != nil {
		return manifest{}, err
	}
	metadata, _ := object["metadata"].(map[string]any)
	m := manifest{object: object}
	m.kind, _ = object["kind"].(string)
	m.name, _ = metadata["name"].(string)
	m.namespace, _ = metadata["namespace"].(string)
	where, known := kinds[m.kind]
	switch {
	case m.name == "" || strings.Contains(m.name+m.namespace, "/"):
		return manifest{}, fmt.Errorf("%s %q has no name that can be applied", m.kind, m.name)
	case !known || object["apiVersion"] != where.version:
		return manifest{}, fmt.Errorf("%s: %v %s is of no kind that can be applied", m, object["apiVersion"], m.kind)
	case where.namespaced != (m.namespace != ""):
		return manifest{}, fmt.Errorf("%s: the namespace is missing or too much", m)
	}
	labels := map[string]any{managedLabel: managedBy}
	if own, ok := metadata["labels"].(map[string]any); ok {
		maps.Copy(labels, own)
	}
	metadata["labels"] = labels
	return m, nil
}

// pending returns the manifests that the live objects, by path, do not show.
func pending(manifests []manifest, live map[string]any) []manifest {
	var list []manifest
	for _, each := range manifests {
		// A list's items bear no kind or version of their own.
		wanted := maps.Clone(each.object)
		delete(wanted, "kind")
		delete(wanted, "apiVersion")
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
// more, lists not: those of ours are replaced as a whole.
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
