package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/keelson-os/keelson/machined/etcd"
	"github.com/keelson-os/keelson/machined/supervise"
	etcdapi "github.com/keelson-os/keelson/pkg/api/etcd"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
)

// cluster is what the configs of several nodes have in common.
type cluster struct {
	t     *testing.T
	ca    *pki.CA
	id    string
	nodes []*node
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	ca, err := pki.NewCA("etcd", time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return &cluster{t: t, ca: ca, id: "c0ffee"}
}

// peers are all nodes of the cluster's config.
func (c *cluster) peers() []string {
	var list []string
	for _, each := range c.nodes {
		list = append(list, each.address())
	}
	return list
}

// node is one node's member: what machined knows of it, and the process.
type node struct {
	t       *testing.T
	cluster *cluster
	ca      *pki.CA
	options etcd.Options
	service *etcd.Service
	flags   []string // beside those of machined
	process *exec.Cmd
	ended   chan struct{} // closed when the process has
	stderr  *output
}

// output is what a process said.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(data []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(data)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}

// newNode makes a node that is alone in its cluster.
func newNode(t *testing.T) *node {
	t.Helper()
	return newCluster(t).node("node-1")
}

// node adds a node to the cluster's config.
func (c *cluster) node(name string) *node {
	c.t.Helper()
	base := shortDir(c.t)
	config := machineconfig.Etcd{HeartbeatInterval: 50 * time.Millisecond, ElectionTimeout: 500 * time.Millisecond}
	n := &node{t: c.t, cluster: c, ca: c.ca, options: etcd.Options{
		Hostname: name, NodeIP: netip.MustParseAddr("127.0.0.1"), ClusterID: c.id, CA: c.ca, Config: config, Peers: c.peers,
		LookupUser: func(string) (supervise.User, error) {
			return supervise.User{UID: uint32(os.Getuid()), GID: uint32(os.Getgid())}, nil
		},
		Program: os.Args[0], DataDir: filepath.Join(base, "data"), SnapshotsDir: filepath.Join(base, "snapshots"), SecretsDir: filepath.Join(base, "secrets"), AdminSocket: filepath.Join(base, "admin", "sock"),
		ClientPort: freePort(c.t), PeerPort: freePort(c.t),
	}}
	c.nodes = append(c.nodes, n)
	n.reboot()
	return n
}

func (n *node) address() string { return fmt.Sprintf("127.0.0.1:%d", n.options.ClientPort) }

func (n *node) peerAddress() string { return fmt.Sprintf("127.0.0.1:%d", n.options.PeerPort) }

// hasLog tells whether a member has run on the node.
func (n *node) hasLog() error {
	logs, err := filepath.Glob(filepath.Join(n.options.DataDir, "member", "wal", "*.wal"))
	if err == nil && len(logs) == 0 {
		err = errors.New("no log yet")
	}
	return err
}

// shortDir is a folder of which the name leaves room for a unix socket's, which
// has at most 107 bytes.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "etcd")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// reboot makes what machined knows anew, from the disk alone.
func (n *node) reboot() {
	n.t.Helper()
	service, err := etcd.New(n.options)
	if err != nil {
		n.t.Fatal(err)
	}
	n.service = service
}

// start does what the supervisor does once the gate is open.
func (n *node) start() {
	n.t.Helper()
	spec := n.service.Spec()
	if err := spec.Prepare(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	n.process = exec.Command(spec.Path, append(spec.Args, n.flags...)...)
	n.stderr = &output{}
	n.process.Stderr = n.stderr
	if err := n.process.Start(); err != nil {
		n.t.Fatal(err)
	}
	process, ended := n.process, make(chan struct{})
	n.ended = ended
	go func() {
		_ = process.Wait()
		close(ended)
	}()
	n.t.Cleanup(func() {
		_ = process.Process.Kill()
		<-ended
	})
}

// kill ends the process without a chance to tidy up.
func (n *node) kill() {
	_ = n.process.Process.Kill()
	<-n.ended
}

// freeze stops the process, and returns when it is: a signal takes its time on a
// busy machine, and a process that still runs answers.
func (n *node) freeze() {
	n.t.Helper()
	if err := n.process.Process.Signal(syscall.SIGSTOP); err != nil {
		n.t.Fatal(err)
	}
	n.eventually("the process is stopped", func() error {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", n.process.Process.Pid))
		if err == nil && !strings.Contains(string(stat), ") T ") {
			err = fmt.Errorf("its state is %s", stat)
		}
		return err
	})
}

// exits waits for the process to end by itself, with an error, and to have said
// something.
func (n *node) exits(saying string) {
	n.t.Helper()
	select {
	case <-n.ended:
	case <-time.After(deadline):
		n.t.Fatalf("%s runs on\n%s", n.options.Hostname, n.stderr)
	}
	if n.process.ProcessState.Success() || !strings.Contains(n.stderr.String(), saying) {
		n.t.Fatalf("%s ended with %s, want it to say %q\n%s", n.options.Hostname, n.process.ProcessState, saying, n.stderr)
	}
}

// join starts the node's member and waits until it votes.
func (n *node) join() {
	n.t.Helper()
	if err := n.service.Spec().Gate(n.t.Context()); err != nil {
		n.t.Fatal(err)
	}
	n.start()
	n.healthy()
}

func (n *node) healthy() {
	n.t.Helper()
	n.eventually("etcd is healthy", func() error { return n.service.Spec().Health.Probe(n.t.Context()) })
}

func (n *node) eventually(what string, check func() error) {
	n.t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	timeout := time.After(deadline)
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-tick.C:
		case <-timeout:
			n.kill()
			n.t.Fatalf("%s: %s: not within %s: %v\n%s", n.options.Hostname, what, deadline, err, n.stderr)
		}
	}
}

