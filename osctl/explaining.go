package main

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/cli-runtime/pkg/resource"
	client "k8s.io/client-go/kubernetes"
	"k8s.io/kubectl/pkg/polymorphichelpers"
	"k8s.io/kubectl/pkg/scheme"
)

const (
	// explainTimeout bounds what is asked to explain why a pod does not run: it
	// is an addition to an answer that stands already.
	explainTimeout = 20 * time.Second
	// maxExplained is how many pods are explained at most.
	maxExplained = 10
	// lastWords is how many lines of a crashed container's log are shown.
	lastWords int64 = 5
	// firstLook is how long a wait goes on in silence before it says what it
	// waits for: most are over by then.
	firstLook = 5 * time.Second
	// nextLook is the least time between two looks at what a wait waits for.
	nextLook = 2 * time.Second
	// lastWord is how long an explanation that is under way may hold up the end of
	// a wait.
	lastWord = time.Second
)

// explaining makes describe, wait and rollout status say in a sentence why pods
// do not start.
func (app *app) explaining(k *kubernetes, command *cobra.Command) *cobra.Command {
	switch command.Name() {
	case "describe":
		show := command.Run
		command.Run = func(command *cobra.Command, args []string) {
			show(command, args)
			app.explainAfter(command, k, args)
		}
	case "wait":
		app.explainDuring(k, command)
	case "rollout":
		for _, below := range command.Commands() {
			if below.Name() == "status" {
				app.explainDuring(k, below)
			}
		}
	}
	return command
}

// explainAfter adds to a description.
func (app *app) explainAfter(command *cobra.Command, k *kubernetes, args []string) {
	ctx, cancel := context.WithTimeout(command.Context(), explainTimeout)
	defer cancel()
	e, err := k.explainer()
	if err != nil {
		return
	}
	var lines []string
	for _, pod := range e.podsOf(ctx, command, args) {
		for _, cause := range e.causes(ctx, &pod) {
			lines = append(lines, fmt.Sprintf("  pod %s: %s", pod.Name, cause))
		}
	}
	if len(lines) > 0 {
		fmt.Fprintf(app.stdout, "\n%s\n%s\n", app.paint(red, "Why it does not run:"), strings.Join(lines, "\n"))
	}
}

// explainDuring says, on stderr, what a wait waits for: at first, and whenever
// that changes.
func (app *app) explainDuring(k *kubernetes, command *cobra.Command) {
	inner := command.Run
	command.Run = func(command *cobra.Command, args []string) {
		ctx, cancel := context.WithCancel(command.Context())
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			app.watchWait(ctx, command, k, args)
		}()
		defer func() {
			cancel()
			select {
			case <-ended:
			case <-time.After(lastWord):
			}
		}()
		inner(command, args)
	}
}

func (app *app) watchWait(ctx context.Context, command *cobra.Command, k *kubernetes, args []string) {
	look := time.NewTimer(firstLook)
	defer look.Stop()
	select {
	case <-look.C:
	case <-ctx.Done():
		return
	}
	e, err := k.explainer()
	if err != nil {
		return // the wait itself says so
	}
	said := make(map[string]bool)
	say := func(pod *corev1.Pod) {
		for _, cause := range e.causes(ctx, pod) {
			line := fmt.Sprintf("pod %s: %s", pod.Name, cause)
			if first, _, _ := strings.Cut(line, "\n"); ctx.Err() == nil && !said[first] {
				said[first] = true
				fmt.Fprintln(app.stderr, line)
			}
		}
	}
	for {
		began := time.Now()
		pods := e.podsOf(ctx, command, args)
		for _, pod := range pods {
			say(&pod)
		}
		if len(pods) > 0 && !e.awaitChange(ctx, pods[0].Namespace) {
			return
		}
		look.Reset(max(nextLook-time.Since(began), 0))
		select {
		case <-look.C:
		case <-ctx.Done():
			return
		}
	}
}

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

// podsOf returns the pods that a command's arguments name, or that belong to
// the workloads that they name, and are not ready. It is best effort.
func (e *explainer) podsOf(ctx context.Context, command *cobra.Command, args []string) []corev1.Pod {
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
	pods = slices.DeleteFunc(pods, func(pod corev1.Pod) bool {
		return isReady(&pod) || pod.Status.Phase == corev1.PodSucceeded
	})
	// The newest are those of a rollout that hangs.
	slices.SortStableFunc(pods, func(a, b corev1.Pod) int { return b.CreationTimestamp.Compare(a.CreationTimestamp.Time) })
	return pods[:min(len(pods), maxExplained)]
}

// awaitChange waits until a pod of the namespace changes. It returns false when
// that cannot be waited for.
func (e *explainer) awaitChange(ctx context.Context, namespace string) bool {
	list, err := e.client.CoreV1().Pods(namespace).List(ctx, metav1.ListOptions{Limit: 1})
	if err != nil {
		return false
	}
	changes, err := e.client.CoreV1().Pods(namespace).Watch(ctx, metav1.ListOptions{ResourceVersion: list.ResourceVersion})
	if err != nil {
		return false
	}
	defer changes.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-changes.ResultChan(): // a change, or the watch's end
		return true
	}
}

// causes looks around a pod, if it does not run.
func (e *explainer) causes(ctx context.Context, pod *corev1.Pod) []string {
	if isReady(pod) || pod.Status.Phase == corev1.PodSucceeded {
		return nil
	}
	around := surroundings{lastLines: func(container string) string {
		return e.lastLines(ctx, pod, container)
	}}
	if nodes, err := e.client.CoreV1().Nodes().List(ctx, metav1.ListOptions{}); err == nil {
		around.nodes = nodes.Items
	}
	about := fields.Set{"involvedObject.name": pod.Name, "involvedObject.uid": string(pod.UID)}
	if events, err := e.client.CoreV1().Events(pod.Namespace).List(ctx, metav1.ListOptions{FieldSelector: about.String()}); err == nil {
		around.events = events.Items
		slices.SortStableFunc(around.events, func(a, b corev1.Event) int { return a.LastTimestamp.Compare(b.LastTimestamp.Time) })
	}
	return diagnose(pod, around)
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
