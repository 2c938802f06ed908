package localpath

import (
	"errors"
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
)

const gib = int64(1) << 30

var here = place{node: "node-1", folder: "/var/lib/volumes"}

// newClaim is a claim as it is once the scheduler has chosen a node.
func newClaim(name, node string, change ...func(*corev1.PersistentVolumeClaim)) *corev1.PersistentVolumeClaim {
	class := "local-path"
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Namespace: "shop", UID: types.UID("uid-of-" + name), ResourceVersion: "7",
			Annotations: map[string]string{provisionerKey: provisioner, selectedNodeKey: node},
		},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: &class,
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("10Gi")}},
		},
	}
	for _, each := range change {
		each(claim)
	}
	return claim
}

func newClass(change ...func(*storagev1.StorageClass)) *storagev1.StorageClass {
	mode, policy := storagev1.VolumeBindingWaitForFirstConsumer, corev1.PersistentVolumeReclaimDelete
	class := &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: "local-path"}, Provisioner: provisioner,
		VolumeBindingMode: &mode, ReclaimPolicy: &policy,
	}
	for _, each := range change {
		each(class)
	}
	return class
}

func TestCheckClaim(t *testing.T) {
	type claim = corev1.PersistentVolumeClaim
	block, attributes := corev1.PersistentVolumeBlock, "fast"
	for name, c := range map[string]struct {
		claim     func(*claim)
		class     func(*storagev1.StorageClass)
		want      string // in the message; "" is no refusal
		elsewhere bool
	}{
		"plain": {},
		"one pod only": {claim: func(c *claim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOncePod}
		}},
		"as large as the disk": {claim: func(c *claim) {
			c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("100Gi")
		}},
		"larger than the disk": {claim: func(c *claim) {
			c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("101Gi")
		}, want: "101Gi is asked for, and the disk of node node-1 has 100Gi in all: ask for less", elsewhere: true},
		"block": {claim: func(c *claim) { c.Spec.VolumeMode = &block }, want: "volumeMode Block is asked for"},
		"several nodes": {claim: func(c *claim) {
			c.Spec.AccessModes = append(c.Spec.AccessModes, corev1.ReadWriteMany)
		}, want: "accessMode ReadWriteMany is asked for"},
		"read by several nodes": {claim: func(c *claim) {
			c.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadOnlyMany}
		}, want: "make the claim again with ReadWriteOnce or ReadWriteOncePod"},
		"copy": {claim: func(c *claim) {
			c.Spec.DataSource = &corev1.TypedLocalObjectReference{Kind: "PersistentVolumeClaim", Name: "other"}
		}, want: "a dataSource is asked for"},
		"populated": {claim: func(c *claim) {
			c.Spec.DataSourceRef = &corev1.TypedObjectReference{Kind: "Populator", Name: "other"}
		}, want: "a dataSource is asked for"},
		"selector":   {claim: func(c *claim) { c.Spec.Selector = &metav1.LabelSelector{} }, want: "a selector is set"},
		"attributes": {claim: func(c *claim) { c.Spec.VolumeAttributesClassName = &attributes }, want: "volumeAttributesClassName fast"},
		"parameters": {class: func(c *storagev1.StorageClass) {
			c.Parameters = map[string]string{"pathPattern": "x", "nodePath": "/"}
		}, want: "has parameters (nodePath, pathPattern), and keelson.dev/local-path knows none"},
		"class of another": {class: func(c *storagev1.StorageClass) { c.Provisioner = "example.com/x" }, want: "has the provisioner example.com/x now"},
	} {
		var claims []func(*claim)
		if c.claim != nil {
			claims = append(claims, c.claim)
		}
		var classes []func(*storagev1.StorageClass)
		if c.class != nil {
			classes = append(classes, c.class)
		}
		err := checkClaim(newClaim("data", here.node, claims...), newClass(classes...), here.node, 100*gib)
		if c.want == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		refused, ok := errors.AsType[*refusal](err)
		if !ok || !strings.Contains(err.Error(), c.want) || refused.elsewhere != c.elsewhere {
			t.Errorf("%s: %v, want %q, elsewhere %t", name, err, c.want, c.elsewhere)
		}
	}
}

func TestVolumeIsOfItsClaimAndNode(t *testing.T) {
	retain := corev1.PersistentVolumeReclaimRetain
	claim := newClaim("data", here.node)
	for name, c := range map[string]struct {
		class     *storagev1.StorageClass
		policy    corev1.PersistentVolumeReclaimPolicy
		protected bool
	}{
		"delete":     {newClass(), corev1.PersistentVolumeReclaimDelete, true},
		"no policy":  {newClass(func(c *storagev1.StorageClass) { c.ReclaimPolicy = nil }), corev1.PersistentVolumeReclaimDelete, true},
		"keep it":    {newClass(func(c *storagev1.StorageClass) { c.ReclaimPolicy = &retain }), retain, false},
		"no program": {newClass(func(c *storagev1.StorageClass) { c.MountOptions = []string{"noexec"} }), corev1.PersistentVolumeReclaimDelete, true},
	} {
		volume := newVolume(claim, c.class, here)
		if volume.Name != "pvc-uid-of-data" || volume.Spec.Local.Path != "/var/lib/volumes/pvc-uid-of-data" {
			t.Errorf("%s: volume %s at %s", name, volume.Name, volume.Spec.Local.Path)
		}
		if nodeOf(volume) != here.node || volume.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0] != here.node {
			t.Errorf("%s: not tied to the node: %+v", name, volume)
		}
		if volume.Spec.ClaimRef.UID != claim.UID || volume.Spec.StorageClassName != c.class.Name {
			t.Errorf("%s: not the claim's: %+v", name, volume.Spec)
		}
		if got := volume.Spec.PersistentVolumeReclaimPolicy; got != c.policy || (len(volume.Finalizers) == 1) != c.protected {
			t.Errorf("%s: policy %s, finalizers %q", name, got, volume.Finalizers)
		}
		if len(volume.Spec.MountOptions) != len(c.class.MountOptions) {
			t.Errorf("%s: mount options %q", name, volume.Spec.MountOptions)
		}
		want := claim.Spec.Resources.Requests[corev1.ResourceStorage]
		if got := volume.Spec.Capacity[corev1.ResourceStorage]; got.Cmp(want) != 0 {
			t.Errorf("%s: capacity %s", name, got.String())
		}
	}
}
