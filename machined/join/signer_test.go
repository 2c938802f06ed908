package join

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
)

const (
	thisMachine  = "0123456789abcdef0123456789abcdef"
	otherMachine = "fedcba9876543210fedcba9876543210"
)

var stranger = netip.MustParseAddr("10.77.0.14")

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// newConfig is a control-plane node's config of a new cluster.
func newConfig(t testing.TB) *machineconfig.Config {
	t.Helper()
	secrets, err := machineconfig.NewSecrets("test", time.Now())
	must(t, err)
	return &machineconfig.Config{
		Machine: &machineconfig.Machine{Type: machineconfig.ControlPlane},
		Cluster: &machineconfig.Cluster{
			Name: "test", Endpoint: "https://API:6443",
			ControlPlane: machineconfig.ControlPlanes{
				Addresses:  []machineconfig.Host{"10.77.0.11", "cp-two"},
				VirtualIPs: []netip.Addr{netip.MustParseAddr("10.77.0.100")},
			},
			Network: machineconfig.ClusterNetwork{
				PodSubnet: netip.MustParsePrefix("10.244.0.0/16"), ServiceSubnet: netip.MustParsePrefix("10.96.0.0/12"),
			},
		},
		Secrets: secrets,
	}
}

// cluster is what a signer knows of its cluster, and what it told.
type cluster struct {
	mu        sync.Mutex
	machineID string
	ready     bool
	err       error
	nodes     []Node
	events    []string
	log       bytes.Buffer
}

func (c *cluster) known(context.Context, string) (string, bool, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.machineID, c.ready, c.machineID != "", c.err
}

func (c *cluster) set(machineID string, ready bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.machineID, c.ready = machineID, ready
}

func (c *cluster) told() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return strings.Join(c.events, "\n")
}

func newSigner(t testing.TB, config *machineconfig.Config) (*Signer, *cluster) {
	t.Helper()
	c := &cluster{}
	s, err := NewSigner(SignerOptions{
		Config: config, Hostname: "cp-1", Addresses: []netip.Addr{netip.MustParseAddr("10.77.0.12")},
		Known: c.known, Nodes: func() []Node { return c.nodes },
		Publish: func(subject, action, message string) {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.events = append(c.events, subject+" "+action+" "+message)
		},
		Log: slog.New(slog.NewTextHandler(&c.log, nil)),
	})
	must(t, err)
	return s, c
}

// greedy is a certificate request that asks for more than its use gives.
func greedy(t testing.TB) []byte {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{
		Subject:  pkix.Name{CommonName: "system:admin", Organization: []string{"system:masters", "os:admin"}},
		DNSNames: []string{"kubernetes.default"}, IPAddresses: []net.IP{{10, 96, 0, 1}},
	}, key)
	must(t, err)
	return csr
}

// newRequest is one that is let in.
func newRequest(t testing.TB, config *machineconfig.Config) *joinpb.JoinRequest {
	t.Helper()
	request := &joinpb.JoinRequest{
		Token: string(config.Secrets.JoinToken), ClusterId: config.Secrets.ClusterID,
		Hostname: "worker-1", MachineId: thisMachine, Addresses: []string{"10.77.0.14", "fd00::14"},
	}
	csr := greedy(t)
	for _, use := range uses {
		request.Requests = append(request.Requests, &joinpb.CertificateRequest{Use: use, Csr: csr})
	}
	return request
}

