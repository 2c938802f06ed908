package localpath

import (
	corev1 "k8s.io/api/core/v1"
)

// provisioner is what a StorageClass names to have its volumes made here.
const provisioner = "keelson.dev/local-path"

// What our volumes bear. Volumes are watched by the label, each node's apart, so
// its value is a node's name.
const (
	nodeLabel = "keelson.dev/node"
	finalizer = "keelson.dev/local-path" // until the folder is gone, so is not the volume
)

// Annotations by which Kubernetes' volume controller, its scheduler and
// provisioners speak to each other.
const (
	provisionerKey     = "volume.kubernetes.io/storage-provisioner"
	betaProvisionerKey = "volume.beta.kubernetes.io/storage-provisioner"
	selectedNodeKey    = "volume.kubernetes.io/selected-node"
	provisionedByKey   = "pv.kubernetes.io/provisioned-by"
)

// claimKey names one claim for good: another of the same name has another UID.
type claimKey struct{ namespace, name, uid string }

func keyOf(claim *corev1.PersistentVolumeClaim) claimKey {
	return claimKey{claim.Namespace, claim.Name, string(claim.UID)}
}

func (k claimKey) String() string { return k.namespace + "/" + k.name }

// volumeName is the name of a claim's volume, and of its folder. It is the one
// that every provisioner gives, and no other claim ever has it.
func volumeName(claim *corev1.PersistentVolumeClaim) string { return "pvc-" + string(claim.UID) }

// isPending tells whether a claim waits for a volume from us.
func isPending(claim *corev1.PersistentVolumeClaim) bool {
	asked := claim.Annotations[provisionerKey]
	if asked == "" {
		asked = claim.Annotations[betaProvisionerKey]
	}
	return asked == provisioner && claim.Spec.VolumeName == "" && claim.DeletionTimestamp == nil
}

// className is the claim's StorageClass.
func className(claim *corev1.PersistentVolumeClaim) string {
	if claim.Spec.StorageClassName == nil {
		return claim.Annotations[corev1.BetaStorageClassAnnotation]
	}
	return *claim.Spec.StorageClassName
}
