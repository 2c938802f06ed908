package workloads

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/labels"

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
)

// maxConsidered is how many pods one is chosen of.
const maxConsidered = 20

// onePod finds a pod by its name, or the best one of "deployment/web": one that
// is ready, and the oldest of those.
func (s *session) onePod(ctx context.Context, namespace, name string) (*corev1.Pod, error) {
	resource, of, isOther := strings.Cut(name, "/")
	if !isOther {
		return s.findPod(ctx, namespace, name)
	}
	if isPods(resource) {
		return s.findPod(ctx, namespace, of)
	}
	pods, err := s.podsOf(ctx, namespace, resource, of, maxConsidered)
	if err != nil {
		return nil, err
	}
	return &pods[0], nil
}

func isPods(resource string) bool {
	return slices.Contains([]string{"pod", "pods", "po"}, strings.ToLower(resource))
}

// podsOf returns the pods of a workload or a Service, the best ones first, as
// many as selectPods does. It is an error if there are none.
func (s *session) podsOf(ctx context.Context, namespace, resource, name string, limit int) ([]corev1.Pod, error) {
	q, err := s.query(ctx, &workloadpb.Selection{Resource: resource, Names: []string{name}, Namespace: namespace}, workloadpb.Output_OUTPUT_OBJECTS)
	if err != nil {
		return nil, err
	}
	limited, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	answer, err := read(limited, q.request(name))
	if err != nil {
		return nil, statusOf(err)
	}
	var object map[string]any
	if err := json.Unmarshal(answer, &object); err != nil {
		return nil, status.Errorf(codes.Internal, "read %s %s: %v", resource, name, err)
	}
	selector, err := podSelector(object)
	if err != nil {
		return nil, status.Errorf(codes.FailedPrecondition, "%s %s: %v", resource, name, err)
	}
	pods, err := s.selectPods(ctx, namespace, selector, limit)
	if err != nil {
		return nil, err
	}
	if len(pods) == 0 {
		return nil, status.Errorf(codes.NotFound, "%s %s has no pods (osctl describe %s %s says why)", resource, name, resource, name)
	}
	return pods, nil
}

// podSelector reads the selector of a workload, or the map of labels that a
// Service or a ReplicationController has in its place.
func podSelector(object map[string]any) (string, error) {
	spec, found, _ := unstructured.NestedMap(object, "spec", "selector")
	if !found || len(spec) == 0 {
		return "", invalid("it selects no pods")
	}
	_, isSet := spec["matchLabels"]
	if _, expressions := spec["matchExpressions"]; !isSet && !expressions {
		set, _, err := unstructured.NestedStringMap(object, "spec", "selector")
		return labels.SelectorFromSet(set).String(), err
	}
	text, err := json.Marshal(spec)
	if err != nil {
		return "", err
	}
	var full metav1.LabelSelector
	if err := json.Unmarshal(text, &full); err != nil {
		return "", err
	}
	selector, err := metav1.LabelSelectorAsSelector(&full)
	if err != nil {
		return "", err
	}
	return selector.String(), nil
}

// selectPods lists the pods with the labels, at most limit of them unless that
// is zero, the best ones first.
func (s *session) selectPods(ctx context.Context, namespace, selector string, limit int) ([]corev1.Pod, error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	request := s.raw.Get().AbsPath("/api/v1").Namespace(orDefault(namespace)).Resource("pods").Param("labelSelector", selector)
	if limit > 0 {
		request.Param("limit", strconv.Itoa(limit))
	}
	release, err := s.lists.take(ctx)
	if err != nil {
		return nil, err
	}
	defer release()
	answer, err := read(ctx, request)
	if err != nil {
		return nil, statusOf(err)
	}
	var list corev1.PodList
	if err := json.Unmarshal(answer, &list); err != nil {
		return nil, status.Errorf(codes.Internal, "read pods: %v", err)
	}
	slices.SortStableFunc(list.Items, func(a, b corev1.Pod) int {
		if byState := usable(&b) - usable(&a); byState != 0 {
			return byState
		}
		return a.CreationTimestamp.Compare(b.CreationTimestamp.Time)
	})
	return list.Items, nil
}

// usable ranks pods by how likely they are the one that is meant.
func usable(pod *corev1.Pod) int {
	if pod.DeletionTimestamp != nil {
		return 0
	}
	for _, condition := range pod.Status.Conditions {
		if condition.Type == corev1.PodReady && condition.Status == corev1.ConditionTrue {
			return 3
		}
	}
	if pod.Status.Phase == corev1.PodRunning {
		return 2
	}
	return 1
}
