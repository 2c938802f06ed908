package workloads

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/validate/content"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"

	"github.com/keelson-os/keelson/pkg/nearest"
)

const (
	// defaultContainer is the annotation that names the container meant when
	// none is named.
	defaultContainer = "kubectl.kubernetes.io/default-container"
	// maxPodsAsked is how many pods are looked at for a message that names them.
	maxPodsAsked = "200"
)

// pod makes a request for a pod, or for a part of it.
func pod(request *rest.Request, namespace, name string, part ...string) *rest.Request {
	return request.AbsPath("/api/v1").Namespace(orDefault(namespace)).Resource("pods").Name(name).SubResource(part...)
}

// findPod gets a pod. The error for one that does not exist names those that do.
func (s *session) findPod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	for _, segment := range []string{name, orDefault(namespace)} {
		if wrong := content.IsPathSegmentName(segment); segment == "" || len(wrong) > 0 {
			return nil, invalid("%q is no name of a pod or namespace", segment)
		}
	}
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, err := read(ctx, pod(s.raw.Get(), namespace, name))
	if apierrors.IsNotFound(err) {
		return nil, status.Errorf(codes.NotFound, "no pod %q in namespace %s; pods there: %s",
			name, orDefault(namespace), nearest.List(name, s.podNames(ctx, namespace)))
	}
	if err != nil {
		return nil, statusOf(err)
	}
	found := &corev1.Pod{}
	if err := json.Unmarshal(answer, found); err != nil {
		return nil, status.Errorf(codes.Internal, "read pod %s: %v", name, err)
	}
	return found, nil
}

// podNames is best effort: it only makes a message better.
func (s *session) podNames(ctx context.Context, namespace string) []string {
	answer, err := read(ctx, s.raw.Get().AbsPath("/api/v1").Namespace(orDefault(namespace)).Resource("pods").
		SetHeader("Accept", asMetadata).Param("limit", maxPodsAsked))
	if err != nil {
		return nil
	}
	var list metav1.PartialObjectMetadataList
	if json.Unmarshal(answer, &list) != nil {
		return nil
	}
	var names []string
	for _, item := range list.Items {
		names = append(names, item.Name)
	}
	return names
}

// chooseContainer returns the container that is meant: the one asked for, or
// the annotated one, or the first.
func chooseContainer(pod *corev1.Pod, asked string) (string, error) {
	var regular, others []string
	for _, c := range pod.Spec.Containers {
		regular = append(regular, c.Name)
	}
	for _, c := range pod.Spec.InitContainers {
		others = append(others, c.Name)
	}
	for _, c := range pod.Spec.EphemeralContainers {
		others = append(others, c.Name)
	}
	switch annotated := pod.Annotations[defaultContainer]; {
	case asked == "" && slices.Contains(regular, annotated):
		return annotated, nil
	case asked == "" && len(regular) > 0:
		return regular[0], nil
	case asked != "" && (slices.Contains(regular, asked) || slices.Contains(others, asked)):
		return asked, nil
	}
	there := strings.Join(regular, ", ")
	if len(others) > 0 {
		there += fmt.Sprintf("; init and ephemeral: %s", strings.Join(others, ", "))
	}
	return "", status.Errorf(codes.NotFound, "pod %q has no container %q; its containers: %s", pod.Name, asked, there)
}

// checkRuns says why no program can be run in a container, if so.
func checkRuns(pod *corev1.Pod, container string) error {
	why := "it has not started, the pod is " + string(pod.Status.Phase)
	for _, all := range [][]corev1.ContainerStatus{
		pod.Status.ContainerStatuses, pod.Status.InitContainerStatuses, pod.Status.EphemeralContainerStatuses,
	} {
		for _, s := range all {
			switch {
			case s.Name != container:
			case s.State.Running != nil:
				return nil
			case s.State.Waiting != nil:
				why = "it waits: " + s.State.Waiting.Reason
			case s.State.Terminated != nil:
				why = "it has ended: " + s.State.Terminated.Reason
			}
		}
	}
	return status.Errorf(codes.FailedPrecondition, "container %q of pod %q does not run: %s", container, pod.Name, why)
}
