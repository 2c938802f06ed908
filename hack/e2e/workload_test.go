package e2e

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

const sampleImage = "keelson.local/sample-web:1"

func testBadArchives(t *testing.T) {
	whole, err := os.ReadFile(filepath.Join(artifacts, "sample-web.tar"))
	if err != nil {
		t.Fatal(err)
	}
	before := osctl(t, "image", "list", "-o", "name")
	for name, content := range map[string][]byte{
		"truncated.tar": whole[:len(whole)/2],
		"empty.tar":     nil,
		"text.tar":      []byte("this is no archive"),
		"zeros.tar":     make([]byte, 1<<20),
	} {
		osctlFails(t, []string{name}, "image", "import", write(t, name, content))
	}
	if after := osctl(t, "image", "list", "-o", "name"); after != before {
		t.Errorf("refused archives changed the images:\n%s\nbefore:\n%s", after, before)
	}
	osctlFails(t, []string{"no-such.tar"}, "image", "import", "no-such.tar")
}

func testImages(t *testing.T) {
	archive := filepath.Join(artifacts, "sample-web.tar")
	osctl(t, "image", "import", archive)
	if out := osctl(t, "image", "list"); !strings.Contains(out, "sample-web") {
		t.Errorf("the imported image is not listed:\n%s", out)
	}
	osctl(t, "image", "rm", sampleImage)
	if out := osctl(t, "image", "list", "-o", "name"); strings.Contains(out, sampleImage) {
		t.Errorf("the removed image is still listed:\n%s", out)
	}
	osctlFails(t, []string{sampleImage}, "image", "rm", sampleImage)
	osctlFails(t, []string{"pause"}, "image", "rm", pauseImage(t))
	osctl(t, "image", "import", archive)
}

func pauseImage(t *testing.T) string {
	t.Helper()
	name := regexp.MustCompile(`\S*/pause:\S+`).FindString(osctl(t, "image", "list", "-o", "name"))
	if name == "" {
		t.Fatal("no pause image on the node")
	}
	return name
}

func testDeployment(t *testing.T) {
	osctl(t, "apply", "-f", "../sample/sample-web.yaml")
	if out := osctl(t, "apply", "-f", "../sample/sample-web.yaml"); !strings.Contains(out, "unchanged") {
		t.Errorf("applying again says:\n%s", out)
	}
	eventually(t, "the page is served", pageServed)
}

// samplePods returns the names of the sample's ready pods, as pod/NAME.
func samplePods() ([]string, error) {
	out, err := osctlFor(settleDeadline, nil, "get", "pods", "-l", "app=sample-web", "--field-selector", "status.phase=Running", "-o", "name")
	if err != nil {
		return nil, err
	}
	pods := strings.Fields(out)
	if len(pods) < 2 {
		return nil, fmt.Errorf("%d sample pods run, expected 2", len(pods))
	}
	return pods, nil
}

// pageServed fetches the page from one pod by the Service's name until each
// of the two pods has answered.
func pageServed() error {
	pods, err := samplePods()
	if err != nil {
		return err
	}
	servers := map[string]bool{}
	for range 20 {
		out, err := osctlFor(settleDeadline, nil, "exec", pods[0], "--", "/sample-web", "get", "http://sample-web/")
		if err != nil {
			return err
		}
		for _, pod := range pods {
			if strings.Contains(out, strings.TrimPrefix(pod, "pod/")) {
				servers[pod] = true
			}
		}
		if len(servers) == 2 {
			return nil
		}
	}
	return fmt.Errorf("the page came only from %v", servers)
}

func aPod(t *testing.T) string {
	t.Helper()
	pods, err := samplePods()
	if err != nil {
		t.Fatal(err)
	}
	return pods[0]
}

func testNames(t *testing.T) {
	pod := aPod(t)
	for name, want := range map[string]string{
		"kubernetes.default": "10.96.0.1",
		"sample-web":         "10.96.",
	} {
		if out := osctl(t, "exec", pod, "--", "/sample-web", "lookup", name); !strings.Contains(out, want) {
			t.Errorf("%s resolves to %q, expected %s", name, out, want)
		}
	}
	osctlFails(t, []string{"no-such-name"}, "exec", pod, "--", "/sample-web", "lookup", "no-such-name")
}

func testExec(t *testing.T) {
	pod := aPod(t)
	out, err := osctlFor(settleDeadline, []byte("through stdin\n"), "exec", "-i", pod, "--", "/sample-web", "echo")
	if err != nil || out != "through stdin\n" {
		t.Errorf("echo: %q, %v", out, err)
	}
	_, err = osctlFor(settleDeadline, nil, "exec", pod, "--", "/sample-web", "get", "http://127.0.0.1:1/")
	if code := exitCode(err); code != 1 {
		t.Errorf("a failing program: exit code %d, %v", code, err)
	}
	_, err = osctlFor(settleDeadline, nil, "exec", pod, "--", "/bin/sh")
	if code := exitCode(err); code != 126 && code != 127 {
		t.Errorf("a program that does not exist: exit code %d, %v", code, err)
	}
}

