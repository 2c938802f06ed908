package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/provision"
)

const haName = "ha"

// ha is the cluster of TestHighAvailability: three control-plane nodes and a
// worker.
type ha struct {
	*provision.Cluster
	controlPlanes []string
	worker        string
}

// calm is what lets four machines share two emulated cores: whatever is done by
// the clock is done less often. Without it three idle control-plane nodes take
// all of both.
const calm = `
apiVersion: keelson/v1
kind: Machine
kubelet:
  extraArgs: {housekeeping-interval: 60s, node-status-update-frequency: 30s}
---
apiVersion: keelson/v1
kind: Cluster
etcd: {heartbeatInterval: 1s, electionTimeout: 10s}
apiServer:
  extraArgs: {feature-gates: "APIServerIdentity=false,UnknownVersionInteroperabilityProxy=false"}
`

// tooSlow is how long the machine may take from power-on to init, in seconds: four
// machines do not fit a slower one. It measures the machine, not our services,
// whose own slowness must not hide this test. With 3.1 s the cluster formed in 6
// minutes; with 5.9 s, the same machine on another day, two cores were not enough
// for three idle control-plane nodes, and twice it did not form.
const tooSlow = 4.5

// initTook is what TestCluster's node took to init; 0 if it was not run.
var initTook float64

// TestHighAvailability is the life of a cluster of four nodes, in order: later
// steps rely on what earlier ones left, and all of them on one boot.
func TestHighAvailability(t *testing.T) {
	if !soaking && initTook > tooSlow {
		t.Skipf("a kernel alone took %.1f s to init, more than %.1f: four machines do not fit this one (\"make soak\" tries all the same)", initTook, tooSlow)
	}
	startCluster(t, haName, "--control-planes", "3", "--workers", "1", "--cpus", "1", "--memory", "2048", "--worker-memory", "1280",
		"--config-patch", write(t, "calm.yaml", []byte(calm)))
	cluster, err := provision.Open(haName)
	if err != nil {
		t.Fatal(err)
	}
	c := ha{Cluster: cluster, controlPlanes: []string{"ha-1", "ha-2", "ha-3"}, worker: "ha-4"}
	for _, step := range []struct {
		name string
		soak bool // too long for every run: "make soak" does it
		run  func(*testing.T, ha)
	}{
		{"four nodes are Ready and three members vote", false, testFormed},
		{"one call asks every node", false, testFanOut},
		{"one upload brings an image to every node", false, testSpread},
		{"pods and Services reach across nodes", false, testPodNetwork},
		{"the etcd leader's machine dies", false, testLeaderDies},
		{"the etcd leader is cut off", true, testLeaderCutOff},
		{"a worker dies and its pods move", true, testWorkerDies},
		{"a node with an empty disk replaces itself", true, testEmptyDisk},
		{"a graceful reboot drains and comes back", true, testDrainedReboot},
		{"all nodes lose power, again and again", false, testPowerCutsOfAll},
		{"a snapshot brings the cluster back on fresh nodes", true, testRecovery},
	} {
		if step.soak && !soaking {
			continue
		}
		began := time.Now()
		if !t.Run(step.name, func(t *testing.T) { step.run(t, c) }) {
			t.Fatal("later steps need this one")
		}
		t.Logf("%s: %s", step.name, time.Since(began).Round(time.Second))
	}
}

// member is one line of osctl etcd members.
type member struct {
	ID      string `json:"id"`
	Name    string `json:"name"`
	Learner bool   `json:"learner"`
	Leader  bool   `json:"leader"`
}

// members asks a node for etcd's members.
func members(node string) ([]member, error) {
	out, err := osctlFor(time.Minute, nil, "-N", node, "etcd", "members", "-o", "json")
	if err != nil {
		return nil, err
	}
	var answer struct {
		Members []member `json:"members"`
	}
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	return answer.Members, nil
}

// leader returns the node that leads etcd, as one of others sees it.
func (c ha) leader(t *testing.T, ask ...string) string {
	t.Helper()
	if ask == nil {
		ask = c.controlPlanes
	}
	var name string
	eventually(t, "etcd has a leader", func() error {
		var last error
		for _, node := range ask {
			list, err := members(node)
			if err != nil {
				last = err
				continue
			}
			for _, one := range list {
				if one.Leader {
					name = one.Name
					return nil
				}
			}
			last = fmt.Errorf("%s knows no leader: %+v", node, list)
		}
		return last
	})
	return name
}

