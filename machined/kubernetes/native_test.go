package kubernetes

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
	"github.com/keelson-os/keelson/pkg/secretdir"
	"go.yaml.in/yaml/v3"
)

const nativeDeadline = 2 * time.Minute

type native struct {
	t         *testing.T
	kube      string
	k         *Kubernetes
	processes map[string]*process
	etcdData  string
}

type process struct {
	cmd *exec.Cmd
	log *syncBuffer
}

type syncBuffer struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (b *syncBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.Write(p)
}

func (b *syncBuffer) all() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.text.String()
}

func (b *syncBuffer) tail() string {
	text := b.all()
	return text[max(0, len(text)-4000):]
}

// TestNative runs the real control plane on the loopback, from the files and
// flags that a node would have. KEELSON_ARTIFACTS names the folder in which
// `make image` left the programs it built.
func TestNative(t *testing.T) {
	artifacts := os.Getenv("KEELSON_ARTIFACTS")
	if artifacts == "" {
		t.Skip("needs KEELSON_ARTIFACTS, the folder that make image built into; make test sets it")
	}
	kube := filepath.Join(artifacts, "build/programs/kube")
	n := &native{t: t, kube: kube, processes: map[string]*process{}}
	n.k = testKubernetes(t, Options{Root: t.TempDir(), APIPort: freePort(t), EtcdPort: freePort(t), Log: slog.New(slog.NewTextHandler(os.Stderr, nil))})
	n.startEtcd()
	began := time.Now()
	n.start(n.k.apiServer())
	n.healthy(n.k.apiServer())
	t.Logf("kube-apiserver ready after %s", time.Since(began).Round(time.Millisecond))

	ctx, stop := context.WithCancel(t.Context())
	var tasks sync.WaitGroup
	defer func() { stop(); tasks.Wait() }()
	nodes := make(chan Node, 100)
	tasks.Go(func() { n.k.Reconcile(ctx) })
	tasks.Go(func() { n.k.WatchNode(ctx, func(node Node) { nodes <- node }) })

	for _, step := range []struct {
		name string
		run  func(t *testing.T)
	}{
		{"manifests", n.testManifests},
		{"anonymous", n.testAnonymous},
		{"controllers", n.testControllers},
		{"volumes", n.testVolumes},
		{"people", n.testPeople},
		{"apid impersonates", n.testImpersonation},
		{"secrets at rest", n.testSecretsAtRest},
		{"pod security", n.testPodSecurity},
		{"node", func(t *testing.T) { n.testNode(t, nodes) }},
		{"metrics", n.testMetrics},
	} {
		t.Run(step.name, step.run)
	}
}

func (n *native) startEtcd() {
	n.t.Helper()
	base := n.t.TempDir()
	program := filepath.Join(base, "etcd")
	build := exec.Command("go", "build", "-o", program, "github.com/keelson-os/keelson/machined/etcd/server")
	if out, err := build.CombinedOutput(); err != nil {
		n.t.Fatalf("build etcd: %v\n%s", err, out)
	}
	pair, err := n.k.etcdCA.Issue(pki.Request{CommonName: "etcd-peer", DNSNames: []string{"localhost"}, IPs: []netip.Addr{loopback}, Client: true, Server: true, TTL: time.Hour})
	if err != nil {
		n.t.Fatal(err)
	}
	secrets := filepath.Join(base, "secrets")
	owner := secretdir.Owner{UID: os.Getuid(), GID: os.Getgid()}
	if err := secretdir.Write(secrets, owner, map[string][]byte{
		"ca": n.k.etcdCA.KeyPair().Cert, "cert": pair.Cert, "key": pair.Key, "bootstrap": nil,
	}); err != nil {
		n.t.Fatal(err)
	}
	n.etcdData = filepath.Join(base, "data")
	client := fmt.Sprintf("https://127.0.0.1:%d", n.k.options.EtcdPort)
	n.run("etcd", program, flags{
		"name": "node-1", "data-dir": n.etcdData, "bootstrap-if": filepath.Join(secrets, "bootstrap"), "cluster-token": "x",
		"listen-client-urls": client, "advertise-client-urls": client, "peer-url": fmt.Sprintf("https://127.0.0.1:%d", freePort(n.t)),
		"ca": secrets + "/ca", "cert": secrets + "/cert", "key": secrets + "/key",
		"peer-cert": secrets + "/cert", "peer-key": secrets + "/key", "peer-name": "etcd-peer", "log-level": "warn",
		"server-name": "localhost", "joining": filepath.Join(base, "joining"), "removed": filepath.Join(base, "removed"),
		"admin-socket": filepath.Join(base, "admin.sock"),
	}.args(nil))
}

