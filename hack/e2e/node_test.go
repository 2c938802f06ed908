package e2e

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/api/cluster"
	"github.com/keelson-os/keelson/pkg/api/service"
	"github.com/keelson-os/keelson/pkg/version"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

func testCommandsAnswer(t *testing.T) {
	for _, c := range []struct {
		args string
		want string // a regular expression that the output must match
	}{
		{"version", regexp.QuoteMeta(version.Version)},
		{"get nodes", `Ready\s`},
		{"services", `kube-apiserver\s+running\s+healthy`},
		{"get pods -A", ""},
		{"logs etcd", `\w`},
		{"dmesg", `Linux version 6\.12`},
		{"node-events", `etcd`},
		{"health", `etcd`},
		{"cluster list", clusterName},
		{"cluster status " + clusterName, `running`},
		{"config contexts", clusterName},
		{"config info", `os:admin`},
		{"get nodes -o json", `"kind": ?"(Node|List)"`},
		{"get nodes -o yaml", `kind: `},
		{"services -o json", `"name": ?"etcd"`},
		{"services -o yaml", `name: etcd`},
		{"completion bash", `osctl`},
	} {
		out := osctl(t, strings.Fields(c.args)...)
		if !regexp.MustCompile(c.want).MatchString(out) {
			t.Errorf("osctl %s: nothing matches %q in:\n%s", c.args, c.want, out)
		}
	}
}

// testLeastPrivilege reads from the node's /proc what the table of users and
// capabilities promises.
func testLeastPrivilege(t *testing.T) {
	box := startToolbox(t)
	const netAdmin, netBind = 1 << 12, 1 << 10 // linux/capability.h
	const files = 1<<0 | 1<<1 | 1<<3           // CHOWN, DAC_OVERRIDE, FOWNER
	for _, want := range []struct {
		service string
		root    bool
		caps    uint64
	}{
		{"apid", false, 0},
		{"balancer", false, 0},
		{"etcd", false, 0},
		{"kube-apiserver", false, 0},
		{"kube-controller-manager", false, 0},
		{"kube-scheduler", false, 0},
		{"kube-proxy", false, netAdmin},
		{"flannel", false, netAdmin},
		{"coredns", false, netBind},
		{"metrics-server", false, 0},
		{"local-path-provisioner", false, files},
	} {
		text := box.run(t, "cat", fmt.Sprintf("/proc/%d/status", getService(t, want.service).GetPid()))
		field := func(name string) string {
			m := regexp.MustCompile(`(?m)^` + name + `:\s+(\S+)`).FindStringSubmatch(text)
			if m == nil {
				t.Fatalf("%s: no %s in %s", want.service, name, text)
			}
			return m[1]
		}
		if (field("Uid") == "0") != want.root {
			t.Errorf("%s runs as uid %s", want.service, field("Uid"))
		}
		if field("NoNewPrivs") != "1" {
			t.Errorf("%s may gain privileges", want.service)
		}
		var bounding uint64
		if _, err := fmt.Sscanf(field("CapBnd"), "%x", &bounding); err != nil || bounding != want.caps {
			t.Errorf("%s may gain capabilities %#x, expected at most %#x", want.service, bounding, want.caps)
		}
	}
}

// testServicesComeFirst sees that pods which burn every CPU leave the node's
// services what they need.
func testServicesComeFirst(t *testing.T) {
	weight := func(group string) (weight int) {
		text := startToolbox(t).run(t, "cat", "/proc/1/root/sys/fs/cgroup/"+group+"/cpu.weight")
		if _, err := fmt.Sscan(text, &weight); err != nil {
			t.Fatalf("the weight of %s is %q: %v", group, text, err)
		}
		return weight
	}
	if services, pods := weight("keelson"), weight("kubepods"); services < 5*pods {
		t.Errorf("when CPU time is short, services get %d parts and pods %d", services, pods)
	}
}

func testSecondBootstrap(t *testing.T) {
	_, err := dial(t).Cluster.Bootstrap(t.Context(), &cluster.BootstrapRequest{})
	if status.Code(err) != codes.FailedPrecondition {
		t.Errorf("a second bootstrap: %v, expected FailedPrecondition", err)
	}
	osctlFails(t, []string{"bootstrap"}, "bootstrap")
}