// others are the control-plane nodes but one.
func (c ha) others(name string) []string {
	var list []string
	for _, each := range c.controlPlanes {
		if each != name {
			list = append(list, each)
		}
	}
	return list
}

// index is a node's place among the context's endpoints.
func (c ha) index(name string) int {
	for i, each := range c.controlPlanes {
		if each == name {
			return i
		}
	}
	return -1
}

// whole waits until every node is Ready and every member votes. It does not ask
// for every check of every node at one moment: four emulated machines on two
// cores take minutes to be quiet again after one of them has booted.
func (c ha) whole(t *testing.T) {
	t.Helper()
	eventually(t, "every node is Ready", func() error {
		nodes, err := osctlFor(time.Minute, nil, "get", "nodes")
		if ready := strings.Count(nodes, " Ready "); err == nil && ready != len(c.controlPlanes)+1 {
			err = fmt.Errorf("%d are:\n%s", ready, nodes)
		}
		return err
	})
	c.votingMembers(t, len(c.controlPlanes))
}

func (c ha) votingMembers(t *testing.T, want int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d members vote", want), func() error {
		list, err := members(c.leader(t))
		if err != nil {
			return err
		}
		voting := 0
		for _, one := range list {
			if !one.Learner && one.Name != "" {
				voting++
			}
		}
		if voting != want || len(list) != want {
			return fmt.Errorf("members: %+v", list)
		}
		return nil
	})
}

func testFormed(t *testing.T, c ha) {
	nodes := osctl(t, "get", "nodes", "-o", "wide")
	if ready := strings.Count(nodes, " Ready "); ready != 4 {
		t.Errorf("%d nodes are Ready:\n%s", ready, nodes)
	}
	c.votingMembers(t, 3)
	status := osctl(t, "cluster", "status", haName)
	for _, want := range append(c.controlPlanes, c.worker, "running", "leader", "worker") {
		if !strings.Contains(status, want) {
			t.Errorf("cluster status says nothing of %q:\n%s", want, status)
		}
	}
	for _, node := range []string{"ha-2", "ha-4"} {
		if out := osctl(t, "-N", node, "services"); !strings.Contains(out, "kubelet") {
			t.Errorf("services of %s:\n%s", node, out)
		}
	}
	osctlFails(t, []string{"ha-1"}, "-N", "ha-9", "services")
	osctlFails(t, []string{"worker"}, "-N", c.worker, "etcd", "members")
}

func testFanOut(t *testing.T, c ha) {
	out := osctl(t, "-N", "all", "version")
	for _, node := range append(c.controlPlanes, c.worker) {
		if !strings.Contains(out, node) {
			t.Errorf("version of all nodes says nothing of %s:\n%s", node, out)
		}
	}
	out = osctl(t, "-N", "ha-1,ha-4", "services")
	if !strings.Contains(out, "ha-1") || !strings.Contains(out, "ha-4") || strings.Contains(out, "ha-2") {
		t.Errorf("services of two nodes:\n%s", out)
	}
	if out := osctl(t, "-N", "all", "logs", "kubelet", "--tail", "3"); !strings.Contains(out, "ha-3") || !strings.Contains(out, "ha-4") {
		t.Errorf("logs of all nodes:\n%s", out)
	}
}

const crossManifest = `
apiVersion: apps/v1
kind: DaemonSet
metadata: {name: cross}
spec:
  selector: {matchLabels: {app: cross}}
  template:
    metadata: {labels: {app: cross}}
    spec:
      terminationGracePeriodSeconds: 1
      containers:
      - name: web
        image: ` + sampleImage + `
        imagePullPolicy: Never
        ports: [{containerPort: 8080}]
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 5}
        resources: {requests: {cpu: 5m, memory: 8Mi}}
---
apiVersion: v1
kind: Service
metadata: {name: cross}
spec:
  selector: {app: cross}
  ports: [{port: 80, targetPort: 8080}]
`

