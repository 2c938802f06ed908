package localpath

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/client-go/tools/record"
)

// world is a cluster, with this node's agent at work in it.
type world struct {
	t      *testing.T
	client *fake.Clientset
	agent  *agent
	events *record.FakeRecorder
}

// inWorld runs test while an agent serves, in time of its own. The API server is
// client-go's fake one: it knows no finalizers, which TestNative's does.
func inWorld(t *testing.T, forGone bool, objects []runtime.Object, test func(w *world)) {
	t.Helper()
	disk := newFolder(t)
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		client := fake.NewClientset(objects...)
		selector := nodeLabel
		if !forGone {
			selector += "=" + here.node
		}
		watches, err := newWatches(client, selector)
		must(t, err)
		w := &world{t: t, client: client, events: record.NewFakeRecorder(1000)}
		w.agent = &agent{
			client: client, at: place{node: here.node, folder: disk.path}, disk: disk,
			watches: watches, events: w.events, forGone: forGone,
		}
		ended := make(chan error)
		go func() { ended <- serve(ctx, w.agent) }()
		w.settle(time.Second)
		test(w)
		stop()
		must(t, <-ended)
	})
}

// settle lets some time pass, and everything that is due in it be done.
func (w *world) settle(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func (w *world) volume(name string) *corev1.PersistentVolume {
	w.t.Helper()
	volume, err := w.client.CoreV1().PersistentVolumes().Get(w.t.Context(), name, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return nil
	}
	must(w.t, err)
	return volume
}

func (w *world) claim(name string) *corev1.PersistentVolumeClaim {
	w.t.Helper()
	claim, err := w.client.CoreV1().PersistentVolumeClaims("shop").Get(w.t.Context(), name, metav1.GetOptions{})
	must(w.t, err)
	return claim
}

func (w *world) create(claim *corev1.PersistentVolumeClaim) {
	w.t.Helper()
	_, err := w.client.CoreV1().PersistentVolumeClaims("shop").Create(w.t.Context(), claim, metav1.CreateOptions{})
	must(w.t, err)
	w.settle(time.Second)
}

// update changes a volume as Kubernetes' controllers and people do.
func (w *world) update(name string, change func(*corev1.PersistentVolume)) {
	w.t.Helper()
	volume := w.volume(name)
	change(volume)
	_, err := w.client.CoreV1().PersistentVolumes().Update(w.t.Context(), volume, metav1.UpdateOptions{})
	must(w.t, err)
	w.settle(time.Second)
}

func (w *world) told() []string {
	var list []string
	for {
		select {
		case event := <-w.events.Events:
			list = append(list, event)
		default:
			return list
		}
	}
}

// hasFolder tells whether a volume's folder is on the disk.
func (w *world) hasFolder(name string) bool {
	_, err := os.Stat(w.agent.at.path(name))
	return err == nil
}

func released(v *corev1.PersistentVolume) { v.Status.Phase = corev1.VolumeReleased }

func TestAClaimGetsItsVolume(t *testing.T) {
	inWorld(t, false, []runtime.Object{newClass()}, func(w *world) {
		w.create(newClaim("mine", here.node))
		w.create(newClaim("anothers", "node-2"))
		w.create(newClaim("bound", here.node, func(c *corev1.PersistentVolumeClaim) { c.Spec.VolumeName = "pv-7" }))
		w.create(newClaim("of-another-class", here.node, func(c *corev1.PersistentVolumeClaim) { c.Annotations[provisionerKey] = "example.com/x" }))
		w.create(newClaim("not-placed", ""))
		list, err := w.client.CoreV1().PersistentVolumes().List(w.t.Context(), metav1.ListOptions{})
		must(t, err)
		if len(list.Items) != 1 || list.Items[0].Name != "pvc-uid-of-mine" || !w.hasFolder("pvc-uid-of-mine") {
			t.Fatalf("volumes: %v", list.Items)
		}
		want := []string{"Normal ProvisioningSucceeded volume pvc-uid-of-mine is made on node node-1"}
		if got := w.told(); !slices.Equal(got, want) {
			t.Errorf("events %q, want %q", got, want)
		}
	})
}

// A claim that was served before a restart is served no second time.
func TestAfterARestart(t *testing.T) {
	claim := newClaim("mine", here.node)
	inWorld(t, false, []runtime.Object{newClass(), claim, newVolume(claim, newClass(), here)}, func(w *world) {
		if got := w.told(); len(got) != 0 {
			t.Errorf("events %q", got)
		}
	})
}

func TestARefusalIsToldAndTheNodeChosenAnew(t *testing.T) {
	huge := newClaim("huge", here.node, func(c *corev1.PersistentVolumeClaim) {
		c.Spec.Resources.Requests[corev1.ResourceStorage] = resource.MustParse("1Ei")
	})
	block := newClaim("block", here.node, func(c *corev1.PersistentVolumeClaim) {
		mode := corev1.PersistentVolumeBlock
		c.Spec.VolumeMode = &mode
	})
	inWorld(t, false, []runtime.Object{newClass()}, func(w *world) {
		for _, claim := range []*corev1.PersistentVolumeClaim{huge, block} {
			w.create(claim)
			if got := strings.Join(w.told(), "\n"); !strings.HasPrefix(got, "Warning ProvisioningFailed ") || strings.Contains(got, "\n") {
				t.Errorf("%s: events %q", claim.Name, got)
			}
			_, chosen := w.claim(claim.Name).Annotations[selectedNodeKey]
			if want := claim != huge; chosen != want { // no node has block volumes
				t.Errorf("%s: the node stays chosen: %t, want %t", claim.Name, chosen, want)
			}
			if w.volume(volumeName(claim)) != nil || w.hasFolder(volumeName(claim)) {
				t.Errorf("%s has a volume", claim.Name)
			}
		}
	})
}

func TestARemovedClaimsDataGo(t *testing.T) {
	inWorld(t, false, []runtime.Object{newClass()}, func(w *world) {
		w.create(newClaim("mine", here.node))
		w.create(newClaim("kept", here.node))
		w.update("pvc-uid-of-kept", func(v *corev1.PersistentVolume) {
			v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimRetain
		})
		for _, name := range []string{"pvc-uid-of-mine", "pvc-uid-of-kept"} {
			must(t, os.WriteFile(w.agent.at.path(name)+"/data", []byte("x"), 0o600))
			w.update(name, released)
		}
		if w.volume("pvc-uid-of-mine") != nil || w.hasFolder("pvc-uid-of-mine") {
			t.Error("the volume or its folder is still there")
		}
		if kept := w.volume("pvc-uid-of-kept"); kept == nil || len(kept.Finalizers) != 0 || !w.hasFolder("pvc-uid-of-kept") {
			t.Errorf("what is to be kept was not: %+v", kept)
		}
		// The way to remove kept data.
		w.update("pvc-uid-of-kept", func(v *corev1.PersistentVolume) {
			v.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
		})
		if w.volume("pvc-uid-of-kept") != nil || w.hasFolder("pvc-uid-of-kept") {
			t.Error("not to be kept any more, and still there")
		}
	})
}

// A folder that was begun for a claim that went is no use to anyone; data are.
func TestSweep(t *testing.T) {
	disk := newFolder(t)
	mine, waits := newClaim("mine", here.node), newClaim("waits", here.node)
	at := place{here.node, disk.path}
	for _, name := range []string{"pvc-of-nobody", "pvc-kept", volumeName(mine), volumeName(waits)} {
		must(t, disk.create(name))
	}
	must(t, os.WriteFile(at.path("pvc-kept")+"/data", []byte("x"), 0o600))
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		client := fake.NewClientset(newClass(), waits, newVolume(mine, newClass(), at))
		watches, err := newWatches(client, nodeLabel+"="+here.node)
		must(t, err)
		ended := make(chan error)
		go func() {
			ended <- serve(ctx, &agent{client: client, at: at, disk: disk, watches: watches, events: record.NewFakeRecorder(9)})
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		stop()
		must(t, <-ended)
	})
	isGone(t, at.path("pvc-of-nobody"))
	for _, name := range []string{"pvc-kept/data", volumeName(mine), volumeName(waits)} {
		if _, err := os.Stat(at.path(name)); err != nil {
			t.Error(err)
		}
	}
}

