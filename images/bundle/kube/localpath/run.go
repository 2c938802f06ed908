package localpath

import (
	"context"
	"errors"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/record"
	"k8s.io/klog/v2"
)

// component is who events are from.
const component = "local-path-provisioner"

// Calls a second, on average and at once: a StatefulSet may ask for a hundred
// volumes.
const (
	callRate  = 50
	callBurst = 100
)

// run serves this node's claims until ctx ends.
func run(ctx context.Context, o options) error {
	disk, err := openFolder(o.volumes)
	if err != nil {
		return err
	}
	defer disk.dir.Close()
	access, err := clientcmd.BuildConfigFromFlags("", o.kubeconfig)
	if err != nil {
		return err
	}
	access.QPS, access.Burst = callRate, callBurst
	access.ContentType = "application/vnd.kubernetes.protobuf"
	client, err := kubernetes.NewForConfig(access)
	if err != nil {
		return err
	}
	switch err := confine(o.volumes, o.kubeconfig); {
	case errors.Is(err, errNoLandlock):
		klog.InfoS("Not confined to the folder of volumes", "reason", err)
	case err != nil:
		return err
	}
	broadcaster := record.NewBroadcaster(record.WithContext(ctx))
	defer broadcaster.Shutdown()
	broadcaster.StartRecordingToSink(&typedcorev1.EventSinkImpl{Interface: client.CoreV1().Events("")})
	selector := nodeLabel
	if !o.forGoneNodes {
		selector += "=" + o.nodeName
	}
	watches, err := newWatches(client, selector)
	if err != nil {
		return err
	}
	return serve(ctx, &agent{
		client: client, at: place{node: o.nodeName, folder: o.volumes}, disk: disk, watches: watches, forGone: o.forGoneNodes,
		events: broadcaster.NewRecorder(scheme.Scheme, corev1.EventSource{Component: component, Host: o.nodeName}),
	})
}

// serve hands claims to one worker and volumes to another: to remove a million
// files takes a while.
func serve(ctx context.Context, a *agent) error {
	claims, volumes := newQueue[claimKey](), newQueue[string]()
	err := a.watches.follow(ctx, func(claim *corev1.PersistentVolumeClaim) {
		switch {
		case !isPending(claim):
		case claim.Annotations[selectedNodeKey] == a.at.node:
			claims.Add(keyOf(claim))
		case a.forGone:
			claims.AddAfter(keyOf(claim), foreignAfter)
		}
	}, func(volume *corev1.PersistentVolume) {
		switch {
		case nextStep(volume, a.at.folder) == leave:
		case nodeOf(volume) == a.at.node:
			volumes.Add(volume.Name)
		default:
			volumes.AddAfter(volume.Name, foreignAfter)
		}
	})
	if err != nil {
		return err
	}
	a.sweep(ctx)
	klog.InfoS("Serving claims", "node", a.at.node, "folder", a.at.folder)
	var workers sync.WaitGroup
	workers.Go(func() { claims.work(ctx, a.syncClaim) })
	workers.Go(func() { volumes.work(ctx, a.syncVolume) })
	workers.Wait()
	return nil
}