// Whatever the requests say, a certificate says what its use gives.
func TestSubjectsAreFixedByTheUse(t *testing.T) {
	config := newConfig(t)
	s, c := newSigner(t, config)
	response, err := s.Join(t.Context(), stranger, newRequest(t, config))
	must(t, err)
	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	addresses := "10.77.0.14 fd00::14"
	for i, want := range []struct {
		authority            machineconfig.KeyPair
		subject, names, addr string
		usage                x509.ExtKeyUsage
	}{
		{config.Secrets.OSCA, "CN=apid", "localhost worker-1", "127.0.0.1 ::1 " + addresses, server},
		{config.Secrets.KubernetesCA, "CN=system:node:worker-1,O=system:nodes", "", "", client},
		{config.Secrets.KubernetesCA, "CN=system:node:worker-1,O=system:nodes", "worker-1", addresses, server},
		{config.Secrets.KubernetesCA, "CN=system:kube-proxy", "", "", client},
		{config.Secrets.KubernetesCA, "CN=keelson:flannel", "", "", client},
		{config.Secrets.KubernetesCA, "CN=keelson:coredns", "", "", client},
		{config.Secrets.KubernetesCA, "CN=keelson:local-path-provisioner:worker-1,O=keelson:local-path-provisioner", "", "", client},
	} {
		cert, err := x509.ParseCertificate(response.GetCertificates()[i])
		must(t, err)
		authority, err := pki.ParseCert([]byte(want.authority.Cert))
		must(t, err)
		var addr []string
		for _, address := range cert.IPAddresses {
			addr = append(addr, address.String())
		}
		if err := cert.CheckSignatureFrom(authority); err != nil {
			t.Errorf("%s: %v", uses[i], err)
		}
		if got := cert.Subject.String(); got != want.subject {
			t.Errorf("%s: subject %s, want %s", uses[i], got, want.subject)
		}
		if got := strings.Join(cert.DNSNames, " "); got != want.names || strings.Join(addr, " ") != want.addr {
			t.Errorf("%s: names %q, addresses %q", uses[i], got, addr)
		}
		if !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{want.usage}) || cert.IsCA {
			t.Errorf("%s: uses %v", uses[i], cert.ExtKeyUsage)
		}
		if left := time.Until(cert.NotAfter); left > TTL || left < TTL-time.Hour {
			t.Errorf("%s: lives %s", uses[i], left)
		}
	}
	if told := c.told(); !strings.HasPrefix(told, "worker-1 joined from 10.77.0.14; its certificates end at ") {
		t.Errorf("events: %s", told)
	}
}

