package e2e

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// The pod is an ordinary user's, and restricted as far as Pod Security goes.
const storeManifest = `
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: store}
spec:
  serviceName: store
  replicas: 1
  selector: {matchLabels: {app: store}}
  template:
    metadata: {labels: {app: store}}
    spec:
      terminationGracePeriodSeconds: 1
      securityContext: {runAsUser: 1234, runAsGroup: 1234, runAsNonRoot: true, seccompProfile: {type: RuntimeDefault}}
      containers:
      - name: store
        image: ` + toolboxImage + `
        imagePullPolicy: Never
        securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}
        volumeMounts: [{name: data, mountPath: /data}]
  volumeClaimTemplates:
  - metadata: {name: data}
    spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: shared}
spec:
  containers: [{name: shared, image: ` + toolboxImage + `, imagePullPolicy: Never}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: shared}}]
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: shared}
spec: {accessModes: [ReadWriteMany], resources: {requests: {storage: 1Gi}}}
`

const (
	storeClaim  = "data-store-0"
	volumesHere = "/host/var/lib/local-path-provisioner"
)

func storeHolds(want string) error {
	out, err := osctlFor(settleDeadline, nil, "exec", "pod/store-0", "--", "/toolbox", "cat", "/data/word")
	if err == nil && out != want {
		err = fmt.Errorf("the volume holds %q, want %q", out, want)
	}
	return err
}

func testVolumes(t *testing.T) {
	startToolbox(t) // its image
	osctl(t, "apply", "-f", write(t, "store.yaml", []byte(storeManifest)))
	eventually(t, "the pod writes to its volume", func() error {
		_, err := osctlFor(settleDeadline, nil, "exec", "pod/store-0", "--", "/toolbox", "write", "/data/word", "kept")
		return err
	})
	uid := func() string {
		out, _ := osctlFor(settleDeadline, nil, "get", "pod", "store-0", "-o", "jsonpath={.metadata.uid}")
		return out
	}
	before := uid()
	osctl(t, "delete", "pod", "store-0")
	eventually(t, "the next pod has the data", func() error {
		if uid() == before {
			return errors.New("the pod is still the same")
		}
		return storeHolds("kept")
	})
	eventually(t, "the claim that cannot be served says why", func() error {
		out, err := osctlFor(settleDeadline, nil, "get", "events", "--field-selector", "involvedObject.name=shared,reason=ProvisioningFailed", "-o", "jsonpath={.items[*].message}")
		if err == nil && !strings.Contains(out, "accessMode ReadWriteMany is asked for") {
			err = fmt.Errorf("its events: %q", out)
		}
		return err
	})
	osctl(t, "delete", "pod", "shared")
	osctl(t, "delete", "pvc", "shared")
}

func testVolumesAfterReboot(t *testing.T) {
	eventually(t, "the pod has its data again", func() error { return storeHolds("kept") })
	box := startToolbox(t)
	volume := strings.TrimSpace(osctl(t, "get", "pvc", storeClaim, "-o", "jsonpath={.spec.volumeName}"))
	if out := box.run(t, "ls", volumesHere); !strings.Contains(out, volume) {
		t.Fatalf("the folder of %s is not among:\n%s", volume, out)
	}
	osctl(t, "delete", "statefulset", "store")
	osctl(t, "delete", "pvc", storeClaim)
	eventually(t, "the data are removed", func() error {
		if out := box.run(t, "ls", volumesHere); strings.Contains(out, volume) {
			return fmt.Errorf("still there:\n%s", out)
		}
		return nil
	})
}
