package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/keelson-os/keelson/pkg/nearest"
)

// maxDiagnosisText is how much of a message of Kubernetes' a sentence keeps, in
// characters.
const maxDiagnosisText = 400

// surroundings is what a pod's own status does not tell.
type surroundings struct {
	// nodes are the cluster's, as far as the user may see them.
	nodes []corev1.Node
	// events are about the pod, the oldest first.
	events []corev1.Event
	// lastLines returns the end of the log of a container that has ended.
	lastLines func(container string) string
}

// diagnose says in a sentence for each cause why a pod does not start, or does
// not get ready; nothing if it runs, has done its work or is only young.
func diagnose(pod *corev1.Pod, around surroundings) []string {
	switch {
	case pod.DeletionTimestamp != nil, pod.Status.Phase == corev1.PodSucceeded:
		return nil
	case pod.Status.Reason == "Evicted":
		return []string{"its node evicted it: " + clipped(pod.Status.Message)}
	}
	var causes []string
	if unscheduled := condition(pod, corev1.PodScheduled); unscheduled != nil && unscheduled.Status == corev1.ConditionFalse {
		causes = append(causes, noNodeFits(pod, unscheduled))
	}
	if node := nodeOf(pod, around.nodes); node != nil && !nodeIsReady(node) {
		causes = append(causes, fmt.Sprintf("its node %s does not answer: osctl -N %s health says why, if it can be reached", node.Name, node.Name))
	}
	for _, status := range slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses) {
		if cause := containerCause(pod, status, around); cause != "" {
			causes = append(causes, cause)
		}
	}
	if len(causes) == 0 && pod.Spec.NodeName != "" && !isReady(pod) {
		if event := newestWarning(around.events); event != nil {
			causes = append(causes, fmt.Sprintf("%s: %s", event.Reason, clipped(event.Message)))
		}
	}
	return causes
}

func noNodeFits(pod *corev1.Pod, unscheduled *corev1.PodCondition) string {
	sentence := "no node fits: " + clipped(unscheduled.Message)
	if strings.Contains(unscheduled.Message, "Insufficient") {
		asked := corev1.ResourceList{}
		for _, container := range pod.Spec.Containers {
			for name, quantity := range container.Resources.Requests {
				sum := asked[name]
				sum.Add(quantity)
				asked[name] = sum
			}
		}
		sentence += fmt.Sprintf(" (the pod asks for %s; osctl describe nodes shows what is taken)", resourceText(asked))
	}
	return sentence
}