func TestSignerRefuses(t *testing.T) {
	config := newConfig(t)
	csr := greedy(t)
	many := make([]string, maxAddresses+1)
	for i := range many {
		many[i] = fmt.Sprintf("10.77.1.%d", i)
	}
	forged := bytes.Clone(csr)
	forged[len(forged)-1] ^= 1
	type request = joinpb.JoinRequest
	for name, test := range map[string]struct {
		change  func(*request)
		cluster func(*cluster)
		code    codes.Code
		says    string
	}{
		"nothing":                         {func(r *request) { proto.Reset(r) }, nil, codes.FailedPrecondition, "another cluster"},
		"another cluster's config":        {func(r *request) { r.ClusterId = "x" }, nil, codes.FailedPrecondition, "a config of another cluster"},
		"another cluster's, wrong token":  {func(r *request) { r.ClusterId, r.Token = "x", "y" }, nil, codes.FailedPrecondition, "a config of another cluster"},
		"wrong token":                     {func(r *request) { r.Token += "x" }, nil, codes.Unauthenticated, "wrong token"},
		"no token":                        {func(r *request) { r.Token = "" }, nil, codes.Unauthenticated, "wrong token"},
		"wrong token, and nothing right":  {func(r *request) { *r = request{ClusterId: r.ClusterId, Token: "x"} }, nil, codes.Unauthenticated, "wrong token"},
		"wrong token, Kubernetes is away": {func(r *request) { r.Token = "x" }, func(c *cluster) { c.err = errors.New("down") }, codes.Unauthenticated, "wrong token"},

		"no name":                     {func(r *request) { r.Hostname = "" }, nil, codes.InvalidArgument, "DNS label"},
		"a domain":                    {func(r *request) { r.Hostname = "a.b" }, nil, codes.InvalidArgument, "DNS label"},
		"capitals":                    {func(r *request) { r.Hostname = "Worker" }, nil, codes.InvalidArgument, "DNS label"},
		"a long name":                 {func(r *request) { r.Hostname = strings.Repeat("a", 64) }, nil, codes.InvalidArgument, "DNS label"},
		"a line of a log":             {func(r *request) { r.Hostname = "a\nb" }, nil, codes.InvalidArgument, `"a\nb"`},
		"the signer's name":           {func(r *request) { r.Hostname = "cp-1" }, nil, codes.AlreadyExists, "the control plane's"},
		"a control-plane host's name": {func(r *request) { r.Hostname = "cp-two" }, nil, codes.AlreadyExists, "the control plane's"},
		"the API server's name":       {func(r *request) { r.Hostname = "kubernetes" }, nil, codes.AlreadyExists, "the control plane's"},
		"localhost":                   {func(r *request) { r.Hostname = "localhost" }, nil, codes.AlreadyExists, "the control plane's"},
		"the endpoint's name":         {func(r *request) { r.Hostname = "api" }, nil, codes.AlreadyExists, "the control plane's"},
		"a control-plane node's name": {func(r *request) { r.Hostname = "cp-3" }, func(c *cluster) {
			c.nodes = []Node{{Name: "cp-3", ControlPlane: true}}
		}, codes.AlreadyExists, "the control plane's"},
		"no machine ID":      {func(r *request) { r.MachineId = "" }, nil, codes.InvalidArgument, "machine ID"},
		"a strange machine":  {func(r *request) { r.MachineId = "0123" }, nil, codes.InvalidArgument, "machine ID"},
		"no address":         {func(r *request) { r.Addresses = nil }, nil, codes.InvalidArgument, "0 addresses"},
		"too many addresses": {func(r *request) { r.Addresses = many }, nil, codes.InvalidArgument, "17 addresses"},
		"the signer's own":   {func(r *request) { r.Addresses[1] = "10.77.0.12" }, nil, codes.InvalidArgument, "the control plane's"},
		"a control-plane host's": {func(r *request) { r.Addresses[1] = "10.77.0.11" }, nil,
			codes.InvalidArgument, "10.77.0.11 is the control plane's"},
		"the virtual IP":    {func(r *request) { r.Addresses[1] = "10.77.0.100" }, nil, codes.InvalidArgument, "the control plane's"},
		"the API's service": {func(r *request) { r.Addresses[1] = "10.96.0.1" }, nil, codes.InvalidArgument, "own subnet 10.96.0.0/12"},
		"a pod's":           {func(r *request) { r.Addresses[1] = "10.244.3.4" }, nil, codes.InvalidArgument, "own subnet 10.244.0.0/16"},
		"loopback":          {func(r *request) { r.Addresses[1] = "127.0.0.1" }, nil, codes.InvalidArgument, "IP address"},
		"loopback in disguise": {func(r *request) { r.Addresses[1] = "::ffff:127.0.0.1" }, nil,
			codes.InvalidArgument, "IP address"},
		"the node's DNS server": {func(r *request) { r.Addresses[1] = "169.254.20.10" }, nil, codes.InvalidArgument, "IP address"},
		"all hosts":             {func(r *request) { r.Addresses[1] = "255.255.255.255" }, nil, codes.InvalidArgument, "IP address"},
		"a zone":                {func(r *request) { r.Addresses[1] = "fd00::1%eth0" }, nil, codes.InvalidArgument, "IP address"},
		"no address at all":     {func(r *request) { r.Addresses[1] = "worker-1" }, nil, codes.InvalidArgument, "IP address"},
		"another worker's": {nil, func(c *cluster) {
			c.nodes = []Node{{Name: "worker-2", Ready: true, Addresses: []netip.Addr{stranger}}}
		}, codes.AlreadyExists, "that of node worker-2"},
		"an absent control-plane node's": {nil, func(c *cluster) {
			c.nodes = []Node{{Name: "cp-3", ControlPlane: true, Addresses: []netip.Addr{stranger}}}
		}, codes.AlreadyExists, "that of node cp-3"},

		"no requests":          {func(r *request) { r.Requests = nil }, nil, codes.InvalidArgument, "0 certificate requests"},
		"too many requests":    {func(r *request) { r.Requests = append(r.Requests, r.Requests...) }, nil, codes.InvalidArgument, "14 certificate requests"},
		"one use twice":        {func(r *request) { r.Requests[1].Use = r.Requests[0].Use }, nil, codes.InvalidArgument, "requested twice"},
		"no use":               {func(r *request) { r.Requests[1].Use = 0 }, nil, codes.InvalidArgument, "USE_UNSPECIFIED"},
		"a use of later":       {func(r *request) { r.Requests[1].Use = 99 }, nil, codes.InvalidArgument, "use 99"},
		"a large request":      {func(r *request) { r.Requests[1].Csr = make([]byte, maxCSR+1) }, nil, codes.InvalidArgument, "4097 bytes"},
		"no key":               {func(r *request) { r.Requests[1].Csr = nil }, nil, codes.InvalidArgument, "USE_KUBELET_CLIENT: read"},
		"someone else's key":   {func(r *request) { r.Requests[1].Csr = forged }, nil, codes.InvalidArgument, "signature"},
		"Kubernetes is away":   {nil, func(c *cluster) { c.err = errors.New("connection refused") }, codes.Unavailable, "connection refused"},
		"the name of another":  {nil, func(c *cluster) { c.machineID, c.ready = otherMachine, true }, codes.AlreadyExists, otherMachine},
		"of another, and away": {nil, func(c *cluster) { c.machineID = otherMachine }, codes.OK, ""},
		"its own name":         {nil, func(c *cluster) { c.machineID, c.ready = thisMachine, true }, codes.OK, ""},
		"an absent worker's": {nil, func(c *cluster) {
			c.nodes = []Node{{Name: "worker-2", Addresses: []netip.Addr{stranger}}}
		}, codes.OK, ""},
		"its own, as it is known": {nil, func(c *cluster) {
			c.nodes = []Node{{Name: "worker-1", Ready: true, Addresses: []netip.Addr{stranger}}}
		}, codes.OK, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s, c := newSigner(t, config)
			if test.cluster != nil {
				test.cluster(c)
			}
			r := newRequest(t, config)
			if test.change != nil {
				test.change(r)
			}
			response, err := s.Join(t.Context(), stranger, r)
			if status.Code(err) != test.code || !strings.Contains(status.Convert(err).Message(), test.says) {
				t.Errorf("got %v, want %s with %q", err, test.code, test.says)
			}
			if (err == nil) != (len(response.GetCertificates()) == len(uses)) {
				t.Errorf("%d certificates with %v", len(response.GetCertificates()), err)
			}
			for _, text := range []string{c.told(), c.log.String(), fmt.Sprint(err)} {
				if strings.Contains(text, string(config.Secrets.JoinToken)) {
					t.Error("the token is told")
				}
			}
		})
	}
}