// start does what the supervisor does.
func (n *native) start(spec supervise.Spec) {
	n.t.Helper()
	if err := spec.Prepare(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	n.run(spec.Name, n.kube, spec.Args, spec.Env...)
}

func (n *native) run(name, program string, args []string, env ...string) {
	n.t.Helper()
	p := &process{cmd: exec.Command(program, args...), log: &syncBuffer{}}
	p.cmd.Args[0] = name
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Stdout, p.cmd.Stderr = p.log, p.log
	if err := p.cmd.Start(); err != nil {
		n.t.Fatal(err)
	}
	n.processes[name] = p
	n.t.Cleanup(func() { n.kill(p) })
}

func (n *native) kill(p *process) {
	_ = p.cmd.Process.Kill()
	_ = p.cmd.Wait()
}

func (n *native) healthy(spec supervise.Spec) {
	n.t.Helper()
	n.eventually(n.t, spec.Name+" is healthy", func() error {
		if err := spec.Health.Probe(n.t.Context()); err != nil {
			return fmt.Errorf("%w; its log ends:\n%s", err, n.processes[spec.Name].log.tail())
		}
		return nil
	})
}

func (n *native) eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(nativeDeadline)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			t.Fatalf("%s: not within %s: %v", what, nativeDeadline, err)
		}
	}
}

// as returns a client that is who a kubeconfig says.
func (n *native) as(t *testing.T, config []byte) *client {
	t.Helper()
	var doc struct {
		Users []struct {
			User struct {
				Cert string `yaml:"client-certificate-data"`
				Key  string `yaml:"client-key-data"`
			}
		}
	}
	if err := yaml.Unmarshal(config, &doc); err != nil {
		t.Fatal(err)
	}
	cert, certErr := base64.StdEncoding.DecodeString(doc.Users[0].User.Cert)
	key, keyErr := base64.StdEncoding.DecodeString(doc.Users[0].User.Key)
	if err := errors.Join(certErr, keyErr); err != nil {
		t.Fatal(err)
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		t.Fatal(err)
	}
	return n.with(pair)
}

func (n *native) with(certs ...tls.Certificate) *client {
	return &client{base: n.k.api.base, http: newHTTP(n.k.ca.Certificate(), certs...), minted: time.Now()}
}

func (n *native) person(t *testing.T, role string) *client {
	t.Helper()
	config, err := n.k.Kubeconfig(t.Context(), "ada", []string{role}, time.Now().Add(time.Hour))
	if err != nil {
		t.Fatal(err)
	}
	return n.as(t, config)
}

func code(err error) int {
	var status *statusError
	if errors.As(err, &status) {
		return status.code
	}
	if err != nil {
		return -1
	}
	return http.StatusOK
}

func (n *native) testManifests(t *testing.T) {
	n.eventually(t, "manifests are applied", func() error {
		for _, check := range n.k.Health(t.Context()) {
			if check.Name == "manifests" && !check.OK {
				return errors.New(check.Message)
			}
		}
		return nil
	})
	if applied, err := n.k.reconcile(t.Context()); err != nil || applied != 0 {
		t.Errorf("a second round applied %d manifests (%v), want none", applied, err)
	}
	path := n.k.manifests[0].path()
	if err := n.k.api.send(t.Context(), http.MethodDelete, path, "", map[string]any{}); err != nil {
		t.Fatal(err)
	}
	if applied, err := n.k.reconcile(t.Context()); err != nil || applied != 1 {
		t.Errorf("after one was deleted, %d manifests were applied (%v), want 1", applied, err)
	}
}

