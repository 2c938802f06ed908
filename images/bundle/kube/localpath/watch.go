package localpath

import (
	"context"
	"errors"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// syncTimeout is what the first lists may take: then the process ends, for the
// supervisor to say so and to start it again.
const syncTimeout = 5 * time.Minute

// watches are what the process knows of the cluster.
type watches struct {
	claims, volumes cache.SharedIndexInformer
}

// newWatches prepares to watch the volumes with a label, and all claims:
// Kubernetes cannot tell those of one node apart.
func newWatches(client kubernetes.Interface, selector string) (*watches, error) {
	w := &watches{
		claims: v1.NewPersistentVolumeClaimInformer(client, metav1.NamespaceAll, 0, cache.Indexers{}),
		volumes: v1.NewFilteredPersistentVolumeInformer(client, 0, cache.Indexers{}, func(o *metav1.ListOptions) {
			o.LabelSelector = selector
		}),
	}
	return w, errors.Join(w.claims.SetTransform(slimClaim), w.volumes.SetTransform(slimVolume))
}

// follow calls back with every claim and volume, and with each that changed,
// until ctx ends. It returns when what there is at first is known.
func (w *watches) follow(ctx context.Context, claim func(*corev1.PersistentVolumeClaim), volume func(*corev1.PersistentVolume)) error {
	for informer, changed := range map[cache.SharedIndexInformer]func(any){
		w.claims:  onType(claim),
		w.volumes: onType(volume),
	} {
		if _, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    changed,
			UpdateFunc: func(_, now any) { changed(now) },
		}); err != nil {
			return err
		}
		go informer.RunWithContext(ctx)
	}
	ctx, cancel := context.WithTimeout(ctx, syncTimeout)
	defer cancel()
	if !cache.WaitForCacheSync(ctx.Done(), w.claims.HasSynced, w.volumes.HasSynced) {
		return fmt.Errorf("list claims and volumes: %w", context.Cause(ctx))
	}
	return nil
}

func onType[T any](f func(T)) func(any) {
	return func(object any) {
		if typed, ok := object.(T); ok {
			f(typed)
		}
	}
}

// claim returns the claim of a key, or nil when it is gone.
func (w *watches) claim(key claimKey) *corev1.PersistentVolumeClaim {
	object, _, _ := w.claims.GetStore().GetByKey(key.String())
	if claim, ok := object.(*corev1.PersistentVolumeClaim); ok && keyOf(claim) == key {
		return claim
	}
	return nil
}

// volume returns the volume of a name, or nil when it is gone.
func (w *watches) volume(name string) *corev1.PersistentVolume {
	object, _, _ := w.volumes.GetStore().GetByKey(name)
	volume, _ := object.(*corev1.PersistentVolume)
	return volume
}

// slimClaim keeps hardly more than the name of a claim that is none of our
// business.
func slimClaim(object any) (any, error) {
	claim, ok := object.(*corev1.PersistentVolumeClaim)
	if !ok {
		return object, nil // the word that one was deleted while nobody looked
	}
	slim := &corev1.PersistentVolumeClaim{ObjectMeta: slimMeta(claim.ObjectMeta)}
	if isPending(claim) {
		slim.Spec = claim.Spec
		slim.Annotations = map[string]string{}
		for _, key := range []string{provisionerKey, betaProvisionerKey, selectedNodeKey, corev1.BetaStorageClassAnnotation} {
			if value, ok := claim.Annotations[key]; ok {
				slim.Annotations[key] = value
			}
		}
	}
	return slim, nil
}

// slimVolume keeps what nextStep looks at.
func slimVolume(object any) (any, error) {
	volume, ok := object.(*corev1.PersistentVolume)
	if !ok {
		return object, nil
	}
	slim := &corev1.PersistentVolume{ObjectMeta: slimMeta(volume.ObjectMeta)}
	slim.Labels = map[string]string{nodeLabel: volume.Labels[nodeLabel]}
	slim.Annotations = map[string]string{provisionedByKey: volume.Annotations[provisionedByKey]}
	slim.Finalizers = volume.Finalizers
	slim.Spec.PersistentVolumeReclaimPolicy = volume.Spec.PersistentVolumeReclaimPolicy
	slim.Spec.Local = volume.Spec.Local
	slim.Status.Phase = volume.Status.Phase
	return slim, nil
}

func slimMeta(full metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{
		Name: full.Name, Namespace: full.Namespace, UID: full.UID, ResourceVersion: full.ResourceVersion,
		DeletionTimestamp: full.DeletionTimestamp,
	}
}