func TestRenewalIsToldFromJoining(t *testing.T) {
	config := newConfig(t)
	s, c := newSigner(t, config)
	c.machineID, c.ready = thisMachine, true
	_, err := s.Join(t.Context(), netip.Addr{}, newRequest(t, config))
	must(t, err)
	if told := c.told(); !strings.HasPrefix(told, "worker-1 renewed from an administrator") {
		t.Errorf("events: %s", told)
	}
}

func TestTwoNewMachinesOfOneName(t *testing.T) {
	config := newConfig(t)
	s, _ := newSigner(t, config)
	now := time.Now()
	s.now = func() time.Time { return now }
	join := func(machineID string) error {
		r := newRequest(t, config)
		r.MachineId = machineID
		_, err := s.Join(t.Context(), stranger, r)
		return err
	}
	must(t, join(thisMachine))
	if err := join(otherMachine); status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), thisMachine) {
		t.Errorf("the second: %v", err)
	}
	must(t, join(thisMachine))
	now = now.Add(recentFor + time.Second)
	must(t, join(otherMachine)) // the first never registered
}

func TestTwoNewMachinesInTheNameOfAnAbsentOne(t *testing.T) {
	config := newConfig(t)
	s, c := newSigner(t, config)
	c.set(strings.Repeat("a", 32), false)
	_, err := s.Join(t.Context(), stranger, newRequest(t, config))
	must(t, err)
	second := newRequest(t, config)
	second.MachineId = otherMachine
	if _, err := s.Join(t.Context(), stranger, second); status.Code(err) != codes.AlreadyExists || !strings.Contains(err.Error(), thisMachine) {
		t.Errorf("the second: %v", err)
	}
}

