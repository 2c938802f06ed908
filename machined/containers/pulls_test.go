package containers

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

const (
	registryUser     = "node"
	registryPassword = `pass "word" \ of a node`
)

// testRegistry is a registry on a loopback port.
type testRegistry struct {
	server *httptest.Server
	host   string // as it is dialled
	// password is what it asks for; "" lets everybody in.
	password string

	mu sync.Mutex
	// asked are the registries that its clients wanted; shown the credentials
	// that it was told.
	asked, shown []string
	// client is the name in the last client certificate.
	client string
}

// startRegistry serves images by "name:tag" until the test ends, with TLS if
// there is a CA.
func startRegistry(t *testing.T, ca *pki.CA, password string, images map[string]v1.Image) *testRegistry {
	t.Helper()
	r := &testRegistry{password: password}
	handler := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	for name, img := range images {
		push(t, handler, name, img)
	}
	r.server = httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		if r.admits(request) {
			handler.ServeHTTP(w, request)
			return
		}
		w.Header().Set("WWW-Authenticate", `Basic realm="test"`)
		http.Error(w, "who are you?", http.StatusUnauthorized)
	}))
	r.server.Config.ErrorLog = log.New(io.Discard, "", 0)
	if ca != nil {
		pair, err := ca.Issue(pki.Request{CommonName: "registry", IPs: []netip.Addr{netip.MustParseAddr("127.0.0.1")}, Server: true, TTL: time.Hour})
		if err != nil {
			t.Fatal(err)
		}
		cert, err := tls.X509KeyPair(pair.Cert, pair.Key)
		if err != nil {
			t.Fatal(err)
		}
		clients := x509.NewCertPool()
		clients.AddCert(ca.Certificate())
		r.server.TLS = &tls.Config{MinVersion: tls.VersionTLS12, Certificates: []tls.Certificate{cert}, ClientAuth: tls.VerifyClientCertIfGiven, ClientCAs: clients}
		r.server.StartTLS()
	} else {
		r.server.Start()
	}
	t.Cleanup(r.server.Close)
	r.host = r.server.Listener.Addr().String()
	return r
}

func (r *testRegistry) admits(request *http.Request) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.asked = append(r.asked, request.URL.Query().Get("ns"))
	if request.TLS != nil && len(request.TLS.PeerCertificates) > 0 {
		r.client = request.TLS.PeerCertificates[0].Subject.CommonName
	}
	user, password, given := request.BasicAuth()
	if given {
		r.shown = append(r.shown, user+":"+password)
	}
	return r.password == "" || user == registryUser && password == r.password
}

// push puts an image into a registry, as its protocol has it.
func push(t *testing.T, to http.Handler, name string, img v1.Image) {
	t.Helper()
	put := func(method, path, kind string, body []byte) {
		t.Helper()
		request := httptest.NewRequest(method, path, bytes.NewReader(body))
		request.Header.Set("Content-Type", kind)
		answer := httptest.NewRecorder()
		to.ServeHTTP(answer, request)
		if answer.Code >= 300 {
			t.Fatalf("%s %s: %d %s", method, path, answer.Code, answer.Body)
		}
	}
	repository, tag, _ := strings.Cut(name, ":")
	blob := func(digest v1.Hash, content []byte) {
		put(http.MethodPost, "/v2/"+repository+"/blobs/uploads/?digest="+digest.String(), "application/octet-stream", content)
	}
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range layers {
		content, err := layer.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		text, err := io.ReadAll(content)
		if err != nil {
			t.Fatal(err)
		}
		digest, err := layer.Digest()
		if err != nil {
			t.Fatal(err)
		}
		blob(digest, text)
	}
	config, err := img.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	digest, err := img.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	blob(digest, config)
	manifest, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	kind, err := img.MediaType()
	if err != nil {
		t.Fatal(err)
	}
	put(http.MethodPut, "/v2/"+repository+"/manifests/"+tag, string(kind), manifest)
}

