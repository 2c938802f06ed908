package localpath

import (
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// refusal says why a claim gets no volume, and what to do.
type refusal struct {
	text string
	// elsewhere: another node may have what this one has not.
	elsewhere bool
}

func (r *refusal) Error() string { return r.text }

func refuse(format string, args ...any) error { return &refusal{text: fmt.Sprintf(format, args...)} }

// place is where a node's volumes are.
type place struct {
	node, folder string
}

func (p place) path(volume string) string { return filepath.Join(p.folder, volume) }

// checkClaim refuses what a folder cannot be. size is what the node's disk could
// hold if it were empty, in bytes: claims may add up to more than that, as on
// any disk that programs share, but one that never fits is a mistake.
func checkClaim(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, node string, size int64) error {
	spec := claim.Spec
	if class.Provisioner != provisioner {
		return refuse("StorageClass %s has the provisioner %s now: delete the claim and make it again", class.Name, class.Provisioner)
	}
	if names := slices.Sorted(maps.Keys(class.Parameters)); len(names) > 0 {
		return refuse("StorageClass %s has parameters (%s), and %s knows none: make the class again without them", class.Name, strings.Join(names, ", "), provisioner)
	}
	if spec.VolumeMode != nil && *spec.VolumeMode != corev1.PersistentVolumeFilesystem {
		return refuse("volumeMode %s is asked for, and StorageClass %s has folders only: make the claim again with volumeMode Filesystem, or with another class", *spec.VolumeMode, class.Name)
	}
	for _, mode := range spec.AccessModes {
		if mode != corev1.ReadWriteOnce && mode != corev1.ReadWriteOncePod {
			return refuse("accessMode %s is asked for, and a volume of StorageClass %s is on one node only: make the claim again with ReadWriteOnce or ReadWriteOncePod, or with another class", mode, class.Name)
		}
	}
	if spec.DataSource != nil || spec.DataSourceRef != nil {
		return refuse("a dataSource is asked for, and volumes of StorageClass %s begin empty: make the claim again without it", class.Name)
	}
	if spec.Selector != nil {
		return refuse("a selector is set, and new volumes have no labels to select by: make the claim again without it")
	}
	if spec.VolumeAttributesClassName != nil && *spec.VolumeAttributesClassName != "" {
		return refuse("volumeAttributesClassName %s is asked for, and %s knows none: make the claim again without it", *spec.VolumeAttributesClassName, provisioner)
	}
	if asked := spec.Resources.Requests[corev1.ResourceStorage]; asked.CmpInt64(size) > 0 {
		return &refusal{
			text: fmt.Sprintf("%s is asked for, and the disk of node %s has %s in all: ask for less, or add a node with a larger disk",
				asked.String(), node, readable(size)),
			elsewhere: true,
		}
	}
	return nil
}

// readable renders a size in Gi, in Mi if it is small.
func readable(size int64) string {
	unit := int64(1) << 30
	if size < 10*unit {
		unit = 1 << 20
	}
	return resource.NewQuantity(size/unit*unit, resource.BinarySI).String()
}

// newVolume describes a claim's volume to Kubernetes. It is of the kind "local",
// not "hostPath": the scheduler keeps its pods on the node, kubelet gives it to
// the pod's fsGroup and refuses it when the folder is missing rather than make
// another.
func newVolume(claim *corev1.PersistentVolumeClaim, class *storagev1.StorageClass, at place) *corev1.PersistentVolume {
	name := volumeName(claim)
	policy := corev1.PersistentVolumeReclaimDelete
	if class.ReclaimPolicy != nil {
		policy = *class.ReclaimPolicy
	}
	mode := corev1.PersistentVolumeFilesystem
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name:        name,
			Labels:      map[string]string{nodeLabel: at.node},
			Annotations: map[string]string{provisionedByKey: provisioner},
		},
		Spec: corev1.PersistentVolumeSpec{
			AccessModes:                   claim.Spec.AccessModes,
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: claim.Spec.Resources.Requests[corev1.ResourceStorage]},
			PersistentVolumeReclaimPolicy: policy,
			StorageClassName:              class.Name,
			MountOptions:                  class.MountOptions,
			VolumeMode:                    &mode,
			ClaimRef: &corev1.ObjectReference{
				APIVersion: "v1", Kind: "PersistentVolumeClaim",
				Namespace: claim.Namespace, Name: claim.Name, UID: claim.UID, ResourceVersion: claim.ResourceVersion,
			},
			PersistentVolumeSource: corev1.PersistentVolumeSource{Local: &corev1.LocalVolumeSource{Path: at.path(name)}},
			// By a label, because kubelet looks at nothing else of its node.
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{
					Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{at.node},
				}},
			}}}},
		},
	}
	if policy == corev1.PersistentVolumeReclaimDelete {
		volume.Finalizers = []string{finalizer}
	}
	return volume
}
