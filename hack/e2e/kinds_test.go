package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// tool is a command line that drives Kubernetes: osctl, or a real kubectl.
type tool struct {
	name string
	run  func(args ...string) (string, error)
	// namespace is where it works.
	namespace string
}

// in runs the tool in its namespace and fails the test when it fails.
func (c tool) in(t *testing.T, args ...string) string {
	t.Helper()
	out, err := c.run(append([]string{"-n", c.namespace}, args...)...)
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", c.name, strings.Join(args, " "), err, out)
	}
	return out
}

func (c tool) jsonpath(t *testing.T, path string, args ...string) string {
	t.Helper()
	return c.in(t, append(append([]string{"get"}, args...), "-o", "jsonpath={"+path+"}")...)
}

// until waits until a field has a value.
func (c tool) until(t *testing.T, want, path string, args ...string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s: %s is %s", strings.Join(args, " "), path, want), func() error {
		out, err := c.run(append(append([]string{"-n", c.namespace, "get"}, args...), "-o", "jsonpath={"+path+"}")...)
		if err == nil && out != want {
			err = fmt.Errorf("it is %q", out)
		}
		return err
	})
}

// byOsctl puts the verb before the flags that kubectl takes anywhere.
func byOsctl(namespace string) tool {
	return tool{"osctl", func(args ...string) (string, error) {
		// -n NAMESPACE follows the verb.
		args = append(args[2:3:3], append(args[:2:2], args[3:]...)...)
		return osctlFor(settleDeadline+time.Minute, nil, args...) // its own waits end first
	}, namespace}
}

// byKubectl builds kubectl and gets a kubeconfig for it.
func byKubectl(t *testing.T, namespace string) tool {
	t.Helper()
	program := buildKubectl(t)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	osctl(t, "kubeconfig", config)
	return tool{"kubectl", func(args ...string) (string, error) {
		out, err := exec.Command(program, append([]string{"--kubeconfig", config, "--request-timeout=2m"}, args...)...).CombinedOutput()
		return string(out), err
	}, namespace}
}

func buildKubectl(t *testing.T) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "kubectl")
	build := exec.Command("go", "build", "-o", program, "k8s.io/kubernetes/cmd/kubectl")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build kubectl: %v: %s", err, out)
	}
	return program
}

var waitFlag = "--timeout=" + settleDeadline.String()

// TestWorkloads is what people do with kubectl, on a control-plane node and two
// workers. "make soak" does it: three emulated machines take long.
func TestWorkloads(t *testing.T) {
	soakOnly(t)
	startCluster(t, "work", "--control-planes", "1", "--workers", "2", "--memory", "2560", "--worker-memory", "1792",
		"--config-patch", write(t, "calm.yaml", []byte(calm)))
	testWorkloads(t)
}

// TestShop is the example shop, on a node of its own.
func TestShop(t *testing.T) {
	soakOnly(t)
	startCluster(t, "shop", "--memory", "3072")
	testShop(t)
}

// soakOnly skips what would take "make test" beyond its hour: with every pod some
// half a minute on an emulated machine, the kinds take 30 minutes and the shop 10.
// It runs on a cluster that exists already, whoever asks.
func soakOnly(t *testing.T) {
	t.Helper()
	if !soaking && existing == "" {
		t.Skip("it takes an emulated machine half an hour: run \"make soak\", or name a running cluster in KEELSON_E2E_CLUSTER")
	}
}

// nodes are the cluster's nodes, by name.
func nodes(t *testing.T) []string {
	t.Helper()
	return strings.Fields(osctl(t, "get", "nodes", "-o", "jsonpath={.items[*].metadata.name}"))
}

