package localpath

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// step is what is due for one of our volumes.
type step int

const (
	leave   step = iota // nothing
	protect             // keep Kubernetes from forgetting it before its folder is gone
	release             // let Kubernetes forget it; the folder stays
	remove              // remove the folder, then the volume
)

// nextStep decides by the volume alone: whether its claim is gone is for
// Kubernetes' volume controller to say, by the phase. A volume that we did not
// make, or that says to be elsewhere than where we make it, is none of ours.
func nextStep(volume *corev1.PersistentVolume, folder string) step {
	if volume.Annotations[provisionedByKey] != provisioner || volume.Spec.Local == nil ||
		volume.Spec.Local.Path != (place{folder: folder}).path(volume.Name) {
		return leave
	}
	protected := slices.Contains(volume.Finalizers, finalizer)
	leaving := volume.DeletionTimestamp != nil
	switch {
	case volume.Spec.PersistentVolumeReclaimPolicy != corev1.PersistentVolumeReclaimDelete:
		if protected {
			return release
		}
		return leave
	case leaving && !protected:
		return leave // what kept it was removed by hand: whoever did so has the folder to look after
	case volume.Status.Phase == corev1.VolumeReleased:
		return remove
	case !protected:
		return protect // its policy became Delete again
	default:
		return leave
	}
}

// nodeOf is the node that a volume of ours is on.
func nodeOf(volume *corev1.PersistentVolume) string { return volume.Labels[nodeLabel] }
