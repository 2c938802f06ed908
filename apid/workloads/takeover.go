package workloads

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/util/sets"
	"k8s.io/client-go/util/csaupgrade"
	"sigs.k8s.io/structured-merge-diff/v6/fieldpath"
)

// takeOverTries is how often somebody else's change may come between. It is
// kubectl's.
const takeOverTries = 5

// lastApplied is what tells that a manager applies on the client's side.
var lastApplied = fieldpath.NewSet(fieldpath.MakePathOrDie("metadata", "annotations", corev1.LastAppliedConfigAnnotation))

// clientSideManagers are those that applied an object on the client's side.
func clientSideManagers(live *unstructured.Unstructured) sets.Set[string] {
	managers := sets.New[string]()
	for _, entry := range csaupgrade.FindFieldsOwners(live.GetManagedFields(), metav1.ManagedFieldsOperationUpdate, lastApplied) {
		managers.Insert(entry.Manager)
	}
	return managers
}

// takeOver makes this manager's what was applied on the client's side before, as
// kubectl apply --server-side does. Otherwise every changed field would be a
// conflict with kubectl, and what the manifest no longer holds would stay.
func (a *apply) takeOver(ctx context.Context, t target, live *unstructured.Unstructured) error {
	for try := 1; ; try++ {
		managers := clientSideManagers(live)
		if managers.Len() == 0 {
			return nil
		}
		patch, err := csaupgrade.UpgradeManagedFieldsPatch(live, managers, a.options.FieldManager)
		if err != nil {
			return fmt.Errorf("take over what kubectl applied: %w", err)
		}
		if patch == nil {
			return nil
		}
		_, err = t.client.Patch(ctx, t.name, types.JSONPatchType, patch, metav1.PatchOptions{FieldManager: a.options.FieldManager})
		if !apierrors.IsConflict(err) || try == takeOverTries {
			return err
		}
		if live, err = t.client.Get(ctx, t.name, metav1.GetOptions{}); err != nil {
			return err
		}
	}
}
