package localpath

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/klog/v2"
)

// What concerns another node is looked at once that node had its time, and again
// as long as it has not done its part.
const (
	foreignAfter = time.Minute
	foreignEvery = 5 * time.Minute
)

// syncForeignClaim looks after a claim that no node is going to serve.
func (a *agent) syncForeignClaim(ctx context.Context, claim *corev1.PersistentVolumeClaim, node string) (again time.Duration, err error) {
	if node == "" {
		class, err := a.class(ctx, claim)
		if err != nil || class.VolumeBindingMode != nil && *class.VolumeBindingMode == storagev1.VolumeBindingWaitForFirstConsumer {
			return 0, err // the scheduler chooses
		}
		return 0, refuse("StorageClass %s has volumeBindingMode Immediate, and the node of a volume is known only with its pod: make the class again with WaitForFirstConsumer", class.Name)
	}
	if gone, err := a.isGone(ctx, node); err != nil || !gone {
		return foreignEvery, err
	}
	if chosen, err := a.chooseAnew(ctx, claim); err != nil || !chosen {
		return 0, err
	}
	a.events.Eventf(claim, corev1.EventTypeWarning, "ProvisioningFailed",
		"node %s was chosen for this volume and is not in the cluster any more: the scheduler chooses another", node)
	return 0, nil
}

// syncForeignVolume forgets a volume that was to be removed by a node that has
// left the cluster, its disk with it.
func (a *agent) syncForeignVolume(ctx context.Context, volume *corev1.PersistentVolume, node string) (again time.Duration, err error) {
	if !a.forGone || nextStep(volume, a.at.folder) != remove {
		return 0, nil
	}
	if gone, err := a.isGone(ctx, node); err != nil || !gone {
		return foreignEvery, err
	}
	if err := a.forget(ctx, volume); err != nil {
		return 0, err
	}
	klog.InfoS("Volume forgotten: its node is not in the cluster any more", "volume", volume.Name, "node", node)
	return 0, nil
}

func (a *agent) isGone(ctx context.Context, node string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, callsTimeout)
	defer cancel()
	_, err := a.client.CoreV1().Nodes().Get(ctx, node, metav1.GetOptions{})
	if err != nil && !apierrors.IsNotFound(err) {
		return false, fmt.Errorf("get node %s: %w", node, err)
	}
	return err != nil, nil
}