func TestWrongTokensAreBounded(t *testing.T) {
	config := newConfig(t)
	s, c := newSigner(t, config)
	now := time.Now()
	s.now = func() time.Time { return now }
	join := func(remote netip.Addr, token string) codes.Code {
		r := newRequest(t, config)
		r.Token = token
		_, err := s.Join(t.Context(), remote, r)
		return status.Code(err)
	}
	expect := func(remote netip.Addr, token string, want codes.Code) {
		t.Helper()
		if got := join(remote, token); got != want {
			t.Errorf("%s: %s, want %s", remote, got, want)
		}
	}
	right := string(config.Secrets.JoinToken)
	for range wrongOfOne.Burst {
		expect(stranger, "wrong", codes.Unauthenticated)
	}
	expect(stranger, right, codes.ResourceExhausted) // or guessing could go on
	neighbour := stranger.Next()
	expect(neighbour, right, codes.OK)
	now = now.Add(wrongOfOne.Every)
	expect(stranger, right, codes.OK)

	// Many strangers together.
	others := netip.MustParseAddr("10.78.0.0")
	for range wrongOfAll.Burst + 1 {
		others = others.Next()
		join(others, "wrong")
	}
	expect(neighbour, right, codes.ResourceExhausted)
	now = now.Add(wrongOfAll.Every)
	expect(neighbour, right, codes.OK)

	if told := strings.Count(c.told(), "join refused"); told < wrongOfOne.Burst || told > noticeBurst+5 {
		t.Errorf("%d refusals are told", told)
	}
	now = now.Add(time.Minute)
	expect(neighbour, "wrong", codes.Unauthenticated)
	if !strings.Contains(c.log.String(), "remote=10.77.0.14") || !strings.Contains(c.log.String(), "unlogged_before=4") {
		t.Errorf("the log names no address or hides what it left out:\n%s", c.log.String())
	}
}

func TestNewSignerNeedsKeys(t *testing.T) {
	worker := newConfig(t)
	worker.Secrets = worker.Secrets.ForWorker()
	open := newConfig(t)
	open.Secrets.JoinToken = ""
	for says, config := range map[string]*machineconfig.Config{"secrets.osCA": worker, "secrets.joinToken": open} {
		if _, err := NewSigner(SignerOptions{Config: config}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("got %v, want %q", err, says)
		}
	}
}

// Whatever a node with the token sends, it becomes nobody else.
func FuzzJoin(f *testing.F) {
	config := newConfig(f)
	s, _ := newSigner(f, config)
	for _, use := range uses {
		f.Add("worker-1", thisMachine, "10.77.0.14", int32(use), greedy(f))
	}
	f.Fuzz(func(t *testing.T, hostname, machineID, address string, use int32, csr []byte) {
		s.recent = newRecent()
		response, err := s.Join(t.Context(), stranger, &joinpb.JoinRequest{
			Token: string(config.Secrets.JoinToken), ClusterId: config.Secrets.ClusterID,
			Hostname: hostname, MachineId: machineID, Addresses: []string{address},
			Requests: []*joinpb.CertificateRequest{{Use: joinpb.CertificateRequest_Use(use), Csr: csr}},
		})
		if err != nil {
			return
		}
		cert, err := x509.ParseCertificate(response.GetCertificates()[0])
		must(t, err)
		node := "CN=system:node:" + hostname + ",O=system:nodes"
		allowed := []string{"CN=apid", "CN=system:kube-proxy", "CN=keelson:flannel", "CN=keelson:coredns", node,
			"CN=keelson:local-path-provisioner:" + hostname + ",O=keelson:local-path-provisioner"}
		if !slices.Contains(allowed, cert.Subject.String()) || cert.IsCA || !dnsLabel.MatchString(hostname) {
			t.Errorf("signed %s for %q", cert.Subject, hostname)
		}
		for _, ip := range cert.IPAddresses {
			if parsed, _ := netip.AddrFromSlice(ip); !parsed.IsLoopback() && parsed.String() != netip.MustParseAddr(address).String() {
				t.Errorf("signed for %s, asked for %s", ip, address)
			}
		}
	})
}