func testWorkloads(t *testing.T) {
	osctl(t, "-N", "all", "image", "import", filepath.Join(artifacts, "sample-web.tar"))
	mine := byOsctl("kinds")
	// Not by create: on an existing cluster it may be there.
	if out, err := osctlFor(settleDeadline, []byte("{apiVersion: v1, kind: Namespace, metadata: {name: kinds}}"), "apply", "-f", "-"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	mine.in(t, "wait", "serviceaccount/default", "--for=create", waitFlag)
	mine.in(t, "apply", "-f", "testdata/kinds", "--force-conflicts")
	for _, step := range []struct {
		name string
		run  func(*testing.T, tool)
	}{
		{"containers of a pod", testPodKind},
		// Early: a CronJob that runs every minute keeps an emulated machine busy.
		{"Job and CronJob", testJobs},
		{"ReplicationController and ReplicaSet", testReplicas},
		{"Deployment", testDeploymentKind},
		{"DaemonSet", testDaemonSet},
		{"StatefulSet", testStatefulSet},
		{"Service and Ingress", testServiceKinds},
		{"ServiceAccount and RBAC", testRBAC},
		{"verbs", testVerbs},
		{"bad input", testBadInput},
		{"pods that do not start are explained", testExplained},
		{"top and HorizontalPodAutoscaler", testAutoscaler},
		{"nodes are cordoned, drained and tainted", testNodesVerbs},
	} {
		began := time.Now()
		t.Run(step.name, func(t *testing.T) { step.run(t, mine) })
		t.Logf("%s: %s", step.name, time.Since(began).Round(time.Second))
	}
	t.Run("a real kubectl does the same", testKubectlKinds)
	osctl(t, "delete", "namespace", "kinds", "kubectl", "--wait=false")
}

func testPodKind(t *testing.T, c tool) {
	c.in(t, "wait", "pod/phases", "--for=condition=Ready", waitFlag)
	for _, want := range []struct{ args, text string }{
		{"logs phases -c first", "10.96.0.1"},
		{"logs phases -c sidecar --tail=1", ""},
		{"exec phases -c web -- /sample-web get http://localhost:8080/ready", ""},
		{"get pod phases -o custom-columns=NAME:.metadata.name,NODE:.spec.nodeName", "phases"},
		{"get pods -l app=phases,tier!=other -L tier", "test"},
		{"get pods --show-labels --sort-by=.status.startTime", "app=phases"},
		{"get pod phases -o go-template={{.spec.restartPolicy}}", "Always"},
		{"describe pod phases", "Successfully assigned"},
	} {
		if out := c.in(t, strings.Fields(want.args)...); !strings.Contains(out, want.text) {
			t.Errorf("%s: no %q in\n%s", want.args, want.text, out)
		}
	}
	logs := c.in(t, "logs", "-l", "app=phases", "--all-containers", "--prefix")
	for _, want := range []string{"[pod/phases/first]", "[pod/phases/sidecar]"} {
		if !strings.Contains(logs, want) {
			t.Errorf("no line of %s in the logs by selector:\n%s", want, logs)
		}
	}
	// Two containers share a folder and an address.
	c.in(t, "apply", "-f", "../sample/two-containers.yaml")
	c.in(t, "wait", "pod/two-containers", "--for=condition=Ready", waitFlag)
	if out := c.in(t, "exec", "two-containers", "-c", "writer", "--", "/sample-web", "get", "http://localhost:8080/now.txt"); !strings.Contains(out, "written in pod two-containers") {
		t.Errorf("the writer's file through the server: %q", out)
	}
	c.in(t, "delete", "pod", "two-containers")
}

func testReplicas(t *testing.T, c tool) {
	for _, each := range []string{"rc/old", "rs/set"} {
		c.until(t, "1", ".status.readyReplicas", each)
		c.in(t, "scale", each, "--replicas=2")
		c.until(t, "2", ".status.readyReplicas", each)
		c.in(t, "scale", each, "--replicas=0", "--current-replicas=2")
		c.until(t, "0", ".status.replicas", each)
	}
}

func testDeploymentKind(t *testing.T, c tool) {
	c.in(t, "rollout", "status", "deployment/web", waitFlag)
	on := strings.Fields(c.jsonpath(t, ".items[*].spec.nodeName", "pods", "-l", "app=web"))
	if len(on) != 2 || len(nodes(t)) > 1 && on[0] == on[1] {
		t.Errorf("the pods run on %v, expected two nodes if there are", on)
	}
	page := func() string {
		return c.in(t, "exec", "deployment/web", "--", "/sample-web", "get", "http://web/")
	}
	c.in(t, "set", "image", "deployment/web", "web=keelson.local/sample-web:2")
	c.in(t, "rollout", "status", "deployment/web", waitFlag)
	if out := page(); !strings.Contains(out, "version 2") {
		t.Errorf("after the update the page says\n%s", out)
	}
	if out := c.in(t, "rollout", "history", "deployment/web"); !regexp.MustCompile(`(?m)^2\s`).MatchString(out) {
		t.Errorf("the history has no second revision:\n%s", out)
	}
	// An update that never gets ready leaves the old pods serving.
	c.in(t, "set", "image", "deployment/web", "web=keelson.local/sample-web:broken")
	eventually(t, "the status of an update that hangs says why", func() error {
		out, err := c.run("-n", c.namespace, "rollout", "status", "deployment/web", "--timeout=20s")
		if err == nil || !strings.Contains(out, "is not ready") {
			return fmt.Errorf("%v: %s", err, out)
		}
		return nil
	})
	if out := page(); !strings.Contains(out, "version 2") {
		t.Errorf("while the update hangs the page says\n%s", out)
	}
	c.in(t, "rollout", "undo", "deployment/web")
	c.in(t, "rollout", "status", "deployment/web", waitFlag)
	c.in(t, "rollout", "undo", "deployment/web", "--to-revision=1")
	c.in(t, "rollout", "status", "deployment/web", waitFlag)
	if out := page(); !strings.Contains(out, "version 1") {
		t.Errorf("after the undo the page says\n%s", out)
	}
	c.in(t, "rollout", "pause", "deployment/web")
	c.in(t, "rollout", "resume", "deployment/web")
	before := c.jsonpath(t, ".items[*].metadata.name", "pods", "-l", "app=web")
	c.in(t, "rollout", "restart", "deployment/web")
	c.in(t, "rollout", "status", "deployment/web", waitFlag)
	if after := c.jsonpath(t, ".items[*].metadata.name", "pods", "-l", "app=web"); after == before {
		t.Errorf("a restart left the pods %s", after)
	}
	// It heals itself.
	victim := strings.Fields(c.jsonpath(t, ".items[*].metadata.name", "pods", "-l", "app=web"))[0]
	c.in(t, "delete", "pod", victim, "--now")
	c.until(t, "2", ".status.readyReplicas", "deployment/web")
}

func testDaemonSet(t *testing.T, c tool) {
	c.in(t, "rollout", "status", "daemonset/everywhere", waitFlag)
	if got, want := c.jsonpath(t, ".status.numberReady", "ds/everywhere"), fmt.Sprint(len(nodes(t))); got != want {
		t.Errorf("it runs on %s nodes of %s", got, want)
	}
}

func testStatefulSet(t *testing.T, c tool) {
	c.in(t, "rollout", "status", "statefulset/store", waitFlag)
	c.until(t, "Bound Bound", ".items[*].status.phase", "pvc")
	if got := c.jsonpath(t, ".items[*].metadata.name", "pods", "-l", "app=store"); got != "store-0 store-1" {
		t.Errorf("its pods: %s", got)
	}
	// Each pod has a name of its own in the headless Service.
	if out := c.in(t, "exec", "deployment/web", "--", "/sample-web", "lookup", "store-1.store"); !strings.Contains(out, "10.244.") {
		t.Errorf("store-1.store is %q", out)
	}
	volume := c.jsonpath(t, ".spec.volumeName", "pvc", "data-store-0")
	c.in(t, "delete", "pod", "store-0")
	c.in(t, "wait", "pod/store-0", "--for=create", "--for=condition=Ready", waitFlag)
	if again := c.jsonpath(t, ".spec.volumeName", "pvc", "data-store-0"); again != volume {
		t.Errorf("the pod's successor has volume %s, not %s", again, volume)
	}
}

func testJobs(t *testing.T, c tool) {
	c.in(t, "wait", "job/once", "--for=condition=Complete", waitFlag)
	if got := c.jsonpath(t, ".status.succeeded", "job/once"); got != "2" {
		t.Errorf("%s of 2 runs succeeded", got)
	}
	c.in(t, "create", "job", "by-hand", "--from=cronjob/regularly")
	c.in(t, "wait", "job/by-hand", "--for=condition=Complete", waitFlag)
	eventually(t, "the CronJob ran by itself", func() error {
		if c.jsonpath(t, ".status.lastScheduleTime", "cronjob/regularly") == "" {
			return fmt.Errorf("not yet")
		}
		return nil
	})
	c.in(t, "patch", "cronjob", "regularly", "-p", `{"spec":{"suspend":true}}`)
}

func testServiceKinds(t *testing.T, c tool) {
	node := c.jsonpath(t, ".items[0].status.addresses[?(@.type==\"InternalIP\")].address", "nodes")
	for _, url := range []string{"http://web/", "http://web.kinds.svc.cluster.local/", "http://" + node + ":30080/"} {
		url = strings.Replace(url, ".kinds.", "."+c.namespace+".", 1)
		if out := c.in(t, "exec", "deployment/web", "--", "/sample-web", "get", url); !strings.Contains(out, "version") {
			t.Errorf("%s answers %q", url, out)
		}
	}
	endpoints := func(want int) {
		t.Helper()
		eventually(t, fmt.Sprint("the Service has ", want, " endpoints"), func() error {
			got := strings.Fields(c.jsonpath(t, ".items[*].endpoints[*].addresses[0]", "endpointslices", "-l", "kubernetes.io/service-name=web"))
			if len(got) != want {
				return fmt.Errorf("it has %v", got)
			}
			return nil
		})
	}
	endpoints(2)
	c.in(t, "scale", "deployment/web", "--replicas=3")
	endpoints(3)
	c.in(t, "scale", "deployment/web", "--replicas=2")
	endpoints(2)
	if out := c.in(t, "get", "ingress", "web"); !strings.Contains(out, "web.example") {
		t.Errorf("the Ingress:\n%s", out)
	}
}

func testRBAC(t *testing.T, c tool) {
	token := strings.TrimSpace(c.in(t, "create", "token", "robot"))
	kubectl := buildKubectl(t)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	osctl(t, "kubeconfig", config)
	// --token takes the place of the kubeconfig's certificate only if there is none.
	text, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	text = regexp.MustCompile(`(?m)^\s*client-(certificate|key)-data:.*$`).ReplaceAll(text, nil)
	text = regexp.MustCompile(`(?m)^(\s*)user: *(\{\})?$`).ReplaceAll(text, []byte("${1}user: {token: "+token+"}"))
	robot := write(t, "robot", text)
	for verb, want := range map[string]string{"get": "yes", "delete": "no"} {
		out, _ := exec.Command(kubectl, "--kubeconfig", robot, "-n", c.namespace, "auth", "can-i", verb, "pods").CombinedOutput()
		if !strings.HasSuffix(strings.TrimSpace(string(out)), want) {
			t.Errorf("may the service account %s pods? %s", verb, out)
		}
	}
}

func testKubectlKinds(t *testing.T) {
	c := byKubectl(t, "kubectl")
	if out, err := c.run("apply", "-f", write(t, "namespace.yaml", []byte("{apiVersion: v1, kind: Namespace, metadata: {name: kubectl}}"))); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	c.in(t, "wait", "serviceaccount/default", "--for=create", waitFlag)
	// The node's port is the other namespace's.
	services, err := os.ReadFile("testdata/kinds/services.yaml")
	if err != nil {
		t.Fatal(err)
	}
	own := write(t, "services.yaml", []byte(strings.Replace(string(services), "nodePort: 30080", "nodePort: 30081", 1)))
	c.in(t, "apply", "-f", "testdata/kinds/pods.yaml", "-f", "testdata/kinds/workloads.yaml", "-f", own)
	c.in(t, "patch", "cronjob", "regularly", "-p", `{"spec":{"suspend":true}}`)
	for _, each := range []string{"deployment/web", "daemonset/everywhere", "statefulset/store"} {
		c.in(t, "rollout", "status", each, waitFlag)
	}
	c.in(t, "wait", "pod/phases", "--for=condition=Ready", waitFlag)
	c.in(t, "wait", "job/once", "--for=condition=Complete", waitFlag)
	testReplicas(t, c)
	for _, want := range []struct{ args, text string }{
		{"get pods -o wide", "phases"},
		{"describe deployment web", "ScalingReplicaSet"},
		{"logs phases -c first", "10.96.0.1"},
		{"exec deployment/web -- /sample-web get http://web/", "version 1"},
		{"set image deployment/web web=keelson.local/sample-web:2", "updated"},
		{"rollout status deployment/web " + waitFlag, "successfully"},
		{"rollout undo deployment/web", "rolled back"},
		{"expose deployment web --name=again --port=81 --target-port=8080", "exposed"},
		{"label pod phases seen=yes", "labeled"},
		{"annotate pod phases why=test", "annotated"},
		{"autoscale deployment web --max=3 --cpu=80%", "autoscaled"},
		{"get ingress,configmap,secret,sa,role,hpa,pvc,cronjob", "web"},
		{"top nodes", "CPU(cores)"},
		{"explain pod.spec.containers", "FIELDS"},
	} {
		if out := c.in(t, strings.Fields(want.args)...); !strings.Contains(out, want.text) {
			t.Errorf("kubectl %s: no %q in\n%s", want.args, want.text, out)
		}
	}
}