func (n *native) testAnonymous(t *testing.T) {
	nobody := n.with()
	for path, want := range map[string]int{"/readyz": 200, "/livez": 200, "/version": 401, "/api/v1/nodes": 401} {
		if got := code(nobody.check(t.Context(), path)); got != want {
			t.Errorf("%s without a certificate: %d, want %d", path, got, want)
		}
	}
}

func configMap(name string) map[string]any {
	return map[string]any{"apiVersion": "v1", "kind": "ConfigMap", "metadata": map[string]any{"name": name}}
}

func (n *native) testPeople(t *testing.T) {
	const maps = "/api/v1/namespaces/default/configmaps"
	for role, want := range map[string]struct{ list, create, nodes, secrets int }{
		"os:admin":    {200, 200, 200, 200},
		"os:operator": {200, 200, 200, 200},
		"os:reader":   {200, 403, 200, 403},
	} {
		person := n.person(t, role)
		// The controller-manager fills the roles edit and view in.
		n.eventually(t, role+" has its rights", func() error { return person.check(t.Context(), maps) })
		if got := code(person.check(t.Context(), maps)); got != want.list {
			t.Errorf("%s lists: %d, want %d", role, got, want.list)
		}
		if got := code(person.check(t.Context(), "/api/v1/nodes")); got != want.nodes {
			t.Errorf("%s lists nodes: %d, want %d", role, got, want.nodes)
		}
		if got := code(person.check(t.Context(), "/api/v1/namespaces/default/secrets")); got != want.secrets {
			t.Errorf("%s lists secrets: %d, want %d", role, got, want.secrets)
		}
		err := person.send(t.Context(), http.MethodPost, maps, "application/json", configMap(strings.ReplaceAll(role, ":", "-")))
		if got := code(err); got != want.create {
			t.Errorf("%s creates: %d (%v), want %d", role, got, err, want.create)
		}
	}
}

func (n *native) testImpersonation(t *testing.T) {
	if err := n.k.WriteAPIDKubeconfig(); err != nil {
		t.Fatal(err)
	}
	config, err := os.ReadFile(n.k.secrets(apid, kubeconfigFile))
	if err != nil {
		t.Fatal(err)
	}
	client := n.as(t, config)
	for _, c := range []struct {
		method, path, user, group string
		want                      int
	}{
		{http.MethodGet, "/api/v1/nodes", "", "", 403},
		{http.MethodGet, "/api/v1/nodes", "ada", "keelson:reader", 200},
		{http.MethodGet, "/api/v1/nodes", "ada", "keelson:admin", 200},
		{http.MethodGet, "/api/v1/nodes", "ada", "system:masters", 403},
		{http.MethodGet, "/api/v1/nodes", "ada", "system:nodes", 403},
		{http.MethodGet, "/api/v1/nodes", "system:node:" + n.k.options.Hostname, "", 403},
		{http.MethodGet, "/api/v1/namespaces/default/secrets", "system:serviceaccount:kube-system:default", "", 403},
		// What nobody asks for through apid, though ada might do it.
		{http.MethodPost, "/livez", "ada", "keelson:admin", 403},
		{http.MethodPut, "/api/v1/namespaces/default", "ada", "system:masters", 403},
		// What it does ask for is let through, and then fails for want of a pod
		// or of a body.
		{http.MethodGet, "/api/v1/namespaces/default/pods/none/exec?command=x", "ada", "keelson:admin", 404},
		{http.MethodPost, "/api/v1/namespaces/default/pods/none/exec?command=x", "ada", "keelson:admin", 404},
		{http.MethodDelete, "/api/v1/namespaces/default/pods/none", "ada", "keelson:admin", 404},
		{http.MethodPatch, "/api/v1/namespaces/default/configmaps/applied", "ada", "keelson:admin", 415},
		{http.MethodPut, "/api/v1/namespaces/default", "ada", "keelson:admin", 400},
		{http.MethodGet, "/openapi/v3", "ada", "keelson:reader", 200},
	} {
		request, err := http.NewRequestWithContext(t.Context(), c.method, client.base+c.path, nil)
		if err != nil {
			t.Fatal(err)
		}
		for header, value := range map[string]string{"Impersonate-User": c.user, "Impersonate-Group": c.group} {
			if value != "" {
				request.Header.Set(header, value)
			}
		}
		response, err := client.http.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = response.Body.Close()
		if response.StatusCode != c.want {
			t.Errorf("apid as %q in %q, %s %s: %d, want %d", c.user, c.group, c.method, c.path, response.StatusCode, c.want)
		}
	}
	n.testAuditedPerson(t, client)
}

