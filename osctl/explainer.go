package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	apiwatch "k8s.io/apimachinery/pkg/watch"
	"k8s.io/cli-runtime/pkg/resource"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/polymorphichelpers"
	"k8s.io/kubectl/pkg/scheme"
)

// explainer finds out why pods do not run.
type explainer struct {
	kubernetes *kubernetes
	client     client.Interface
	namespace  string
}

func (k *kubernetes) explainer() (*explainer, error) {
	config, err := k.ToRESTConfig()
	if err != nil {
		return nil, err
	}
	made, err := client.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	namespace, _, _ := k.ToRawKubeConfigLoader().Namespace() // never fails
	return &explainer{kubernetes: k, client: made, namespace: namespace}, nil
}

// look looks at the pods that a command's arguments name, and at those of the
// workloads that they name. It is best effort.
func (e *explainer) look(ctx context.Context, command *cobra.Command, args []string) sight {
	var seen sight
	infos := e.named(command, args)
	for _, owner := range e.behind(ctx, infos) {
		if why := owner.whyMissing(); why != "" {
			seen.causes = append(seen.causes, why)
		} else {
			seen.state = func(context.Context) string {
				return fmt.Sprintf("waiting for pods of %s: there are %d of %d", owner.label, owner.there, owner.wanted)
			}
		}
	}
	pods := e.podsOf(ctx, infos)
	for _, pod := range pods {
		for _, cause := range e.causes(ctx, &pod) {
			seen.causes = append(seen.causes, fmt.Sprintf("pod %s: %s", pod.Name, cause))
		}
	}
	if len(pods) > 0 {
		seen.state = func(ctx context.Context) string { return e.state(ctx, pods) }
		seen.awaitChange = func(ctx context.Context) { e.awaitChange(ctx, pods[0].Namespace) }
	}
	return seen
}

// named finds the objects that a command's arguments name.
func (e *explainer) named(command *cobra.Command, args []string) []*resource.Info {
	if len(args) == 0 {
		return nil
	}
	flags := command.Flags()
	selector, _ := flags.GetString("selector")
	all, _ := flags.GetBool("all-namespaces")
	infos, _ := resource.NewBuilder(e.kubernetes).
		WithScheme(scheme.Scheme, scheme.Scheme.PrioritizedVersionsAllGroups()...).
		NamespaceParam(e.namespace).DefaultNamespace().AllNamespaces(all).
		LabelSelectorParam(selector).ResourceTypeOrNameArgs(true, args...).
		ContinueOnError().Flatten().Do().Infos()
	return infos
}

// podsOf returns the pods among the objects, and those of the workloads, that
// are not ready; if all are, they are still what is waited for.
func (e *explainer) podsOf(ctx context.Context, infos []*resource.Info) []corev1.Pod {
	var pods []corev1.Pod
	for _, info := range infos {
		if pod, ok := info.Object.(*corev1.Pod); ok {
			pods = append(pods, *pod)
			continue
		}
		namespace, selector, err := polymorphichelpers.SelectorsForObject(info.Object)
		if err != nil {
			continue // it has no pods
		}
		list, err := e.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{LabelSelector: selector.String(), Limit: 100})
		if err == nil {
			pods = append(pods, list.Items...)
		}
	}
	pods = slices.DeleteFunc(pods, func(pod corev1.Pod) bool { return pod.Status.Phase == corev1.PodSucceeded })
	if unready := slices.DeleteFunc(slices.Clone(pods), func(pod corev1.Pod) bool { return isReady(&pod) }); len(unready) > 0 {
		pods = unready
	}
	// The newest are those of a rollout that hangs.
	slices.SortStableFunc(pods, func(a, b corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	return pods[:min(len(pods), maxExplained)]
}

// behind returns the workloads among the objects that have fewer pods than they
// want, with what their controllers said.
func (e *explainer) behind(ctx context.Context, infos []*resource.Info) []*podOwner {
	var owners []*podOwner
	for _, info := range infos {
		owner := newPodOwner(info.Object)
		if owner == nil || owner.there >= owner.wanted || len(owners) == maxExplained {
			continue
		}
		owners = append(owners, owner)
		if deployment, ok := info.Object.(*appsv1.Deployment); ok {
			// ReplicaSets make its pods.
			its := metav1.ListOptions{LabelSelector: metav1.FormatLabelSelector(deployment.Spec.Selector)}
			if sets, err := e.client.AppsV1().ReplicaSets(info.Namespace).List(ctx, its); err == nil {
				owner.through(sets.Items)
			}
		}
		failed := fields.Set{"reason": failedCreate, "type": corev1.EventTypeWarning}
		if events, err := e.client.CoreV1().Events(info.Namespace).List(ctx, metav1.ListOptions{FieldSelector: failed.String()}); err == nil {
			owner.events = inTime(events.Items)
		}
	}
	return owners
}

// state is one line about pods: how far they are, and what happened last.
func (e *explainer) state(ctx context.Context, pods []corev1.Pod) string {
	var parts []string
	for _, pod := range pods[:min(len(pods), maxShown)] {
		parts = append(parts, podState(&pod, e.events(ctx, &pod)))
	}
	line := "waiting for " + strings.Join(parts, ", ")
	if more := len(pods) - len(parts); more > 0 {
		line += fmt.Sprintf(" and %d more", more)
	}
	return line
}

// awaitChange waits until a pod of the namespace changes, or until ctx ends if
// that cannot be seen.
func (e *explainer) awaitChange(ctx context.Context, namespace string) {
	var changes <-chan apiwatch.Event
	if list, err := e.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{Limit: 1}); err == nil {
		watched, err := e.client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
		if err == nil {
			defer watched.Stop()
			changes = watched.ResultChan()
		}
	}
	select {
	case <-ctx.Done():
	case <-changes: // a change, or the watch's end
	}
}

// causes looks around a pod, if it does not run.
func (e *explainer) causes(ctx context.Context, pod *corev1.Pod) []string {
	if isReady(pod) || pod.Status.Phase == corev1.PodSucceeded {
		return nil
	}
	around := surroundings{events: e.events(ctx, pod), lastLines: func(container string) string {
		return e.lastLines(ctx, pod, container)
	}}
	if nodes, err := e.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); err == nil {
		around.nodes = nodes.Items
	}
	return diagnose(pod, around)
}

// events returns what is told about a pod, the oldest first.
func (e *explainer) events(ctx context.Context, pod *corev1.Pod) []corev1.Event {
	about := fields.Set{"involvedObject.name": pod.Name, "involvedObject.uid": string(pod.UID)}
	events, err := e.client.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: about.String()})
	if err != nil {
		return nil
	}
	return inTime(events.Items)
}

// lastLines asks for the log of the container's last try, and of this one if
// there was no other.
func (e *explainer) lastLines(ctx context.Context, pod *corev1.Pod, container string) string {
	for _, previous := range []bool{true, false} {
		tail := lastWords
		text, err := e.client.CoreV1().Pods(pod.Namespace).GetLogs(pod.Name, &corev1.PodLogOptions{
			Container: container, Previous: previous, TailLines: &tail, LimitBytes: new(int64(4 << 10)),
		}).DoRaw(ctx)
		if err == nil && len(text) > 0 {
			return string(text)
		}
	}
	return ""
}
