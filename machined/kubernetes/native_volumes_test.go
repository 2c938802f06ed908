package kubernetes

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/pki"
)

const (
	claimsPath  = "/api/v1/namespaces/default/persistentvolumeclaims"
	volumesPath = "/api/v1/persistentvolumes"
)

// testVolumes runs the provisioner on the real control plane: a claim whose node
// is chosen is bound, and what was deleted is gone from cluster and disk.
func (n *native) testVolumes(t *testing.T) {
	node := n.k.options.Hostname
	n.testForeignVolumes(t, node)
	if os.Getuid() != 0 {
		t.Skip("needs root: volumes are root's")
	}
	n.start(n.k.localPath())
	for name, policy := range map[string]string{"removed": "Delete", "kept": "Retain"} {
		if err := n.k.api.send(t.Context(), http.MethodPost, claimsPath, "application/json", claimFor(name, node)); err != nil {
			t.Fatal(err)
		}
		volume := n.boundVolume(t, name)
		folder := n.k.path(volumesDir, volume)
		if info, err := os.Stat(folder); err != nil || info.Mode().Perm() != 0o777 {
			t.Fatalf("the folder of %s: %v, %v", name, info, err)
		}
		if err := os.WriteFile(filepath.Join(folder, "data"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		patch := map[string]any{"spec": map[string]any{"persistentVolumeReclaimPolicy": policy}}
		if err := n.k.api.send(t.Context(), http.MethodPatch, volumesPath+"/"+volume, "application/merge-patch+json", patch); err != nil {
			t.Fatal(err)
		}
		if err := n.k.api.send(t.Context(), http.MethodDelete, claimsPath+"/"+name, "", map[string]any{}); err != nil {
			t.Fatal(err)
		}
		n.eventually(t, "the volume of "+name+" comes to its end", func() error { return n.ended(t, volume, policy == "Retain") })
		if policy == "Retain" {
			// The way that docs/volumes.md shows.
			if err := n.k.api.send(t.Context(), http.MethodDelete, volumesPath+"/"+volume, "", map[string]any{}); err != nil {
				t.Fatal(err)
			}
			n.eventually(t, "the kept volume is forgotten", func() error { return n.forgotten(t, volume) })
			if _, err := os.Stat(filepath.Join(folder, "data")); err != nil {
				t.Errorf("data of a kept volume: %v", err)
			}
		}
	}
	n.kill(n.processes[LocalPath])
}

func claimFor(name, node string) map[string]any {
	return map[string]any{
		"apiVersion": "v1", "kind": "PersistentVolumeClaim",
		// The scheduler writes this when it places the claim's first pod.
		"metadata": map[string]any{"name": name, "annotations": map[string]any{"volume.kubernetes.io/selected-node": node}},
		"spec": map[string]any{ // of the default class
			"accessModes": []any{"ReadWriteOnce"},
			"resources":   map[string]any{"requests": map[string]any{"storage": "1Mi"}},
		},
	}
}

func (n *native) boundVolume(t *testing.T, claim string) string {
	t.Helper()
	var object struct {
		Spec   struct{ VolumeName, StorageClassName string }
		Status struct{ Phase string }
	}
	n.eventually(t, "the claim "+claim+" is bound", func() error {
		if err := n.k.api.get(t.Context(), claimsPath+"/"+claim, &object); err != nil {
			return err
		}
		if object.Status.Phase != "Bound" {
			return fmt.Errorf("it is %s; the provisioner says:\n%s", object.Status.Phase, n.processes[LocalPath].log.tail())
		}
		return nil
	})
	if object.Spec.StorageClassName != "local-path" {
		t.Errorf("the default class is %q", object.Spec.StorageClassName)
	}
	return object.Spec.VolumeName
}

func (n *native) forgotten(t *testing.T, volume string) error {
	err := n.k.api.check(t.Context(), volumesPath+"/"+volume)
	if !isNotFound(err) {
		return fmt.Errorf("the volume is still there (%v); the provisioner says:\n%s", err, n.processes[LocalPath].log.tail())
	}
	return nil
}

// ended checks a volume without a claim: kept as it is, or gone with its data.
func (n *native) ended(t *testing.T, volume string, kept bool) error {
	if !kept {
		if err := n.forgotten(t, volume); err != nil {
			return err
		}
		if _, err := os.Stat(n.k.path(volumesDir, volume)); !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("its folder is still there (%v)", err)
		}
		return nil
	}
	var object struct {
		Metadata struct{ Finalizers []string }
		Status   struct{ Phase string }
	}
	if err := n.k.api.get(t.Context(), volumesPath+"/"+volume, &object); err != nil {
		return err
	}
	if object.Status.Phase != "Released" || len(object.Metadata.Finalizers) != 1 { // Kubernetes' own
		return fmt.Errorf("it is %s, with finalizers %q", object.Status.Phase, object.Metadata.Finalizers)
	}
	return nil
}

// testForeignVolumes is what the keys of one worker open: its own volumes.
func (n *native) testForeignVolumes(t *testing.T, node string) {
	const group = "keelson:local-path-provisioner"
	pair, err := n.k.ca.Issue(pki.Request{CommonName: group + ":worker-1", Organizations: []string{group}, Client: true, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		t.Fatal(err)
	}
	worker := n.with(cert)
	volume := func(name, node, path string) map[string]any {
		return map[string]any{
			"apiVersion": "v1", "kind": "PersistentVolume",
			"metadata": map[string]any{"name": name, "labels": map[string]any{"keelson.dev/node": node}},
			"spec": map[string]any{
				"capacity": map[string]any{"storage": "1Mi"}, "accessModes": []any{"ReadWriteOnce"}, "storageClassName": "by-hand",
				"local": map[string]any{"path": path},
				"nodeAffinity": map[string]any{"required": map[string]any{"nodeSelectorTerms": []any{map[string]any{
					"matchExpressions": []any{map[string]any{"key": "kubernetes.io/hostname", "operator": "In", "values": []any{node}}},
				}}}},
			},
		}
	}
	for name, object := range map[string]map[string]any{
		"theirs":  volume("theirs", node, volumesDir+"/theirs"),
		"claimed": claimFor("claimed", node),
		"ours":    claimFor("ours", "worker-1"),
	} {
		path := map[bool]string{true: volumesPath, false: claimsPath}[object["kind"] == "PersistentVolume"]
		if err := n.k.api.send(t.Context(), http.MethodPost, path, "application/json", object); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	n.eventually(t, "the policy is in force", func() error {
		err := worker.send(t.Context(), http.MethodPost, volumesPath+"?dryRun=All", "application/json", volume("x", node, volumesDir+"/x"))
		if got := code(err); got != http.StatusUnprocessableEntity {
			return fmt.Errorf("a volume of another node: %v, want 422", err)
		}
		return nil
	})
	let := map[string]any{"metadata": map[string]any{"annotations": map[string]any{"volume.kubernetes.io/selected-node": nil}}}
	grab := map[string]any{"metadata": map[string]any{"annotations": map[string]any{"volume.kubernetes.io/selected-node": "worker-1"}}}
	label := map[string]any{"metadata": map[string]any{"labels": map[string]any{"keelson.dev/node": "worker-1"}}}
	for _, c := range []struct {
		method, path string
		object       map[string]any
		want         int
	}{
		{http.MethodPost, volumesPath, volume("outside", "worker-1", "/etc"), 422},
		{http.MethodPost, volumesPath, volume("mine", "worker-1", volumesDir+"/mine"), 200},
		{http.MethodPatch, volumesPath + "/theirs", label, 422},
		{http.MethodDelete, volumesPath + "/theirs", map[string]any{}, 422},
		{http.MethodDelete, volumesPath + "/mine", map[string]any{}, 200},
		{http.MethodPatch, claimsPath + "/claimed", grab, 422},
		{http.MethodPatch, claimsPath + "/claimed", let, 422},
		{http.MethodPatch, claimsPath + "/ours", map[string]any{"metadata": map[string]any{"finalizers": []any{}}}, 422},
		{http.MethodPatch, claimsPath + "/ours", let, 200},
		{http.MethodDelete, claimsPath + "/ours", map[string]any{}, 403},
		{http.MethodGet, "/api/v1/namespaces/default/secrets", nil, 403},
	} {
		contentType := map[string]string{http.MethodPost: "application/json", http.MethodPatch: "application/merge-patch+json"}[c.method]
		if got := code(worker.send(t.Context(), c.method, c.path, contentType, c.object)); got != c.want {
			t.Errorf("worker-1's provisioner, %s %s: %d, want %d", c.method, c.path, got, c.want)
		}
	}
}