// testAuditedPerson writes through apid and looks for who did it, not only for
// apid, in the audit log.
func (n *native) testAuditedPerson(t *testing.T, apid *client) {
	const path = "/api/v1/namespaces/default/configmaps/audited"
	body := strings.NewReader(`{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"audited"}}`)
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, apid.base+path+"?fieldManager=osctl", body)
	if err != nil {
		t.Fatal(err)
	}
	for header, value := range map[string]string{
		"Impersonate-User": "ada", "Impersonate-Group": "keelson:admin", "Content-Type": "application/apply-patch+yaml",
	} {
		request.Header.Set(header, value)
	}
	response, err := apid.http.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	_ = response.Body.Close()
	if response.StatusCode != http.StatusCreated {
		t.Fatalf("apply as ada: %s", response.Status)
	}
	n.eventually(t, "the audit log names the person", func() error {
		log, err := os.ReadFile(n.k.path(auditDir, "audit.log"))
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(log)) {
			if strings.Contains(line, path) && strings.Contains(line, `"impersonatedUser":{"username":"ada"`) &&
				strings.Contains(line, `"user":{"username":"`+identity.APID+`"`) {
				return nil
			}
		}
		return errors.New("it does not")
	})
}

func (n *native) testSecretsAtRest(t *testing.T) {
	const word = "plainlyvisibleword"
	secret := map[string]any{
		"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "sealed"}, "stringData": map[string]any{"word": word},
	}
	if err := n.person(t, "os:admin").send(t.Context(), http.MethodPost, "/api/v1/namespaces/default/secrets", "application/json", secret); err != nil {
		t.Fatal(err)
	}
	if !holds(t, n.etcdData, "/registry/secrets/default/sealed") {
		t.Fatal("the secret is not in etcd's files")
	}
	if holds(t, n.etcdData, word) {
		t.Error("the secret's word stands in etcd's files as it is")
	}
	audit := n.k.path(auditDir)
	n.eventually(t, "the audit log names the secret", func() error {
		if !holds(t, audit, `"name":"sealed"`) {
			return errors.New("it does not")
		}
		return nil
	})
	if holds(t, audit, word) || holds(t, audit, base64.StdEncoding.EncodeToString([]byte(word))) {
		t.Error("the secret's word stands in the audit log")
	}
}

// holds tells whether a text is in a file below dir.
func holds(t *testing.T, dir, text string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		found = found || bytes.Contains(content, []byte(text))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func (n *native) testPodSecurity(t *testing.T) {
	pod := map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "strong"},
		"spec": map[string]any{"hostNetwork": true, "serviceAccountName": "default", "containers": []any{map[string]any{"name": "c", "image": "x"}}},
	}
	admin := n.person(t, "os:admin")
	for namespace, want := range map[string]string{"default": "PodSecurity", "kube-system": ""} {
		n.eventually(t, "the service account is there", func() error {
			return admin.check(t.Context(), "/api/v1/namespaces/"+namespace+"/serviceaccounts/default")
		})
		err := admin.send(t.Context(), http.MethodPost, "/api/v1/namespaces/"+namespace+"/pods", "application/json", pod)
		if (err != nil) != (want != "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("a pod on the host's network in %s: %v, want %q", namespace, err, want)
		}
	}
}