// pull asks containerd as kubelet does.
func pull(t *testing.T, s *Service, name string, auth *cri.AuthConfig) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	began := time.Now()
	_, err := cri.NewImageServiceClient(s.conn).PullImage(ctx, &cri.PullImageRequest{Image: &cri.ImageSpec{Image: name}, Auth: auth})
	t.Logf("%s: %s: %v", name, time.Since(began).Round(time.Millisecond), err)
	return err
}

func newTestCA(t *testing.T, name string) *pki.CA {
	t.Helper()
	ca, err := pki.NewCA(name, time.Now(), time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	return ca
}

// closedPort is where nobody listens.
func closedPort(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return listener.Addr().String()
}

// lostPort is where what is sent gets lost: its queue of connections is full.
func lostPort(t *testing.T) string {
	t.Helper()
	socket, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(socket) })
	at := &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}
	if err := errors.Join(unix.Bind(socket, at), unix.Listen(socket, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(socket)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprint("127.0.0.1:", name.(*unix.SockaddrInet4).Port)
	for range 8 {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("a full queue still takes connections")
	return ""
}

func mirrored(endpoints ...string) machineconfig.Mirror {
	return machineconfig.Mirror{Endpoints: endpoints, SkipFallback: true}
}

func testPulls(t *testing.T, program string) {
	ca, house, other := newTestCA(t, "registry"), newTestCA(t, "house"), newTestCA(t, "other")
	client, err := ca.Issue(pki.Request{CommonName: "the node", Client: true, TTL: time.Hour})
	if err != nil {
		t.Fatal(err)
	}
	images := map[string]v1.Image{}
	for _, name := range []string{"team/web:1", "team/web:2", "team/web:3", "team/web:4", "team/web:5"} {
		images[name] = testImage(t, name, "amd64", noise(name, 300_000))
	}
	secure := startRegistry(t, ca, registryPassword, images)
	strict := startRegistry(t, ca, "another password", images)
	tokenless := startRegistry(t, ca, registryPassword, images)
	inHouse := startRegistry(t, house, "", images)
	strange := startRegistry(t, other, "", images)
	plain := startRegistry(t, nil, "", images)
	silent, err := net.Listen("tcp", "127.0.0.1:0") // takes connections and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	down, lost := closedPort(t), lostPort(t)
	pem := string(ca.KeyPair().Cert)
	right := machineconfig.RegistryHost{
		Auth: machineconfig.RegistryAuth{Username: registryUser, Password: machineconfig.Secret(registryPassword)},
		TLS: machineconfig.RegistryTLS{CA: string(other.KeyPair().Cert) + pem, ClientIdentity: machineconfig.ClientIdentity{
			Cert: string(client.Cert), Key: machineconfig.Secret(client.Key),
		}},
	}
	basic := machineconfig.Secret(base64.StdEncoding.EncodeToString([]byte(registryUser + ":" + registryPassword)))
	s := startContainerd(t, program, t.TempDir(), func(options *Options) {
		options.Registries = machineconfig.Registries{
			Mirrors: map[string]machineconfig.Mirror{
				secure.host:            {Endpoints: []string{"https://" + down, "http://" + plain.host + "/v2/elsewhere"}, OverridePath: true},
				"registry.example.com": mirrored("https://" + secure.host),
				"strict.example.com":   mirrored("https://" + strict.host),
				"nobody.example.com":   mirrored("https://" + tokenless.host),
				"house.example.com":    mirrored("https://" + inHouse.host),
				"strange.example.com":  mirrored("https://" + strange.host),
				"plain.example.com":    mirrored("http://" + plain.host),
				"down.example.com":     mirrored("https://" + down),
				"silent.example.com":   mirrored("https://"+silent.Addr().String(), "https://"+secure.host),
				"lost.example.com":     mirrored("https://" + lost),
				"docker.io":            mirrored("https://"+down, "https://"+secure.host),
			},
			Config: map[string]machineconfig.RegistryHost{
				secure.host:               right,
				strict.host:               {Auth: machineconfig.RegistryAuth{Auth: basic}, TLS: right.TLS},
				tokenless.host:            {TLS: right.TLS},
				strange.host:              {TLS: machineconfig.RegistryTLS{CA: pem}},
				machineconfig.AnyRegistry: {TLS: machineconfig.RegistryTLS{CA: string(house.KeyPair().Cert)}},
			},
		}
	})
	for _, name := range []string{
		"registry.example.com/team/web:1", // by a mirror, with credentials and a CA
		secure.host + "/team/web:2",       // whose mirrors are down, or have it not
		"house.example.com/team/web:3",    // the CA of all
		"plain.example.com/team/web:4",    // without TLS
		"team/web:5",                      // Docker Hub by another mirror
		"registry.example.com/team/web@" + digest(t, images["team/web:3"]), // by digest
	} {
		if err := pull(t, s, name, nil); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	// A pod's own imagePullSecrets go first.
	if err := pull(t, s, "nobody.example.com/team/web:1", &cri.AuthConfig{Username: registryUser, Password: registryPassword}); err != nil {
		t.Errorf("with a pod's credentials: %v", err)
	}
	var pulling sync.WaitGroup
	pulling.Go(func() {
		if err := pull(t, s, "silent.example.com/team/web:1", nil); err != nil {
			t.Errorf("past a mirror that says nothing: %v", err)
		}
	})
	for name, want := range map[string]string{
		"strict.example.com/team/web:1":      "401 Unauthorized",
		"nobody.example.com/team/web:2":      "no basic auth credentials",
		"strange.example.com/team/web:1":     "certificate signed by unknown authority",
		"registry.example.com/team/none:1":   "not found",
		"registry.example.com/team/web:none": "not found",
		"down.example.com/team/web:1":        "connection refused",
		"lost.example.com/team/web:1":        "i/o timeout",
	} {
		pulling.Go(func() {
			began := time.Now()
			err := pull(t, s, name, nil)
			if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), name) {
				t.Errorf("%s: %v, want %q", name, err, want)
			}
			if strings.Contains(fmt.Sprint(err), "pass") {
				t.Errorf("%s: the error holds the password: %v", name, err)
			}
			if took := time.Since(began); took > 25*time.Second {
				t.Errorf("%s: it took %s", name, took)
			}
		})
	}
	pulling.Wait()
	for _, r := range []*testRegistry{plain, inHouse, strange} {
		if len(r.shown) > 0 {
			t.Errorf("%s was shown credentials that are another's: %q", r.host, r.shown)
		}
	}
	if secure.client != "the node" || inHouse.client != "" {
		t.Errorf("client certificates: %q at its registry, %q elsewhere", secure.client, inHouse.client)
	}
	text := logged(t, s)
	for _, secret := range []string{registryPassword, `pass \"word\"`, `pass \\\"word`, string(basic), "PRIVATE KEY"} {
		if strings.Contains(text, secret) {
			t.Errorf("containerd's log holds %q", secret)
		}
	}
	if !strings.Contains(text, "team/web") {
		t.Error("containerd's log holds nothing of the pulls")
	}
}

func digest(t *testing.T, img v1.Image) string {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest.String()
}

// An air-gapped node learns soon that nobody serves an image.
func testPullsWithoutNetwork(t *testing.T, program string) {
	s := startContainerdIn(t, program, t.TempDir(), syscall.CLONE_NEWNET, nil)
	for _, name := range []string{"nginx:1", "registry.example.com/team/web:1", "10.20.30.40:5000/team/web:1"} {
		began := time.Now()
		err := pull(t, s, name, nil)
		if err == nil || !strings.Contains(err.Error(), "failed to resolve") {
			t.Errorf("%s: %v", name, err)
		}
		if took := time.Since(began); took > 30*time.Second {
			t.Errorf("%s: it took %s: %s", name, took, status.Convert(err).Message())
		}
	}
}
