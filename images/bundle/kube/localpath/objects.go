package localpath

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/util/retry"
)

// volume reads a volume as it is now; nil means that it is gone.
func (a *agent) volume(ctx context.Context, name string) (*corev1.PersistentVolume, error) {
	ctx, cancel := context.WithTimeout(ctx, callsTimeout)
	defer cancel()
	volume, err := a.client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("get PersistentVolume %s: %w", name, err)
	}
	return volume, nil
}

// forget removes a volume's object: its folder is gone, or its node.
func (a *agent) forget(ctx context.Context, volume *corev1.PersistentVolume) error {
	ctx, cancel := context.WithTimeout(ctx, callsTimeout)
	defer cancel()
	err := a.client.CoreV1().PersistentVolumes().Delete(ctx, volume.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &volume.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("delete PersistentVolume %s: %w", volume.Name, err)
	}
	return a.setProtection(ctx, volume.Name, release)
}

// setProtection adds our finalizer to a volume, or takes it off.
func (a *agent) setProtection(ctx context.Context, name string, to step) error {
	ctx, cancel := context.WithTimeout(ctx, callsTimeout)
	defer cancel()
	err := retry.RetryOnConflict(retry.DefaultRetry, func() error {
		volume, err := a.volume(ctx, name)
		if err != nil || volume == nil {
			return err
		}
		finalizers := slices.DeleteFunc(slices.Clone(volume.Finalizers), func(each string) bool { return each == finalizer })
		if to == protect {
			finalizers = append(finalizers, finalizer)
		}
		if slices.Equal(finalizers, volume.Finalizers) {
			return nil
		}
		patch, err := json.Marshal(map[string]any{"metadata": map[string]any{
			"resourceVersion": volume.ResourceVersion, "finalizers": finalizers,
		}})
		if err != nil {
			return err
		}
		_, err = a.client.CoreV1().PersistentVolumes().Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
		return err
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("set the finalizers of PersistentVolume %s: %w", name, err)
	}
	return nil
}
