package flanneld

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/tools/clientcmd"
	watchtools "k8s.io/client-go/tools/watch"
)

// waitForSubnet returns when the controller-manager has given the node a
// subnet. flannel would try for half a minute and give up; a watch takes no
// longer than it must, which on a first boot is what pods wait for.
func waitForSubnet(ctx context.Context, kubeconfig, node string) error {
	config, err := clientcmd.BuildConfigFromFlags("", kubeconfig)
	if err != nil {
		return err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	nodes := cache.NewListWatchFromClient(client.CoreV1().RESTClient(), "nodes", metav1.NamespaceAll,
		fields.OneTermEqualSelector(metav1.ObjectNameField, node))
	_, err = watchtools.UntilWithSync(ctx, nodes, &corev1.Node{}, nil, hasSubnet)
	return err
}

// hasSubnet tells whether an event shows a node with a subnet.
func hasSubnet(event watch.Event) (bool, error) {
	node, ok := event.Object.(*corev1.Node)
	return ok && event.Type != watch.Deleted && node.Spec.PodCIDR != "", nil
}
