package main

import (
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// brokenPod is a pod of one container "app" on node-1, as change makes it.
func brokenPod(change func(*corev1.Pod, *corev1.ContainerStatus)) *corev1.Pod {
	pod := &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Name: "web-0", Namespace: "shop"},
		Spec:       corev1.PodSpec{NodeName: "node-1", Containers: []corev1.Container{{Name: "app", Image: "shop/web:2"}}},
		Status:     corev1.PodStatus{Phase: corev1.PodPending},
	}
	status := corev1.ContainerStatus{Name: "app", Image: "shop/web:2"}
	change(pod, &status)
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{status}
	return pod
}

func waiting(reason, message string) corev1.ContainerState {
	return corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: reason, Message: message}}
}

func nodeWith(name string, ready corev1.ConditionStatus, images ...string) corev1.Node {
	node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	for _, image := range images {
		node.Status.Images = append(node.Status.Images, corev1.ContainerImage{Names: []string{"x@sha256:1", image}})
	}
	return node
}

func TestDiagnose(t *testing.T) {
	nodes := []corev1.Node{
		nodeWith("node-1", corev1.ConditionTrue, "shop/web:1", "docker.io/library/redis:7"),
		nodeWith("node-2", corev1.ConditionTrue, "shop/api:1"),
	}
	for _, test := range []struct {
		name   string
		pod    *corev1.Pod
		around surroundings
		want   []string
	}{
		{"image on no node", brokenPod(func(_ *corev1.Pod, s *corev1.ContainerStatus) {
			s.State = waiting("ErrImageNeverPull", `Container image "shop/web:2" is not present with pull policy of Never`)
		}), surroundings{nodes: nodes}, []string{
			"image shop/web:2 of container app is not on node node-1, and imagePullPolicy Never forbids asking a registry: import it (osctl image import FILE); " +
				"images there are: docker.io/library/redis:7, shop/api:1, shop/web:1"}},
		{"image on another node", brokenPod(func(p *corev1.Pod, s *corev1.ContainerStatus) {
			p.Spec.Containers[0].Image = "shop/api:1"
			s.State = waiting("ImagePullBackOff", "Back-off")
		}), surroundings{nodes: nodes}, []string{
			"image shop/api:1 of container app is not on node node-1, but on node-2: import it there too (osctl -N node-1 image import FILE)"}},
		{"image is there, and a registry is asked all the same", brokenPod(func(p *corev1.Pod, s *corev1.ContainerStatus) {
			p.Spec.Containers[0].Image = "shop/web:1"
			s.State = waiting("ErrImagePull", "no such host")
		}), surroundings{nodes: nodes}, []string{
			"image shop/web:1 of container app is on node node-1, but imagePullPolicy Always asks a registry (no such host): " +
				"set it to IfNotPresent, or use a tag other than latest"}},
		{"registry does not answer", brokenPod(func(_ *corev1.Pod, s *corev1.ContainerStatus) {
			s.State = waiting("ErrImagePull", "dial tcp:\n lookup registry: no such host")
		}), surroundings{nodes: nodes[:0]}, []string{
			"image shop/web:2 of container app is not on node node-1, and no registry gave it: dial tcp: lookup registry: no such host"}},
		{"short name is the long one", brokenPod(func(p *corev1.Pod, s *corev1.ContainerStatus) {
			p.Spec.Containers[0].Image, p.Spec.NodeName = "redis:7", "node-2"
			s.State = waiting("ErrImagePull", "no")
		}), surroundings{nodes: nodes}, []string{
			"image redis:7 of container app is not on node node-2, but on node-1: import it there too (osctl -N node-2 image import FILE)"}},
		{"no node fits", brokenPod(func(p *corev1.Pod, s *corev1.ContainerStatus) {
			p.Spec.NodeName = ""
			p.Spec.Containers[0].Resources.Requests = corev1.ResourceList{"cpu": resource.MustParse("64"), "memory": resource.MustParse("1Gi")}
			p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: "Unschedulable",
				Message: "0/3 nodes are available: 3 Insufficient cpu."}}
		}), surroundings{nodes: nodes}, []string{
			"no node fits: 0/3 nodes are available: 3 Insufficient cpu. (the pod asks for cpu 64, memory 1Gi; osctl describe nodes shows what is taken)"}},
		{"crash loop", brokenPod(func(_ *corev1.Pod, s *corev1.ContainerStatus) {
			s.RestartCount = 4
			s.State = waiting("CrashLoopBackOff", "back-off")
			s.LastTerminationState.Terminated = &corev1.ContainerStateTerminated{ExitCode: 3, Reason: "Error"}
		}), surroundings{lastLines: func(container string) string { return "in " + container + "\npanic: no database\n" }}, []string{
			"container app exits with code 3, 4 restarts so far; its last words:\n    in app\n    panic: no database"}},
		{"out of memory", brokenPod(func(_ *corev1.Pod, s *corev1.ContainerStatus) {
			s.State.Terminated = &corev1.ContainerStateTerminated{ExitCode: 137, Reason: "OOMKilled"}
		}), surroundings{lastLines: func(string) string { return "" }}, []string{
			"container app is killed for lack of memory (OOMKilled): raise its memory limit; it wrote nothing"}},
		{"program missing", brokenPod(func(_ *corev1.Pod, s *corev1.ContainerStatus) {
			s.State = waiting("RunContainerError", `exec: "/nope": no such file or directory`)
		}), surroundings{}, []string{`container app cannot be started: exec: "/nope": no such file or directory`}},
		{"secret missing", brokenPod(func(_ *corev1.Pod, s *corev1.ContainerStatus) {
			s.State = waiting("CreateContainerConfigError", `secret "db" not found`)
		}), surroundings{}, []string{`container app needs what is not there: secret "db" not found`}},
		{"not ready", brokenPod(func(_ *corev1.Pod, s *corev1.ContainerStatus) {
			s.State.Running = &corev1.ContainerStateRunning{}
		}), surroundings{events: []corev1.Event{
			{Type: "Warning", Reason: "Unhealthy", Message: "Readiness probe failed: 500", InvolvedObject: corev1.ObjectReference{FieldPath: "spec.containers{app}"}},
			{Type: "Warning", Reason: "Unhealthy", Message: "another's", InvolvedObject: corev1.ObjectReference{FieldPath: "spec.containers{other}"}},
		}}, []string{"container app runs and is not ready: Readiness probe failed: 500"}},
		{"mount fails", brokenPod(func(_ *corev1.Pod, s *corev1.ContainerStatus) {
			s.State = waiting("ContainerCreating", "")
		}), surroundings{events: []corev1.Event{{Type: "Normal", Reason: "Pulled"}, {Type: "Warning", Reason: "FailedMount", Message: "configmap \"x\" not found"}}},
			[]string{`FailedMount: configmap "x" not found`}},
		{"node gone", brokenPod(func(_ *corev1.Pod, s *corev1.ContainerStatus) {
			s.State.Running, s.Ready = &corev1.ContainerStateRunning{}, true
		}), surroundings{nodes: []corev1.Node{nodeWith("node-1", corev1.ConditionUnknown)}},
			[]string{"its node node-1 does not answer: osctl -N node-1 health says why, if it can be reached"}},
		{"evicted", &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: ephemeral-storage."}},
			surroundings{}, []string{"its node evicted it: The node was low on resource: ephemeral-storage."}},
		{"only young", brokenPod(func(_ *corev1.Pod, s *corev1.ContainerStatus) {
			s.State = waiting("ContainerCreating", "")
		}), surroundings{nodes: nodes}, nil},
		{"done", &corev1.Pod{Status: corev1.PodStatus{Phase: corev1.PodSucceeded}}, surroundings{}, nil},
		{"ending", &corev1.Pod{ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &metav1.Time{Time: time.Unix(1, 0)}}}, surroundings{}, nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := diagnose(test.pod, test.around)
			if strings.Join(got, "\n") != strings.Join(test.want, "\n") {
				t.Errorf("got\n%q\nwant\n%q", got, test.want)
			}
		})
	}
}
