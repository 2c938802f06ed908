package e2e

import (
	"bufio"
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/pki"
)

// testQuickVerbs calls verbs that start no pod, on the sample's Deployment.
func testQuickVerbs(t *testing.T) {
	c := byOsctl("default")
	callVerbs(t, c, []verbCall{
		{"describe deployment sample-web", "keelson.local/sample-web:1"},
		{"rollout status deployment/sample-web", "successfully rolled out"},
		{"rollout history deployment/sample-web", "REVISION"},
		{"expose deployment sample-web --name=exposed --port=81 --target-port=8080", "service/exposed exposed"},
		{"autoscale deployment sample-web --min=2 --max=3 --cpu=80%", "autoscaled"},
		{"delete hpa sample-web", "deleted"},
		{"run several --image=keelson.local/sample-web:1 --replicas=0 --port=8080 --labels=app=several", "deployment.apps/several created"},
		{"scale deployment/several --replicas=0 --current-replicas=0", "scaled"},
		{"set image deployment/several several=keelson.local/sample-web:2", "updated"},
		{"rollout status deployment/several", "successfully rolled out"},
		{"rollout undo deployment/several", "rolled back"},
		{"label deployment several colour=red", "labeled"},
		{"get deployments -l colour=red -o name", "deployment.apps/several"},
		{"get deployments -L colour --sort-by=.metadata.name", "red"},
		{"get deployments -o custom-columns=N:.metadata.name,R:.spec.replicas", "several"},
		{"annotate deployment several note=x", "annotated"},
		{"patch deployment several --type=merge -p {\"spec\":{\"paused\":true}}", "patched"},
		{"create configmap made --from-literal=a=b", "created"},
		{"create deployment made --image=x --dry-run=client -o yaml", "kind: Deployment"},
		{"get all", "service/exposed"},
		{"delete deployment/several configmap/made service/exposed", "deleted"},
		{"events --types=Normal", "sample-web"},
		{"explain deployment.spec.replicas", "integer"},
		{"api-resources --api-group=apps", "statefulsets"},
		{"auth can-i delete pods", "yes"},
		{"logs -l app=sample-web --prefix --tail=1", ""},
		{"top nodes", "CPU(cores)"},
		{"api-versions", "apps/v1"},
		{"get deployments --show-kind", "deployment.apps/sample-web"},
	})
	testSigning(t, c)
	testPages(t, c)
	testApplyVerbs(t, c)
	forwardPage(t, c, "service/sample-web")
}

// verbCall is one call and a part of what it is to say.
type verbCall struct{ args, text string }

func callVerbs(t *testing.T, c tool, calls []verbCall) {
	t.Helper()
	for _, call := range calls {
		args := strings.Fields(call.args)
		for i := range args {
			args[i] = strings.ReplaceAll(args[i], "0_0_1_1_*", "0 0 1 1 *")
		}
		if out := c.in(t, args...); !strings.Contains(out, call.text) {
			t.Errorf("%s: no %q in\n%s", call.args, call.text, out)
		}
	}
}

