package flanneld

import (
	"context"
	"fmt"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
)

// lookAgain is how long at most nobody looks at the nodes again although none
// changed: what is wrong may have been mended outside the cluster.
const lookAgain = 30 * time.Second

// nodes is the cluster's Node objects, as far as the pod network is concerned.
type nodes struct {
	store cache.Store
	// changed holds a token when a node came, went or changed since the last look.
	changed chan struct{}
}

// followNodes returns once the list is complete. It is kept so until ctx ends.
func followNodes(ctx context.Context, client kubernetes.Interface) (*nodes, error) {
	n := &nodes{changed: make(chan struct{}, 1)}
	changed := func() {
		select {
		case n.changed <- struct{}{}:
		default:
		}
	}
	store, controller := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "nodes", metav1.NamespaceAll, fields.Everything()),
		ObjectType:    &corev1.Node{},
		ResyncPeriod:  lookAgain,
		Transform:     essence,
		Handler: cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { changed() },
			UpdateFunc: func(any, any) { changed() },
			DeleteFunc: func(any) { changed() },
		},
	})
	n.store = store
	go controller.RunWithContext(ctx)
	if !cache.WaitFor(ctx, "", controller.HasSyncedChecker()) {
		return nil, fmt.Errorf("list the nodes: %w", context.Cause(ctx))
	}
	return n, nil
}

// essence drops what takes memory and does not matter here: conditions, images.
func essence(object any) (any, error) {
	node, ok := object.(*corev1.Node)
	if !ok {
		return object, nil // the word that a node was deleted while nobody looked
	}
	slim := &corev1.Node{
		ObjectMeta: metav1.ObjectMeta{
			Name: node.Name, UID: node.UID, ResourceVersion: node.ResourceVersion,
			CreationTimestamp: node.CreationTimestamp, Annotations: map[string]string{},
		},
		Spec: corev1.NodeSpec{PodCIDR: node.Spec.PodCIDR, PodCIDRs: node.Spec.PodCIDRs},
	}
	for key, value := range node.Annotations {
		if strings.HasPrefix(key, annotationPrefix) {
			slim.Annotations[key] = value
		}
	}
	return slim, nil
}

// wait returns when there may be something new to see.
func (n *nodes) wait(ctx context.Context) error {
	select {
	case <-n.changed:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// waitForSubnet returns when the controller-manager has given the node a
// subnet.
func (n *nodes) waitForSubnet(ctx context.Context, name string) error {
	for {
		if _, err := nodeSubnet(n.get(name)); err == nil {
			return nil
		}
		if err := n.wait(ctx); err != nil {
			return fmt.Errorf("wait for the subnet of node %s: %w", name, err)
		}
	}
}

// get returns the node, an empty one if there is none.
func (n *nodes) get(name string) *corev1.Node {
	object, exists, err := n.store.GetByKey(name)
	if node, ok := object.(*corev1.Node); ok && exists && err == nil {
		return node
	}
	return &corev1.Node{}
}

func (n *nodes) list() []*corev1.Node {
	var list []*corev1.Node
	for _, object := range n.store.List() {
		if node, ok := object.(*corev1.Node); ok {
			list = append(list, node)
		}
	}
	return list
}
