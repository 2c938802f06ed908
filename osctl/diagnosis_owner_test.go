package main

import (
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
)

func TestWhyMissing(t *testing.T) {
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	event := func(uid, reason, message string, after time.Duration) corev1.Event {
		return corev1.Event{
			InvolvedObject: corev1.ObjectReference{UID: types.UID(uid)}, Reason: reason, Message: message,
			LastTimestamp: metav1.NewTime(at.Add(after)),
		}
	}
	meta := metav1.ObjectMeta{Name: "web", UID: "it"}
	set := func(uid string, wanted, there int32, failure string) appsv1.ReplicaSet {
		s := appsv1.ReplicaSet{ObjectMeta: metav1.ObjectMeta{UID: types.UID(uid), OwnerReferences: []metav1.OwnerReference{{UID: "it", Controller: new(true)}}}}
		s.Spec.Replicas, s.Status.Replicas = &wanted, there
		if failure != "" {
			s.Status.Conditions = []appsv1.ReplicaSetCondition{{
				Type: appsv1.ReplicaSetReplicaFailure, Status: corev1.ConditionTrue, Reason: failedCreate, Message: failure}}
		}
		return s
	}
	deployment := &appsv1.Deployment{ObjectMeta: meta, Spec: appsv1.DeploymentSpec{Replicas: new(int32(3))}, Status: appsv1.DeploymentStatus{UpdatedReplicas: 1}}
	for _, test := range []struct {
		name   string
		object runtime.Object
		sets   []appsv1.ReplicaSet
		events []corev1.Event
		want   string
	}{
		{"newest event of its new set", deployment, []appsv1.ReplicaSet{set("old", 3, 3, ""), set("new", 3, 1, "a condition")},
			[]corev1.Event{
				event("new", failedCreate, `Error creating: pods "web-x" is forbidden: no account`, 2),
				event("new", failedCreate, "Error creating: before", 1),
				event("old", failedCreate, "past", 3), event("other", failedCreate, "another's", 4), event("new", "FailedDelete", "no", 5),
			}, "deployment web: 2 of its 3 pods cannot be created: no account"},
		{"condition of its set", deployment, []appsv1.ReplicaSet{set("new", 3, 1, "quota")}, nil,
			"deployment web: 2 of its 3 pods cannot be created: quota"},
		{"only slow", deployment, []appsv1.ReplicaSet{set("new", 3, 1, "")}, nil, ""},
		{"stateful set", &appsv1.StatefulSet{ObjectMeta: meta}, nil, []corev1.Event{event("it", failedCreate, "create Pod web-0 failed", 0)},
			"statefulset web: 1 of its 1 pods cannot be created: create Pod web-0 failed"},
		{"daemon set", &appsv1.DaemonSet{ObjectMeta: meta, Status: appsv1.DaemonSetStatus{DesiredNumberScheduled: 3, CurrentNumberScheduled: 1}}, nil,
			[]corev1.Event{event("it", failedCreate, "Error creating: no", 0)}, "daemonset web: 2 of its 3 pods cannot be created: no"},
		{"job", &batchv1.Job{ObjectMeta: meta}, nil, []corev1.Event{event("it", failedCreate, "no", 0)}, "job web: 1 of its 1 pods cannot be created: no"},
		{"job with all its pods", &batchv1.Job{ObjectMeta: meta, Spec: batchv1.JobSpec{Parallelism: new(int32(5)), Completions: new(int32(3))},
			Status: batchv1.JobStatus{Active: 2, Succeeded: 1}}, nil, []corev1.Event{event("it", failedCreate, "past", 0)}, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			owner := newPodOwner(test.object)
			owner.through(test.sets)
			owner.events = inTime(test.events)
			if got := owner.whyMissing(); got != test.want {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
	unseen := &appsv1.StatefulSet{ObjectMeta: metav1.ObjectMeta{Generation: 2}, Status: appsv1.StatefulSetStatus{ObservedGeneration: 1}}
	if newPodOwner(unseen) != nil || newPodOwner(&corev1.Service{}) != nil {
		t.Error("a workload that its controller has not seen, or none at all, lacks pods")
	}
}