// testVerbs calls the verbs that no other step has called, each with what it is
// to say.
func testVerbs(t *testing.T, c tool) {
	c.in(t, "run", "single", "--image=keelson.local/sample-web:1", "--image-pull-policy=Never", "--port=8080", "--labels=app=single")
	c.in(t, "run", "several", "--image=keelson.local/sample-web:1", "--image-pull-policy=Never", "--replicas=2", "--port=8080", "--labels=app=several")
	c.in(t, "wait", "pod/single", "--for=condition=Ready", waitFlag)
	c.in(t, "rollout", "status", "deployment/several", waitFlag)
	callVerbs(t, c, []verbCall{{"expose deployment several --port=81 --target-port=8080", "service/several exposed"}})
	eventually(t, "the exposed Deployment answers", func() error {
		out, err := c.run("-n", c.namespace, "exec", "single", "--", "/sample-web", "get", "http://several:81/")
		if err == nil && !strings.Contains(out, "version 1") {
			err = fmt.Errorf("it answers %q", out)
		}
		return err
	})
	callVerbs(t, c, []verbCall{
		{"create deployment made --image=keelson.local/sample-web:1 --dry-run=client -o yaml", "kind: Deployment"},
		{"create configmap made --from-literal=a=b", "created"},
		{"create secret generic made --from-literal=a=b", "created"},
		{"create service clusterip made --tcp=80:8080", "created"},
		{"create serviceaccount made", "created"},
		// Of what nobody uses: on a busy machine each use of a quota may take seconds.
		{"create quota made --hard=services.loadbalancers=1", "created"},
		{"create cronjob made --image=x --schedule=0_0_1_1_*", "created"},
		{"create ingress made --rule=made.example/*=made:80", "created"},
		{"create role made --verb=get --resource=pods", "created"},
		{"label pod single colour=red", "labeled"},
		{"get pods -l colour=red -o name", "pod/single"},
		{"label pod single colour-", "unlabeled"},
		{"annotate pod single note=x", "annotated"},
		{"set env deployment/several A=b", "updated"},
		{"set resources deployment/several --limits=memory=64Mi", "updated"},
		{"patch deployment several --type=merge -p {\"spec\":{\"replicas\":1}}", "patched"},
		{"autoscale deployment several --max=3 --cpu=80%", "autoscaled"},
		{"get hpa several", "several"},
		{"events --for pod/single", "Scheduled"},
		{"explain deployment.spec.replicas", "integer"},
		{"api-resources --api-group=apps", "statefulsets"},
		{"auth can-i delete pods", "yes"},
		{"describe service several", "Endpoints"},
		{"describe deployment several", "keelson.local/sample-web:1"},
		{"logs deployment/several", ""},
		{"get deployment,service,configmap", "service/several"},
		{"delete deployment several --cascade=foreground", "deleted"},
		{"get pods -o wide", "NODE"},
	})
	testApplyVerbs(t, c)
	testEdit(t, c)
	testCopy(t, c)
	forwardPage(t, c, "service/web")
	testAttach(t, c)
}

// testApplyVerbs applies, compares and prunes.
func testApplyVerbs(t *testing.T, c tool) {
	both := `{apiVersion: v1, kind: ConfigMap, metadata: {name: stays, labels: {set: pruned}}, data: {a: "1"}}
---
{apiVersion: v1, kind: ConfigMap, metadata: {name: goes, labels: {set: pruned}}, data: {a: "1"}}
`
	first, _, _ := strings.Cut(both, "---")
	c.in(t, "apply", "-f", write(t, "both.yaml", []byte(both)), "--prune", "-l", "set=pruned")
	changed := write(t, "one.yaml", []byte(strings.Replace(first, `"1"`, `"2"`, 1)))
	if out, err := c.run("-n", c.namespace, "diff", "-f", changed); err == nil || !strings.Contains(out, `+  a: "2"`) {
		t.Errorf("diff: %v\n%s", err, out)
	}
	if out := c.in(t, "apply", "-f", changed, "--dry-run=server", "--prune", "-l", "set=pruned"); !strings.Contains(out, "goes pruned (dry run)") {
		t.Errorf("a dry run of pruning says\n%s", out)
	}
	out := c.in(t, "apply", "-f", changed, "--prune", "-l", "set=pruned")
	if !strings.Contains(out, "stays configured") || !strings.Contains(out, "goes pruned") {
		t.Errorf("pruning says\n%s", out)
	}
	if out := c.in(t, "get", "configmaps", "-l", "set=pruned", "-o", "name"); strings.TrimSpace(out) != "configmap/stays" {
		t.Errorf("after pruning there are %q", out)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{
		"kustomization.yaml": "namePrefix: k-\nresources: [map.yaml]\n",
		"map.yaml":           "{apiVersion: v1, kind: ConfigMap, metadata: {name: built}}",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if out := c.in(t, "apply", "-k", dir); !strings.Contains(out, "configmap/k-built created") {
		t.Errorf("apply -k says\n%s", out)
	}
	c.in(t, "delete", "-k", dir)
	c.in(t, "replace", "-f", changed)
}

// testSigning approves a request for a certificate.
func testSigning(t *testing.T, c tool) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	request, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "ada"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	c.in(t, "apply", "-f", write(t, "request.yaml", fmt.Appendf(nil, `apiVersion: certificates.k8s.io/v1
kind: CertificateSigningRequest
metadata: {name: ada}
spec: {signerName: example.com/people, usages: [client auth], request: %s}
`, base64.StdEncoding.EncodeToString(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: request})))))
	callVerbs(t, c, []verbCall{
		{"certificate approve ada", "ada approved"},
		{"get csr ada", "Approved"},
		{"delete csr ada", "deleted"},
	})
}