// pod is what the tests read of one.
type pod struct {
	Metadata struct {
		Name string `json:"name"`
	} `json:"metadata"`
	Spec struct {
		NodeName string `json:"nodeName"`
	} `json:"spec"`
	Status struct {
		PodIP      string `json:"podIP"`
		Phase      string `json:"phase"`
		Conditions []struct {
			Type   string `json:"type"`
			Status string `json:"status"`
		} `json:"conditions"`
	} `json:"status"`
}

func (p pod) ready() bool {
	for _, condition := range p.Status.Conditions {
		if condition.Type == "Ready" {
			return condition.Status == "True"
		}
	}
	return false
}

func podsOf(app string) ([]pod, error) {
	out, err := osctlFor(settleDeadline, nil, "get", "pods", "-l", "app="+app, "-o", "json")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []pod `json:"items"`
	}
	return list.Items, json.Unmarshal([]byte(out), &list)
}

// testPodNetwork asks, from a pod on each of two nodes, every other node's pod
// by its address, and all of them by the Service's name.
func testPodNetwork(t *testing.T, c ha) {
	osctl(t, "-N", "all", "image", "import", filepath.Join(artifacts, "sample-web.tar"))
	if _, err := osctlFor(settleDeadline, []byte(crossManifest), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	var pods []pod
	eventually(t, "a pod is ready on every node", func() (err error) {
		if pods, err = podsOf("cross"); err != nil {
			return err
		}
		ready := 0
		for _, one := range pods {
			if one.ready() {
				ready++
			}
		}
		if ready != 4 {
			return fmt.Errorf("%d of 4 are: %+v", ready, pods)
		}
		return nil
	})
	crossTraffic(t, pods, 2)
}

// crossTraffic asks from some of the pods: each call is one program in a
// container, for all of its requests.
func crossTraffic(t *testing.T, pods []pod, from int) {
	t.Helper()
	for _, client := range pods[:from] {
		get := func(urls ...string) (string, error) {
			args := append([]string{"exec", "pod/" + client.Metadata.Name, "--", "/sample-web", "get"}, urls...)
			return osctlFor(2*time.Minute, nil, args...)
		}
		missing := func(out string) error {
			for _, server := range pods {
				if !strings.Contains(out, server.Metadata.Name) {
					return fmt.Errorf("the pod on %s did not answer: %s", server.Spec.NodeName, out)
				}
			}
			return nil
		}
		eventually(t, "a pod on "+client.Spec.NodeName+" reaches the pods of every node", func() error {
			var urls []string
			for _, server := range pods {
				urls = append(urls, "http://"+server.Status.PodIP+":8080/")
			}
			out, err := get(urls...)
			return errors.Join(err, missing(out))
		})
		eventually(t, "the Service leads from "+client.Spec.NodeName+" to pods on every node", func() error {
			// That one of four pods is missed by forty is once in 25,000 times.
			out, err := get(slices.Repeat([]string{"http://cross/"}, 40)...)
			return errors.Join(err, missing(out))
		})
	}
}

// testLeaderDies kills the machine of etcd's leader amid writes: they go on
// through the others, the API answers, and the node comes back by itself.
func testLeaderDies(t *testing.T, c ha) {
	leader := c.leader(t)
	w := startWriter(t, "leader-dies", c.index(leader))
	w.more(t, 3)
	osctl(t, "cluster", "node", "kill", leader)
	t.Logf("first write acknowledged %s after the leader %s was killed", w.more(t, 5).Round(100*time.Millisecond), leader)
	// What "Must show" names.
	eventually(t, "get pods answers", func() error {
		_, err := osctlFor(time.Minute, nil, "get", "pods", "-A")
		return err
	})
	if next := c.leader(t, c.others(leader)...); next == leader {
		t.Errorf("%s still leads", next)
	}
	out, err := osctlFor(time.Minute, nil, "-N", "all", "version")
	if err == nil || !strings.Contains(err.Error(), leader) || strings.Count(err.Error(), "\n") > 3 {
		t.Errorf("version of all nodes, one of them dead: %v", err)
	}
	for _, node := range append(c.others(leader), c.worker) {
		if !strings.Contains(out, node) {
			t.Errorf("no answer of %s beside a dead node:\n%s", node, out)
		}
	}
	osctl(t, "cluster", "node", "start", leader)
	c.whole(t)
	w.more(t, 3)
	foundAgain(t, "leader-dies", w.end())
}

// testLeaderCutOff cuts the leader off from the other nodes but not from the
// host, and writes on both sides: nothing that is acknowledged may be lost, and
// the leader's side may acknowledge nothing.
func testLeaderCutOff(t *testing.T, c ha) {
	leader := c.leader(t)
	others := c.others(leader)
	w := startWriter(t, "cut-majority", c.index(others[0]), c.index(others[1]))
	w.more(t, 3)
	osctl(t, "cluster", "partition", leader)
	cut := time.Now()
	t.Logf("first write acknowledged %s after the leader %s was cut off", w.more(t, 5).Round(100*time.Millisecond), leader)
	if next := c.leader(t, others...); next == leader {
		t.Errorf("%s still leads, for the majority", next)
	}
	// Long after the others have a new leader nothing may be kept here.
	alone := &writer{run: "cut-minority", access: currentAccess(t)}
	if err := alone.put(t.Context(), alone.access.Endpoints[c.index(leader)], "split-brain"); err == nil {
		t.Errorf("%s after it was cut off, %s acknowledged a write that the others cannot know of", time.Since(cut), leader)
	}
	if out, err := osctlFor(2*time.Minute, nil, "-N", endpointOf(t, c, leader), "health"); err == nil || !strings.Contains(out+err.Error(), "quorum") {
		t.Errorf("the health of the node that was cut off says nothing of a quorum: %s %v", out, err)
	}
	osctl(t, "cluster", "heal")
	c.whole(t)
	w.more(t, 3)
	foundAgain(t, "cut-majority", w.end())
	if out := osctl(t, "get", "configmaps", "-l", "run=cut-minority", "-o", "name"); strings.TrimSpace(out) != "" {
		t.Errorf("a write that was refused is there all the same: %s", out)
	}
}

// endpointOf is where the host reaches a node's own API.
func endpointOf(t *testing.T, c ha, name string) string {
	t.Helper()
	layout, err := c.Layout()
	if err != nil {
		t.Fatal(err)
	}
	for _, node := range layout.Nodes {
		if node.Name == name {
			return node.API.String()
		}
	}
	t.Fatalf("no node %s", name)
	return ""
}

const moverManifest = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: mover}
spec:
  replicas: 2
  selector: {matchLabels: {app: mover}}
  template:
    metadata: {labels: {app: mover}}
    spec:
      terminationGracePeriodSeconds: 1
      affinity:
        nodeAffinity:
          preferredDuringSchedulingIgnoredDuringExecution:
          - weight: 100
            preference: {matchExpressions: [{key: kubernetes.io/hostname, operator: In, values: [ha-4]}]}
      containers:
      - name: web
        image: ` + sampleImage + `
        imagePullPolicy: Never
        readinessProbe: {httpGet: {port: 8080}, periodSeconds: 5}
        resources: {requests: {cpu: 5m, memory: 8Mi}}
`

func testWorkerDies(t *testing.T, c ha) {
	if _, err := osctlFor(settleDeadline, []byte(moverManifest), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	moverOn(t, func(node string) bool { return node == c.worker })
	osctl(t, "cluster", "node", "kill", c.worker)
	began := time.Now()
	moverOn(t, func(node string) bool { return node != c.worker })
	t.Logf("two pods run elsewhere %s after their node died", time.Since(began).Round(time.Second))
	osctl(t, "cluster", "node", "start", c.worker)
	c.whole(t)
	osctl(t, "delete", "deployment", "mover")
}

// moverOn waits until both pods are ready on nodes that want accepts.
func moverOn(t *testing.T, want func(node string) bool) {
	t.Helper()
	eventually(t, "the pods are where they should be", func() error {
		pods, err := podsOf("mover")
		if err != nil {
			return err
		}
		there := 0
		for _, one := range pods {
			if one.ready() && want(one.Spec.NodeName) {
				there++
			}
		}
		if there < 2 {
			return fmt.Errorf("%d are: %+v", there, pods)
		}
		return nil
	})
}