// What was released while the node was down is removed once it is back.
func TestReleasedWhileDown(t *testing.T) {
	disk := newFolder(t)
	volume := newVolume(newClaim("mine", here.node), newClass(), place{here.node, disk.path})
	released(volume)
	must(t, disk.create(volume.Name))
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(t.Context())
		client := fake.NewClientset(volume)
		watches, err := newWatches(client, nodeLabel+"="+here.node)
		must(t, err)
		ended := make(chan error)
		go func() {
			ended <- serve(ctx, &agent{client: client, at: place{here.node, disk.path}, disk: disk, watches: watches, events: record.NewFakeRecorder(9)})
		}()
		time.Sleep(time.Second)
		synctest.Wait()
		isGone(t, disk.path+"/"+volume.Name)
		if _, err := client.CoreV1().PersistentVolumes().Get(ctx, volume.Name, metav1.GetOptions{}); !apierrors.IsNotFound(err) {
			t.Errorf("the volume is still there: %v", err)
		}
		stop()
		must(t, <-ended)
	})
}

func TestForNodesThatAreGone(t *testing.T) {
	immediate := storagev1.VolumeBindingImmediate
	there := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node-2"}}
	at := func(node string) func(*corev1.PersistentVolumeClaim) {
		return func(c *corev1.PersistentVolumeClaim) { c.Annotations[selectedNodeKey] = node }
	}
	objects := []runtime.Object{
		newClass(), there,
		newClass(func(c *storagev1.StorageClass) { c.Name, c.VolumeBindingMode = "at-once", &immediate }),
	}
	for _, forGone := range []bool{true, false} {
		t.Run(fmt.Sprint(forGone), func(t *testing.T) {
			inWorld(t, forGone, objects, func(w *world) {
				w.create(newClaim("slow", "", at("node-2")))
				w.create(newClaim("lost", "", at("node-3")))
				w.create(newClaim("early", "", func(c *corev1.PersistentVolumeClaim) {
					name := "at-once"
					c.Spec.StorageClassName = &name
				}))
				for name, node := range map[string]string{"a": "node-2", "b": "node-3"} {
					volume := newVolume(newClaim(name, node), newClass(), place{node, w.agent.at.folder})
					released(volume)
					_, err := w.client.CoreV1().PersistentVolumes().Create(t.Context(), volume, metav1.CreateOptions{})
					must(t, err)
				}
				if got := w.told(); len(got) != 0 {
					t.Errorf("told before the nodes had their time: %q", got)
				}
				w.settle(foreignAfter)
				chosen := func(name string) string { return w.claim(name).Annotations[selectedNodeKey] }
				if chosen("slow") != "node-2" || (chosen("lost") == "") != forGone {
					t.Errorf("chosen are %q, %q", chosen("slow"), chosen("lost"))
				}
				if w.volume("pvc-uid-of-a") == nil || (w.volume("pvc-uid-of-b") == nil) != forGone {
					t.Error("wrong volumes are left")
				}
				told := strings.Join(w.told(), "\n")
				for _, want := range []string{"node node-3 was chosen for this volume and is not in the cluster", "StorageClass at-once has volumeBindingMode Immediate"} {
					if strings.Contains(told, want) != forGone {
						t.Errorf("events %q, %q among them: want %t", told, want, forGone)
					}
				}
				// It leaves later.
				must(t, w.client.CoreV1().Nodes().Delete(t.Context(), "node-2", metav1.DeleteOptions{}))
				w.settle(foreignEvery + time.Second)
				if (chosen("slow") == "") != forGone || (w.volume("pvc-uid-of-a") == nil) != forGone {
					t.Errorf("after node-2 left too: chosen %q, volume %v", chosen("slow"), w.volume("pvc-uid-of-a"))
				}
			})
		})
	}
}