// testPages compares a list that comes in pages with one that comes as a whole.
func testPages(t *testing.T, c tool) {
	names := func(chunk string) []string {
		return strings.Fields(c.in(t, "get", "clusterroles", "-o", "name", "--chunk-size="+chunk))
	}
	if whole, pages := names("0"), names("7"); len(whole) < 8 || !slices.Equal(whole, pages) {
		t.Errorf("in pages %q, as a whole %q", pages, whole)
	}
}

// testEdit edits with an editor that replaces a word.
func testEdit(t *testing.T, c tool) {
	editor := write(t, "editor", []byte("#!/bin/sh\nexec sed -i 's/colour: green/colour: blue/' \"$1\"\n"))
	if err := os.Chmod(editor, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("KUBE_EDITOR", editor)
	c.in(t, "edit", "configmap", "settings")
	if got := c.jsonpath(t, ".data.colour", "configmap/settings"); got != "blue" {
		t.Errorf("after the edit the colour is %q", got)
	}
}

// testCopy needs tar in the container, as kubectl's cp does; ours have none.
func testCopy(t *testing.T, c tool) {
	out, err := c.run("-n", c.namespace, "cp", write(t, "word", []byte("word")), "single:/tmp/word")
	if err == nil || !strings.Contains(out, "tar") {
		t.Errorf("a copy to a container without tar: %v\n%s", err, out)
	}
}

// forwardPage gets the page of a Service through a port of this machine.
func forwardPage(t *testing.T, c tool, service string) {
	t.Helper()
	door := forward(t, c.namespace, service)
	for range 3 {
		if page := answered(http.Get(door + "/")); !strings.Contains(page, "version") {
			t.Fatalf("the page through the port: %s", page)
		}
	}
}

var forwarding = regexp.MustCompile(`127\.0\.0\.1:\d+`)

// forward carries a port of this machine to port 80 of a Service until the test
// ends, and returns its URL.
func forward(t *testing.T, namespace, service string) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	cmd := exec.CommandContext(ctx, osctlPath, "port-forward", "-n", namespace, service, ":80")
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		stop()
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(stdout)
	for lines.Scan() {
		if address := forwarding.FindString(lines.Text()); address != "" {
			go func() { _, _ = io.Copy(io.Discard, stdout) }()
			return "http://" + address
		}
	}
	t.Fatalf("osctl port-forward names no address: %v", lines.Err())
	return ""
}

// answered is what an HTTP request got: the status and the page, or the error.
func answered(response *http.Response, err error) string {
	if err != nil {
		return err.Error()
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return err.Error()
	}
	return response.Status + "\n" + string(body)
}

// testAttach follows what a running program prints.
func testAttach(t *testing.T, c tool) {
	ctx, cancel := context.WithTimeout(t.Context(), settleDeadline)
	defer cancel()
	attach := exec.CommandContext(ctx, osctlPath, "attach", "-n", c.namespace, "phases", "-c", "sidecar")
	said, err := attach.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := attach.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() {
		cancel()
		_ = attach.Wait()
	}()
	lines := bufio.NewScanner(said)
	for range 2 {
		if !lines.Scan() {
			t.Fatalf("attach shows nothing: %v", lines.Err())
		}
	}
}