func (n *node) tls(certs ...tls.Certificate) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(n.ca.Certificate())
	return &tls.Config{RootCAs: roots, Certificates: certs}
}

func (n *node) clientCert() tls.Certificate {
	n.t.Helper()
	pair, err := n.ca.Issue(pki.Request{CommonName: "kube-apiserver", Client: true, TTL: time.Hour})
	if err != nil {
		n.t.Fatal(err)
	}
	cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
	if err != nil {
		n.t.Fatal(err)
	}
	return cert
}

func (n *node) client() *clientv3.Client {
	n.t.Helper()
	client, err := clientv3.New(clientv3.Config{Endpoints: []string{"https://" + n.address()}, TLS: n.tls(n.clientCert())})
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = client.Close() })
	return client
}

// admin is a client of the node's admin socket.
func (n *node) admin() etcdapi.EtcdServiceClient {
	n.t.Helper()
	connection, err := grpc.NewClient("unix:"+n.options.AdminSocket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { _ = connection.Close() })
	return etcdapi.NewEtcdServiceClient(connection)
}

func (n *node) put(key, value string) {
	n.t.Helper()
	ctx, cancel := context.WithTimeout(n.t.Context(), deadline)
	defer cancel()
	if _, err := n.client().Put(ctx, key, value); err != nil {
		n.t.Fatal(err)
	}
}

// holds checks what the node's own data has under a key, without asking others.
func (n *node) holds(key, value string) {
	n.t.Helper()
	client := n.client()
	n.eventually(key+" is "+value, func() error {
		ctx, cancel := context.WithTimeout(n.t.Context(), deadline)
		defer cancel()
		got, err := client.Get(ctx, key, clientv3.WithSerializable())
		switch {
		case err != nil:
			return err
		case len(got.Kvs) != 1 || string(got.Kvs[0].Value) != value:
			return fmt.Errorf("%s holds %v", key, got.Kvs)
		}
		return nil
	})
}

// members describes what the node says the members are: "node-1 node-2(learner)".
func (n *node) members() (string, error) {
	ctx, cancel := context.WithTimeout(n.t.Context(), deadline)
	defer cancel()
	response, err := n.admin().Members(ctx, &etcdapi.MembersRequest{})
	if err != nil {
		return "", err
	}
	var list []string
	for _, each := range response.GetMembers() {
		text := each.GetName()
		if each.GetLearner() {
			text += "(learner)"
		}
		if !each.GetReachable() {
			text += "(silent)"
		}
		list = append(list, text)
	}
	slices.Sort(list)
	return strings.Join(list, " "), nil
}

// hasMembers waits until the node knows these members.
func (n *node) hasMembers(want string) {
	n.t.Helper()
	n.eventually("the members are "+want, func() error {
		got, err := n.members()
		if err == nil && got != want {
			err = errors.New(got)
		}
		return err
	})
}

func freePort(t *testing.T) int {
	t.Helper()
	for range 1000 {
		// Below the ports that the kernel gives to outgoing connections (32768 and
		// up, ip_local_port_range): one of those may take it before etcd does.
		port := 20000 + rand.N(12000)
		if _, taken := ports.LoadOrStore(port, true); taken {
			continue
		}
		listener, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err == nil {
			listener.Close()
			return port
		}
	}
	t.Fatal("no port is free")
	return 0
}

// ports are those that tests were given before.
var ports sync.Map