func (n *native) testNode(t *testing.T, nodes <-chan Node) {
	name := n.k.options.Hostname
	next := func(want Node) {
		t.Helper()
		select {
		case got := <-nodes:
			if got != want {
				t.Fatalf("the node is %+v, want %+v", got, want)
			}
		case <-time.After(nativeDeadline):
			t.Fatalf("no change of the node, want %+v", want)
		}
	}
	node := map[string]any{"apiVersion": "v1", "kind": "Node", "metadata": map[string]any{"name": name}}
	if err := n.k.api.send(t.Context(), http.MethodPost, "/api/v1/nodes", "application/json", node); err != nil {
		t.Fatal(err)
	}
	next(Node{Registered: true, Message: "kubelet has not reported yet"})
	status := map[string]any{"status": map[string]any{"conditions": []any{map[string]any{"type": "Ready", "status": "True", "message": "fine", "lastHeartbeatTime": time.Now().UTC().Format(time.RFC3339)}}}}
	if err := n.k.api.send(t.Context(), http.MethodPatch, "/api/v1/nodes/"+name+"/status", "application/strategic-merge-patch+json", status); err != nil {
		t.Fatal(err)
	}
	next(Node{Registered: true, Ready: true, Message: "fine"})
	var object nodeObject
	if err := n.k.api.get(t.Context(), "/api/v1/nodes/"+name, &object); err != nil {
		t.Fatal(err)
	}
	if _, ok := object.Metadata.Labels[controlPlaneLabel]; !ok {
		t.Errorf("the node's labels are %v, want %s among them", object.Metadata.Labels, controlPlaneLabel)
	}
}

func (n *native) testControllers(t *testing.T) {
	began := time.Now()
	for _, spec := range []supervise.Spec{n.k.controllerManager(), n.k.scheduler()} {
		// Their ports are fixed; another one on this machine would be in the way.
		n.start(spec)
		n.healthy(spec)
	}
	account := func() error {
		return n.k.api.check(t.Context(), "/api/v1/namespaces/kube-public/serviceaccounts/default")
	}
	n.eventually(t, "the default service account is made", account)
	t.Logf("default service account after %s", time.Since(began).Round(time.Millisecond))

	leader := func() (string, error) {
		var lease struct {
			Spec struct {
				Holder string `json:"holderIdentity"`
			} `json:"spec"`
		}
		err := n.k.api.get(t.Context(), "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/"+ControllerManager, &lease)
		return lease.Spec.Holder, err
	}
	first, err := leader()
	if err != nil {
		t.Fatal(err)
	}
	n.kill(n.processes[ControllerManager])
	killed := time.Now()
	n.start(n.k.controllerManager())
	n.eventually(t, "the next process leads", func() error {
		now, err := leader()
		if err == nil && (now == first || now == "") {
			err = fmt.Errorf("leader %q, was %q", now, first)
		}
		return err
	})
	if took := time.Since(killed); took > 45*time.Second {
		t.Errorf("a restart took %s to lead again: the lease was not released", took)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port
}

// testKubernetes makes a control-plane node with new secrets.
func testKubernetes(t *testing.T, options Options) *Kubernetes {
	t.Helper()
	secrets, err := machineconfig.NewSecrets("test", time.Now())
	if err != nil {
		t.Fatal(err)
	}
	config := machineconfig.Default()
	config.Machine.Type = machineconfig.ControlPlane
	config.Cluster.Name = "test"
	config.Cluster.Endpoint = "https://k8s.example.com:6443"
	config.Secrets = secrets
	options.Config = config
	if options.Hostname == "" {
		// The controllers' leases bear the host's real name.
		if options.Hostname, err = os.Hostname(); err != nil {
			t.Fatal(err)
		}
		options.Hostname = strings.ToLower(options.Hostname)
	}
	if !options.NodeIP.IsValid() {
		options.NodeIP = netip.MustParseAddr("10.0.2.15")
	}
	if options.Log == nil {
		options.Log = slog.New(slog.NewTextHandler(io.Discard, nil))
	}
	options.LookupUser = func(string) (supervise.User, error) {
		return supervise.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, nil
	}
	k, err := New(options)
	if err != nil {
		t.Fatal(err)
	}
	return k
}