// testBadInput holds each mistake to a message that says what is wrong, an exit
// code, and nothing half done.
func testBadInput(t *testing.T, c tool) {
	for _, bad := range []struct {
		name, file, args string
		want             []string
	}{
		{"invalid YAML", "apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: [\n", "apply -f FILE", []string{"FILE:", "yaml"}},
		{"invalid JSON", `{"apiVersion": "v1", "kind": }`, "apply -f FILE", []string{"FILE:1"}},
		{"no name", "apiVersion: v1\nkind: ConfigMap\n", "apply -f FILE", []string{"FILE:1", "metadata.name"}},
		{"a kind that does not exist", "{apiVersion: apps/v1, kind: Deploymint, metadata: {name: x}}", "apply -f FILE", []string{"Deploymint"}},
		{"a resource that does not exist", "", "get deploymints", []string{"deploymints", "deployments"}},
		{"a field that does not exist", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}, dada: {}}", "apply -f FILE", []string{"dada"}},
		{"a namespace that does not exist", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x, namespace: nowhere}}", "apply -f FILE", []string{"nowhere", "not found"}},
		{"no such program", "", "exec single -- /no/such", []string{"no such file"}},
		{"no such pod", "", "exec singel -- /x", []string{"singel", "single"}},
		{"no such container", "", "logs single -c other", []string{"other", "single"}},
		{"no such deployment", "", "scale deployment/none --replicas=1", []string{"none", "not found"}},
		{"no such resource to wait for", "", "wait pod/none --for=condition=Ready", []string{"none", "not found"}},
		{"no such kind to describe", "", "describe podz x", []string{"podz"}},
		{"a usage error", "", "scale deployment/web", []string{"--replicas", "usage"}},
	} {
		t.Run(bad.name, func(t *testing.T) {
			args := strings.Fields(bad.args)
			file := ""
			for i := range args {
				if args[i] == "FILE" {
					file = write(t, "bad.yaml", []byte(bad.file))
					args[i] = file
				}
			}
			out, err := c.run(append([]string{"-n", c.namespace}, args...)...)
			if err == nil {
				t.Fatalf("it succeeded:\n%s", out)
			}
			for _, want := range bad.want {
				if want = strings.Replace(want, "FILE", file, 1); !strings.Contains(out, want) {
					t.Errorf("no %q in\n%s", want, out)
				}
			}
		})
	}
	t.Run("field managers that disagree", func(t *testing.T) {
		one := write(t, "one.yaml", []byte(`{apiVersion: v1, kind: ConfigMap, metadata: {name: fought}, data: {a: "1"}}`))
		other := write(t, "other.yaml", []byte(`{apiVersion: v1, kind: ConfigMap, metadata: {name: fought}, data: {a: "2"}}`))
		c.in(t, "apply", "-f", one, "--field-manager=one")
		out, err := c.run("-n", c.namespace, "apply", "-f", other, "--field-manager=other")
		if err == nil || !strings.Contains(out, "conflict") || !strings.Contains(out, "--force-conflicts") {
			t.Errorf("a conflict: %v\n%s", err, out)
		}
		if got := c.jsonpath(t, ".data.a", "configmap/fought"); got != "1" {
			t.Errorf("the refused apply left %q", got)
		}
		c.in(t, "apply", "-f", other, "--field-manager=other", "--force-conflicts")
	})
	t.Run("a reader who writes", func(t *testing.T) { testReaderWrites(t, c) })
}

// testReaderWrites asks with a certificate that may only read.
func testReaderWrites(t *testing.T, c tool) {
	now := time.Now()
	pair, err := clusterCA(t).Issue(pki.Request{CommonName: "rita", Organizations: []string{"os:reader"}, Client: true, TTL: time.Hour, Now: now})
	if err != nil {
		t.Fatal(err)
	}
	reader := *current(t)
	reader.Cert, reader.Key = string(pair.Cert), string(pair.Key)
	path := filepath.Join(t.TempDir(), "osctl.yaml")
	config := &client.Config{Current: "reader", Contexts: map[string]*client.Context{"reader": &reader}}
	if err := config.Save(path); err != nil {
		t.Fatal(err)
	}
	t.Setenv("OSCTL_CONFIG", path)
	c.in(t, "get", "pods")
	c.in(t, "describe", "pod", "phases")
	for args, want := range map[string]string{
		"delete pod phases":                         "os:reader",
		"scale deployment/web --replicas=0":         `User "rita" cannot`,
		"label pod phases a=b":                      `User "rita" cannot`,
		"create configmap x":                        `User "rita" cannot`,
		"attach phases -c sidecar":                  `User "rita" cannot`,
		"get secret password":                       `User "rita" cannot`,
		"describe secret password":                  `User "rita" cannot`,
		"exec single -- /sample-web get http://web": "os:reader",
	} {
		out, err := c.run(append([]string{"-n", c.namespace}, strings.Fields(args)...)...)
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%s: no %q in (%v)\n%s", args, want, err, out)
		}
	}
}

