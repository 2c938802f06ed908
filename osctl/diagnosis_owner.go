package main

import (
	"fmt"
	"regexp"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

// failedCreate is the reason that controllers give, in events and conditions, when
// they could not make a pod.
const failedCreate = "FailedCreate"

// podOwner is a workload, as far as it tells why pods of it are missing.
type podOwner struct {
	label         string
	wanted, there int
	// makers are what makes its pods: itself, or its ReplicaSets.
	makers map[types.UID]bool
	// failure is what its conditions say.
	failure string
	// events are FailedCreate of its namespace, the oldest first.
	events []corev1.Event
}

// newPodOwner reads a workload; nil if the object is none, or its controller has
// not seen it yet.
func newPodOwner(object runtime.Object) *podOwner {
	owner := &podOwner{makers: make(map[types.UID]bool)}
	one := func(kind string, meta metav1.ObjectMeta, observed int64, wanted *int32, there int32) *podOwner {
		if observed < meta.Generation {
			return nil
		}
		owner.label, owner.makers[meta.UID] = kind+" "+meta.Name, true
		owner.wanted, owner.there = 1, int(there) // 1 is Kubernetes' default
		if wanted != nil {
			owner.wanted = int(*wanted)
		}
		return owner
	}
	switch o := object.(type) {
	case *appsv1.Deployment:
		for _, c := range o.Status.Conditions {
			owner.failed(string(c.Type), c.Reason, c.Status, c.Message)
		}
		return one("deployment", o.ObjectMeta, o.Status.ObservedGeneration, o.Spec.Replicas, o.Status.UpdatedReplicas)
	case *appsv1.ReplicaSet:
		for _, c := range o.Status.Conditions {
			owner.failed(string(c.Type), c.Reason, c.Status, c.Message)
		}
		return one("replicaset", o.ObjectMeta, o.Status.ObservedGeneration, o.Spec.Replicas, o.Status.Replicas)
	case *appsv1.StatefulSet:
		return one("statefulset", o.ObjectMeta, o.Status.ObservedGeneration, o.Spec.Replicas, o.Status.Replicas)
	case *appsv1.DaemonSet:
		return one("daemonset", o.ObjectMeta, o.Status.ObservedGeneration, &o.Status.DesiredNumberScheduled, o.Status.CurrentNumberScheduled)
	case *batchv1.Job:
		if o.Status.CompletionTime != nil || o.Spec.Suspend != nil && *o.Spec.Suspend {
			return nil
		}
		wanted := int32(1)
		if o.Spec.Parallelism != nil {
			wanted = *o.Spec.Parallelism
		}
		if o.Spec.Completions != nil {
			wanted = min(wanted, *o.Spec.Completions-o.Status.Succeeded)
		}
		return one("job", o.ObjectMeta, o.Generation, &wanted, o.Status.Active) // it does not tell what it has seen
	}
	return nil
}

// failed reads one condition.
func (owner *podOwner) failed(kind, reason string, status corev1.ConditionStatus, message string) {
	if kind == string(appsv1.ReplicaSetReplicaFailure) && reason == failedCreate && status == corev1.ConditionTrue {
		owner.failure = message
	}
}

// through adds the ReplicaSets of a Deployment that want more pods than they
// have. What was said of others is past.
func (owner *podOwner) through(sets []appsv1.ReplicaSet) {
	for i := range sets {
		of := metav1.GetControllerOf(&sets[i])
		if of == nil || !owner.makers[of.UID] {
			continue
		}
		if set := newPodOwner(&sets[i]); set != nil && set.there < set.wanted {
			owner.makers[sets[i].UID] = true
			if owner.failure == "" {
				owner.failure = set.failure
			}
		}
	}
}

// triedInVain precedes Kubernetes' reason: the name in it is another at each try.
var triedInVain = regexp.MustCompile(`^Error creating: (pods "[^"]*" is forbidden: )?`)

// whyMissing says why there are fewer pods than wanted; "" if nobody knows.
func (owner *podOwner) whyMissing() string {
	message := owner.failure
	for _, event := range slices.Backward(owner.events) {
		if event.Reason == failedCreate && owner.makers[event.InvolvedObject.UID] {
			message = event.Message
			break
		}
	}
	missing := owner.wanted - owner.there
	if message == "" || missing <= 0 {
		return ""
	}
	return fmt.Sprintf("%s: %d of its %d pods cannot be created: %s", owner.label, missing, owner.wanted,
		clipped(triedInVain.ReplaceAllString(message, "")))
}

// inTime sorts events, the oldest first.
func inTime(events []corev1.Event) []corev1.Event {
	slices.SortStableFunc(events, func(a, b corev1.Event) int { return happened(a).Compare(happened(b)) })
	return events
}

// happened is when an event was last seen; the older and the newer API of events
// say so in different fields.
func happened(event corev1.Event) time.Time {
	switch {
	case !event.LastTimestamp.IsZero():
		return event.LastTimestamp.Time
	case event.Series != nil:
		return event.Series.LastObservedTime.Time
	}
	return event.EventTime.Time
}