func getService(t *testing.T, name string) *service.Service {
	t.Helper()
	list, err := dial(t).Service.List(t.Context(), &service.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.GetServices() {
		if s.GetName() == name {
			return s
		}
	}
	t.Fatalf("no service %q among %v", name, list.GetServices())
	return nil
}

// restartsOfOneKill is how often a killed service may be started until it is
// healthy. A kube-apiserver whose check of the Services' addresses is not done
// within a minute ends itself, and on a slow emulated machine the clients that
// all come back at once take it longer.
const restartsOfOneKill = 3

// killed are the services that are always killed; make soak kills every one.
var killed = []string{"apid", "containerd", "etcd", "kube-apiserver", "kubelet"}

// testKilledServices kills services' processes with SIGKILL, from the outside,
// and waits until the supervisor has them healthy again.
func testKilledServices(t *testing.T) {
	client := dial(t)
	list, err := client.Service.List(t.Context(), &service.ListRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range list.GetServices() {
		if !soaking && !slices.Contains(killed, s.GetName()) {
			continue
		}
		t.Run(s.GetName(), func(t *testing.T) {
			// The one killed before may have taken others down with it: a controller
			// that loses its lease ends.
			osctl(t, "health", "--wait", "--timeout", settleDeadline.String())
			before := getService(t, s.GetName())
			// Through a new pod or an old connection alike: the toolbox runs
			// on as long as containerd's shim does.
			startToolbox(t).run(t, "kill", fmt.Sprint(before.GetPid()))
			eventually(t, s.GetName()+" is back", func() error {
				list, err := client.Service.List(t.Context(), &service.ListRequest{})
				if err != nil {
					return err
				}
				for _, now := range list.GetServices() {
					if now.GetName() != s.GetName() {
						continue
					}
					if now.GetPid() == before.GetPid() || now.GetPid() == 0 || now.GetHealth() != service.Service_HEALTH_HEALTHY {
						return fmt.Errorf("state %s, health %s, pid %d (was %d): %s", now.GetState(), now.GetHealth(), now.GetPid(), before.GetPid(), now.GetMessage())
					}
					if restarts := now.GetRestarts() - before.GetRestarts(); restarts < 1 || restarts > restartsOfOneKill {
						return fmt.Errorf("%d restarts, were %d", now.GetRestarts(), before.GetRestarts())
					}
				}
				return nil
			})
		})
	}
	osctl(t, "health", "--wait", "--timeout", settleDeadline.String())
	// A kube-proxy or flannel that comes back must know its own rules again.
	eventually(t, "the page is still served", pageServed)
}

const fillerPod = `
apiVersion: v1
kind: Pod
metadata: {name: filler, namespace: kube-system}
spec:
  # Such a pod kubelet does not evict: the disk stays full until we say so.
  priorityClassName: system-node-critical
  terminationGracePeriodSeconds: 1
  containers:
  - name: filler
    image: ` + toolboxImage + `
    imagePullPolicy: Never
    args: [hold, /data/full]
    volumeMounts: [{name: data, mountPath: /data}]
  volumes: [{name: data, emptyDir: {}}]
`

// testFullDisk has a pod fill /var, as root but with a pod's rights. The API
// must answer and say so, etcd must go on, and all must be well again when the
// pod is gone.
func testFullDisk(t *testing.T) {
	startToolbox(t) // for its image
	restarts := getService(t, "etcd").GetRestarts()
	if _, err := osctlFor(settleDeadline, []byte(fillerPod), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "health names the full disk", func() error {
		out, err := osctlFor(time.Minute, nil, "health")
		if err == nil || !strings.Contains(out, "/var") {
			return fmt.Errorf("osctl health: %v: %s", err, out)
		}
		return nil
	})
	osctl(t, "services")
	osctlFails(t, []string{"space"}, "image", "import", artifacts+"/sample-web.tar")
	if now := getService(t, "etcd").GetRestarts(); now != restarts {
		t.Errorf("the full disk ended etcd %d times", now-restarts)
	}
	osctl(t, "delete", "pod", "filler", "-n", "kube-system")
	osctl(t, "health", "--wait", "--timeout", settleDeadline.String())
	eventually(t, "the page is served again", pageServed)
}

func testReboot(t *testing.T) {
	before := osctl(t, "get", "deployment", "sample-web", "-o", "jsonpath={.metadata.uid}")
	osctl(t, "reboot", "--wait", "--timeout", bootDeadline.String())
	osctl(t, "health", "--wait", "--timeout", bootDeadline.String())
	if after := osctl(t, "get", "deployment", "sample-web", "-o", "jsonpath={.metadata.uid}"); after != before {
		t.Errorf("the deployment's uid is %s, was %s before the reboot", after, before)
	}
	eventually(t, "the page is served again", pageServed)
	console := osctl(t, "dmesg")
	if strings.Contains(console, "recovering journal") || strings.Contains(console, "recovery complete") {
		t.Error("a file system was not unmounted before the reboot")
	}
}