// testExplained breaks pods in the usual ways and asks why they do not run.
func testExplained(t *testing.T, c tool) {
	const pod = `
apiVersion: v1
kind: Pod
metadata: {name: %s}
spec:
  terminationGracePeriodSeconds: 1
  containers: [{name: app, %s}]
---`
	broken := map[string]struct{ spec, want string }{
		"no-image":  {"image: keelson.local/sample-wep:1, imagePullPolicy: Never", `(?s)keelson.local/sample-wep:1 .* is not on node .*images there are: .*keelson\.local/sample-web:1`},
		"no-server": {"image: registry.invalid/x:1", `(?s)registry\.invalid/x:1 .* no registry gave it`},
		"too-big":   {`image: "keelson.local/sample-web:1", resources: {requests: {cpu: "64"}}`, `no node fits: .*Insufficient cpu.*asks for cpu 64`},
		"crashes":   {`image: "keelson.local/sample-web:1", imagePullPolicy: Never, args: [get, "http://127.0.0.1:1/"]`, `(?s)container app exits with code 1.*its last words:.*connection refused`},
		"no-secret": {`image: "keelson.local/sample-web:1", imagePullPolicy: Never, env: [{name: A, valueFrom: {secretKeyRef: {name: nope, key: a}}}]`, `needs what is not there: secret "nope" not found`},
		"no-binary": {`image: "keelson.local/sample-web:1", imagePullPolicy: Never, command: [/nope]`, `cannot be started: .*no such file`},
	}
	var manifest strings.Builder
	for name, each := range broken {
		fmt.Fprintf(&manifest, pod, name, each.spec)
	}
	file := write(t, "broken.yaml", []byte(manifest.String()))
	c.in(t, "apply", "-f", file)
	for name, each := range broken {
		eventually(t, "describe explains "+name, func() error {
			out, err := c.run("-n", c.namespace, "describe", "pod", name)
			if err != nil {
				return err
			}
			if !regexp.MustCompile(each.want).MatchString(out) {
				_, why, _ := strings.Cut(out, "Why it does not run:")
				return fmt.Errorf("it says %q", why)
			}
			return nil
		})
	}
	out, err := c.run("-n", c.namespace, "wait", "pod/no-image", "--for=condition=Ready", "--timeout=30s")
	if err == nil || !strings.Contains(out, "sample-wep:1") || !strings.Contains(out, "timed out") {
		t.Errorf("wait says %v\n%s", err, out)
	}
	c.in(t, "delete", "-f", file, "--force")
}

func testAutoscaler(t *testing.T, c tool) {
	eventually(t, "every node has figures", func() error {
		out, err := c.run("-n", c.namespace, "top", "nodes")
		if want := len(nodes(t)); err == nil && strings.Count(strings.TrimSpace(out), "\n") != want {
			err = fmt.Errorf("top nodes shows\n%s", out)
		}
		return err
	})
	eventually(t, "pods have figures", func() error {
		out, err := c.run("-n", c.namespace, "top", "pods")
		if err == nil && !strings.Contains(out, "phases") {
			err = fmt.Errorf("top pods shows\n%s", out)
		}
		return err
	})
	c.in(t, "scale", "deployment/web", "--replicas=1")
	c.in(t, "autoscale", "deployment", "web", "--min=1", "--max=3", "--cpu=50%")
	c.in(t, "run", "load", "--image=keelson.local/sample-web:1", "--image-pull-policy=Never", "--restart=Never", "--",
		"load", "-for", "10m", "-clients", "1", "http://web/work?ms=200")
	c.until(t, "3", ".status.currentReplicas", "hpa/web")
	c.in(t, "delete", "pod", "load", "--now")
	c.in(t, "delete", "hpa", "web")
}

// testNodesVerbs takes a worker out of use and back in.
func testNodesVerbs(t *testing.T, c tool) {
	all := nodes(t)
	worker := all[len(all)-1]
	osctl(t, "cordon", worker)
	if got := osctl(t, "get", "node", worker); !strings.Contains(got, "SchedulingDisabled") {
		t.Errorf("after cordon:\n%s", got)
	}
	if len(all) > 1 {
		osctl(t, "drain", worker, "--ignore-daemonsets", "--delete-emptydir-data", "--force", waitFlag)
		left := osctl(t, "get", "pods", "-A", "--field-selector", "spec.nodeName="+worker, "-o", "name")
		for _, pod := range strings.Fields(left) {
			if !strings.Contains(pod, "everywhere") {
				t.Errorf("%s is still on the drained node", pod)
			}
		}
	} else if out := osctl(t, "drain", worker, "--ignore-daemonsets", "--delete-emptydir-data", "--force", "--dry-run=server"); !strings.Contains(out, "drained (server dry run)") {
		t.Errorf("a dry run of draining says\n%s", out)
	}
	osctl(t, "taint", "nodes", worker, "used=test:NoSchedule")
	osctl(t, "taint", "nodes", worker, "used-")
	osctl(t, "label", "node", worker, "disk=slow")
	osctl(t, "uncordon", worker)
	c.until(t, "", ".spec.unschedulable", "node/"+worker)
}
