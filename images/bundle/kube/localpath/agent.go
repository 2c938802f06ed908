package localpath

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"

	"golang.org/x/sys/unix"
)

// Deadlines: of all calls for one claim, and of one attempt to remove a folder,
// which goes on where the last one stopped.
const (
	callsTimeout  = time.Minute
	removeTimeout = 10 * time.Minute
)

// agent makes and removes this node's volumes.
type agent struct {
	client  kubernetes.Interface
	at      place
	disk    *folder
	watches *watches
	events  record.EventRecorder
	// forGone: what a node that is gone should do is done here.
	forGone bool
}

// syncClaim does what is due for a claim.
func (a *agent) syncClaim(ctx context.Context, key claimKey) (again time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, callsTimeout)
	defer cancel()
	claim := a.watches.claim(key)
	if claim == nil || !isPending(claim) {
		return 0, nil
	}
	node := claim.Annotations[selectedNodeKey]
	switch {
	case node == a.at.node:
		err = a.provision(ctx, claim)
	case !a.forGone:
		return 0, nil
	default:
		again, err = a.syncForeignClaim(ctx, claim, node)
	}
	if err == nil {
		return again, nil
	}
	a.events.Event(claim, corev1.EventTypeWarning, "ProvisioningFailed", err.Error())
	if refused, ok := errors.AsType[*refusal](err); ok && refused.elsewhere {
		_, patchErr := a.chooseAnew(ctx, claim)
		err = errors.Join(err, patchErr)
	}
	return 0, err
}

// provision makes a claim's volume: first the folder, then the object. Begun
// again after any interruption it comes to the same.
func (a *agent) provision(ctx context.Context, claim *corev1.PersistentVolumeClaim) error {
	class, err := a.class(ctx, claim)
	if err != nil {
		return err
	}
	size, err := a.disk.size()
	if err != nil {
		return err
	}
	if err := checkClaim(claim, class, a.at.node, size); err != nil {
		return err
	}
	volume := newVolume(claim, class, a.at)
	if err := a.disk.create(volume.Name); err != nil {
		if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
			return &refusal{text: fmt.Sprintf("the disk of node %s is full: delete volumes or images that are not needed (%v)", a.at.node, err), elsewhere: true}
		}
		return fmt.Errorf("node %s: %w", a.at.node, err)
	}
	switch _, err := a.client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{}); {
	case apierrors.IsAlreadyExists(err): // ours: no other claim's has this name
	case err != nil:
		return fmt.Errorf("create PersistentVolume %s: %w", volume.Name, err)
	default:
		klog.InfoS("Volume made", "claim", klog.KObj(claim), "volume", volume.Name)
		a.events.Eventf(claim, corev1.EventTypeNormal, "ProvisioningSucceeded", "volume %s is made on node %s", volume.Name, a.at.node)
	}
	return nil
}

func (a *agent) class(ctx context.Context, claim *corev1.PersistentVolumeClaim) (*storagev1.StorageClass, error) {
	name := className(claim)
	class, err := a.client.StorageV1().StorageClasses().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, refuse("StorageClass %q is gone: make it again, or the claim with another class", name)
	}
	if err != nil {
		return nil, fmt.Errorf("get StorageClass %s: %w", name, err)
	}
	return class, nil
}

// chooseAnew has the scheduler choose a node again, which may be the same one.
// false: the claim changed meanwhile, and is looked at again for that.
func (a *agent) chooseAnew(ctx context.Context, claim *corev1.PersistentVolumeClaim) (bool, error) {
	patch := fmt.Sprintf(`{"metadata":{"resourceVersion":%q,"annotations":{%q:null}}}`, claim.ResourceVersion, selectedNodeKey)
	_, err := a.client.CoreV1().PersistentVolumeClaims(claim.Namespace).Patch(ctx, claim.Name, types.MergePatchType, []byte(patch), metav1.PatchOptions{})
	if apierrors.IsConflict(err) || apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("have another node chosen for claim %s: %w", klog.KObj(claim), err)
	}
	return true, nil
}

// syncVolume does what is due for a volume.
func (a *agent) syncVolume(ctx context.Context, name string) (again time.Duration, err error) {
	volume := a.watches.volume(name)
	if volume == nil || nextStep(volume, a.at.folder) == leave {
		return 0, nil
	}
	if node := nodeOf(volume); node != a.at.node {
		return a.syncForeignVolume(ctx, volume, node)
	}
	// By what the cluster holds, not by what was heard of it a while ago:
	// someone may have set the policy to Retain.
	switch volume, err = a.volume(ctx, name); {
	case err != nil || volume == nil:
		return 0, err
	case nodeOf(volume) != a.at.node:
		return 0, nil
	}
	switch nextStep(volume, a.at.folder) {
	case protect, release:
		err = a.setProtection(ctx, name, nextStep(volume, a.at.folder))
	case remove:
		err = a.remove(ctx, volume)
	}
	if err != nil && ctx.Err() == nil {
		a.events.Event(volume, corev1.EventTypeWarning, "VolumeFailedDelete", err.Error())
	}
	return 0, err
}

func (a *agent) remove(ctx context.Context, volume *corev1.PersistentVolume) error {
	work, cancel := context.WithTimeout(ctx, removeTimeout)
	defer cancel()
	if err := a.disk.remove(work, volume.Name); err != nil {
		return fmt.Errorf("node %s: %w", a.at.node, err)
	}
	if err := a.forget(ctx, volume); err != nil {
		return err
	}
	klog.InfoS("Volume removed", "volume", volume.Name)
	return nil
}