func resourceText(list corev1.ResourceList) string {
	var parts []string
	for name, quantity := range list {
		parts = append(parts, fmt.Sprintf("%s %s", name, quantity.String()))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// containerCause is why one container does not run; "" if it does.
func containerCause(pod *corev1.Pod, status corev1.ContainerStatus, around surroundings) string {
	waiting := status.State.Waiting
	ended := status.State.Terminated
	if ended == nil {
		ended = status.LastTerminationState.Terminated
	}
	switch {
	case waiting != nil && isImageReason(waiting.Reason):
		return imageCause(pod, status, around.nodes)
	case ended != nil && ended.Reason == "StartError", waiting != nil && (waiting.Reason == "RunContainerError" || waiting.Reason == "CreateContainerError"):
		message := ""
		if ended != nil {
			message = ended.Message
		}
		if message == "" && waiting != nil {
			message = waiting.Message
		}
		return fmt.Sprintf("container %s cannot be started: %s", status.Name, clipped(message))
	case waiting != nil && waiting.Reason == "CreateContainerConfigError":
		return fmt.Sprintf("container %s needs what is not there: %s", status.Name, clipped(waiting.Message))
	case ended != nil && (waiting != nil && waiting.Reason == "CrashLoopBackOff" || status.State.Terminated != nil && ended.ExitCode != 0):
		return crashCause(status, ended, around)
	case status.State.Running != nil && !status.Ready:
		if event := newestOf(around.events, "Unhealthy", status.Name); event != nil {
			return fmt.Sprintf("container %s runs and is not ready: %s", status.Name, clipped(event.Message))
		}
	}
	return ""
}

func crashCause(status corev1.ContainerStatus, ended *corev1.ContainerStateTerminated, around surroundings) string {
	how := fmt.Sprintf("exits with code %d", ended.ExitCode)
	switch {
	case ended.Reason == "OOMKilled":
		how = "is killed for lack of memory (OOMKilled): raise its memory limit"
	case ended.Signal != 0:
		how = fmt.Sprintf("is ended by signal %d", ended.Signal)
	case ended.ExitCode == 0:
		how = "ends with success, but is to go on running"
	}
	sentence := fmt.Sprintf("container %s %s", status.Name, how)
	if status.RestartCount > 0 {
		sentence += fmt.Sprintf(", %d restarts so far", status.RestartCount)
	}
	if around.lastLines == nil {
		return sentence
	}
	if lines := strings.TrimSpace(around.lastLines(status.Name)); lines != "" {
		return sentence + "; its last words:\n" + indented(lines)
	}
	return sentence + "; it wrote nothing"
}

func isImageReason(reason string) bool {
	switch reason {
	case "ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError", "RegistryUnavailable":
		return true
	}
	return false
}

// imageCause says where the image is instead, and which there are.
func imageCause(pod *corev1.Pod, status corev1.ContainerStatus, nodes []corev1.Node) string {
	image := status.Image
	if at := slices.IndexFunc(pod.Spec.Containers, func(c corev1.Container) bool { return c.Name == status.Name }); at >= 0 {
		image = pod.Spec.Containers[at].Image // as it was written
	}
	if status.State.Waiting.Reason == "InvalidImageName" {
		return fmt.Sprintf("container %s: %q is no image's name", status.Name, image)
	}
	var having, all []string
	for _, node := range nodes {
		for _, held := range node.Status.Images {
			if sameImage(held.Names, image) {
				having = append(having, node.Name)
			}
			for _, name := range held.Names {
				if !strings.Contains(name, "@") && !slices.Contains(all, name) {
					all = append(all, name)
				}
			}
		}
	}
	if slices.Contains(having, pod.Spec.NodeName) {
		return fmt.Sprintf("image %s of container %s is on node %s, but imagePullPolicy Always asks a registry (%s): "+
			"set it to IfNotPresent, or use a tag other than latest", image, status.Name, pod.Spec.NodeName, clipped(status.State.Waiting.Message))
	}
	where := fmt.Sprintf("image %s of container %s is not on node %s", image, status.Name, pod.Spec.NodeName)
	if len(having) > 0 {
		return fmt.Sprintf("%s, but on %s: import it there too (osctl -N %s image import FILE)",
			where, strings.Join(having, ", "), pod.Spec.NodeName)
	}
	sentence := fmt.Sprintf("%s, and no registry gave it: %s", where, clipped(status.State.Waiting.Message))
	if status.State.Waiting.Reason == "ErrImageNeverPull" {
		sentence = where + ", and imagePullPolicy Never forbids asking a registry: import it (osctl image import FILE)"
	}
	if len(all) > 0 {
		sentence += "; images there are: " + nearest.List(image, all)
	}
	return sentence
}

// sameImage compares as a container runtime does: names without a host are of
// docker.io, and without a tag of latest.
func sameImage(names []string, image string) bool {
	return slices.ContainsFunc(names, func(name string) bool {
		return name == image || name == image+":latest" || name == "docker.io/"+image || name == "docker.io/library/"+image ||
			name == "docker.io/library/"+image+":latest"
	})
}

func condition(pod *corev1.Pod, kind corev1.PodConditionType) *corev1.PodCondition {
	for i := range pod.Status.Conditions {
		if pod.Status.Conditions[i].Type == kind {
			return &pod.Status.Conditions[i]
		}
	}
	return nil
}

func isReady(pod *corev1.Pod) bool {
	ready := condition(pod, corev1.PodReady)
	return ready != nil && ready.Status == corev1.ConditionTrue
}

func nodeOf(pod *corev1.Pod, nodes []corev1.Node) *corev1.Node {
	at := slices.IndexFunc(nodes, func(node corev1.Node) bool { return node.Name == pod.Spec.NodeName })
	if at < 0 {
		return nil
	}
	return &nodes[at]
}

func nodeIsReady(node *corev1.Node) bool {
	for _, c := range node.Status.Conditions {
		if c.Type == corev1.NodeReady {
			return c.Status == corev1.ConditionTrue
		}
	}
	return true // it has not said yet
}

func newestWarning(events []corev1.Event) *corev1.Event {
	for i := range slices.Backward(events) {
		if events[i].Type == corev1.EventTypeWarning {
			return &events[i]
		}
	}
	return nil
}

func newestOf(events []corev1.Event, reason, container string) *corev1.Event {
	for i, event := range slices.Backward(events) {
		about := event.InvolvedObject.FieldPath
		if event.Reason == reason && (about == "" || strings.Contains(about, "{"+container+"}")) {
			return &events[i]
		}
	}
	return nil
}

// podState is in a few words how far a pod is, and what happened to it last.
func podState(pod *corev1.Pod, events []corev1.Event) string {
	phase := string(pod.Status.Phase)
	switch {
	case pod.DeletionTimestamp != nil:
		phase = "Terminating"
	case pod.Status.Phase == corev1.PodRunning && !isReady(pod):
		phase += ", not ready"
	}
	if len(events) > 0 {
		last := events[len(events)-1]
		phase += "; " + clippedTo(maxEventText, cmp.Or(last.Message, last.Reason))
	}
	return fmt.Sprintf("pod %s (%s)", pod.Name, phase)
}

func clipped(text string) string { return clippedTo(maxDiagnosisText, text) }

func clippedTo(most int, text string) string {
	text = strings.Join(strings.Fields(text), " ")
	if runes := []rune(text); len(runes) > most {
		return string(runes[:most]) + "…"
	}
	return text
}

func indented(text string) string {
	return "    " + strings.ReplaceAll(text, "\n", "\n    ")
}