func exitCode(err error) int {
	for e := err; e != nil; {
		if exit, ok := e.(*exec.ExitError); ok {
			return exit.ExitCode()
		}
		u, ok := e.(interface{ Unwrap() error })
		if !ok {
			return -1
		}
		e = u.Unwrap()
	}
	return 0
}

const tickPod = `
apiVersion: v1
kind: Pod
metadata: {name: tick}
spec:
  terminationGracePeriodSeconds: 1
  containers:
  - {name: tick, image: "` + sampleImage + `", imagePullPolicy: Never, command: [/sample-web, tick]}
`

func testLogsFollow(t *testing.T) {
	if _, err := osctlFor(settleDeadline, []byte(tickPod), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	eventually(t, "tick runs", func() error {
		phase, err := osctlFor(settleDeadline, nil, "get", "pod", "tick", "-o", "jsonpath={.status.phase}")
		if err == nil && phase != "Running" {
			err = fmt.Errorf("its phase is %q", phase)
		}
		return err
	})
	ctx, cancel := context.WithTimeout(t.Context(), settleDeadline)
	defer cancel()
	for _, args := range [][]string{{"logs", "pod/tick", "-f"}, {"logs", "kubelet", "-f"}} {
		cmd := exec.CommandContext(ctx, osctlPath, args...)
		stdout, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(stdout)
		for n := range 5 {
			if !lines.Scan() {
				t.Errorf("osctl %s: only %d lines: %v", strings.Join(args, " "), n, lines.Err())
				break
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	osctl(t, "delete", "pod", "tick")
	osctlFails(t, []string{"tick"}, "get", "pod", "tick")
}

const rejected = `apiVersion: v1
kind: ConfigMap
metadata: {name: good}
data: {a: b}
---
apiVersion: v1
kind: Pod
metadata: {name: Bad_Name}
spec: {containers: [{name: c, image: x}]}
---
apiVersion: v1
kind: Gadget
metadata: {name: none}
---
apiVersion: v1
kind: Pod
metadata: {name: privileged}
spec: {containers: [{name: c, image: x, securityContext: {privileged: true}}]}
`

func testRejectedManifests(t *testing.T) {
	file := write(t, "rejected.yaml", []byte(rejected))
	osctlFails(t, []string{"rejected.yaml", "Bad_Name", "Gadget", "PodSecurity", "baseline"}, "apply", "-f", file)
	osctl(t, "get", "configmap", "good")
	osctl(t, "delete", "configmap", "good")
	osctlFails(t, []string{"broken.yaml"}, "apply", "-f", write(t, "broken.yaml", []byte("a: [b")))
	osctlFails(t, []string{"pods"}, "get", "podz")
}

func testMissing(t *testing.T) {
	pod := strings.TrimPrefix(aPod(t), "pod/")
	osctlFails(t, []string{pod}, "logs", "pod/no-such-pod")
	osctlFails(t, []string{pod}, "exec", "pod/no-such-pod", "--", "/x")
	osctlFails(t, []string{"web"}, "logs", "pod/"+pod, "-c", "no-such-container")
	osctlFails(t, []string{"web"}, "exec", "pod/"+pod, "-c", "no-such-container", "--", "/x")
	osctlFails(t, []string{"etcd"}, "logs", "no-such-service")
	osctlFails(t, []string{"etcd"}, "service", "no-such-service", "restart")
}

const secretManifest = `
apiVersion: v1
kind: Secret
metadata: {name: sealed}
stringData: {word: plainlyvisibleword}
`

// testEncryptionAtRest looks for a secret's word in etcd's own files.
func testEncryptionAtRest(t *testing.T) {
	if _, err := osctlFor(settleDeadline, []byte(secretManifest), "apply", "-f", "-"); err != nil {
		t.Fatal(err)
	}
	box := startToolbox(t)
	var db string
	eventually(t, "etcd writes the secret to its database file", func() error {
		db = box.run(t, "cat", "/host/var/lib/etcd/member/snap/db")
		if !strings.Contains(db, "/registry/secrets/default/sealed") {
			return fmt.Errorf("not among its %d bytes", len(db))
		}
		return nil
	})
	if strings.Contains(db, "plainlyvisibleword") {
		t.Error("a secret's word stands in etcd's database as it is")
	}
}

func testKubectl(t *testing.T) {
	kubectl := buildKubectl(t)
	config := filepath.Join(t.TempDir(), "kubeconfig")
	osctl(t, "kubeconfig", config)
	if info, err := os.Stat(config); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the kubeconfig's mode: %v, %v", info, err)
	}
	for _, c := range []struct{ args, want string }{
		{"get nodes", " Ready "},
		{"get pods -A", "sample-web"},
		{"auth whoami", "keelson:admin"},
		{"logs deploy/sample-web", ""},
		{"top nodes", "Mi"},
		{"top pods --all-namespaces", "sample-web"},
	} {
		out, err := exec.Command(kubectl, append([]string{"--kubeconfig", config}, strings.Fields(c.args)...)...).CombinedOutput()
		if err != nil || !strings.Contains(string(out), c.want) {
			t.Errorf("kubectl %s: %v\n%s", c.args, err, out)
		}
	}
}
