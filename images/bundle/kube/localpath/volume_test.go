package localpath

import (
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func TestNextStep(t *testing.T) {
	type pv = corev1.PersistentVolume
	phase := func(to corev1.PersistentVolumePhase) func(*pv) { return func(v *pv) { v.Status.Phase = to } }
	retain := func(v *pv) { v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain }
	bare := func(v *pv) { v.Finalizers = []string{"kubernetes.io/pv-protection"} }
	deleted := func(v *pv) { now := metav1.Now(); v.DeletionTimestamp = &now }
	for name, c := range map[string]struct {
		change []func(*pv)
		want   step
	}{
		"new":                           {[]func(*pv){phase(corev1.VolumePending)}, leave},
		"in use":                        {[]func(*pv){phase(corev1.VolumeBound)}, leave},
		"in use, deleted by hand":       {[]func(*pv){phase(corev1.VolumeBound), deleted}, leave},
		"its claim is gone":             {[]func(*pv){phase(corev1.VolumeReleased)}, remove},
		"its claim is gone, deleted":    {[]func(*pv){phase(corev1.VolumeReleased), deleted}, remove},
		"already let go":                {[]func(*pv){phase(corev1.VolumeReleased), deleted, bare}, leave},
		"kept":                          {[]func(*pv){phase(corev1.VolumeReleased), retain, bare}, leave},
		"to be kept from now on":        {[]func(*pv){phase(corev1.VolumeBound), retain}, release},
		"kept, and deleted by hand":     {[]func(*pv){phase(corev1.VolumeReleased), retain, deleted}, release},
		"not to be kept any more":       {[]func(*pv){phase(corev1.VolumeBound), bare}, protect},
		"nor, and its claim is gone":    {[]func(*pv){phase(corev1.VolumeReleased), bare}, remove},
		"of another provisioner":        {[]func(*pv){phase(corev1.VolumeReleased), func(v *pv) { v.Annotations[provisionedByKey] = "x" }}, leave},
		"made by hand, elsewhere":       {[]func(*pv){phase(corev1.VolumeReleased), func(v *pv) { v.Spec.Local.Path = "/var/lib/etcd" }}, leave},
		"made by hand, another's place": {[]func(*pv){phase(corev1.VolumeReleased), func(v *pv) { v.Spec.Local.Path = here.path("pvc-other") }}, leave},
		"of another kind":               {[]func(*pv){phase(corev1.VolumeReleased), func(v *pv) { v.Spec.Local = nil }}, leave},
	} {
		volume := newVolume(newClaim("data", here.node), newClass(), here)
		for _, change := range c.change {
			change(volume)
		}
		if got := nextStep(volume, here.folder); got != c.want {
			t.Errorf("%s: step %d, want %d", name, got, c.want)
		}
		// What is remembered of a volume is enough to decide by.
		slim, err := slimVolume(volume)
		if err != nil {
			t.Fatal(err)
		}
		if got := nextStep(slim.(*pv), here.folder); got != c.want {
			t.Errorf("%s: by what is remembered, step %d, want %d", name, got, c.want)
		}
	}
}
