package workloads

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/remotecommand"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/kubetunnel"
)

// tunnelled starts a gateway in front of the service, as osctl does.
func tunnelled(t *testing.T, f *fakeAPI) *rest.Config {
	t.Helper()
	node := &client.Client{Workload: f.serve(t)}
	gateway, err := kubetunnel.Listen(func(ctx context.Context) (net.Conn, error) { return node.DialKubernetes(ctx) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { gateway.Close() })
	return gateway.Config()
}

func ask(t *testing.T, config *rest.Config, method, path string, header http.Header) (int, string) {
	t.Helper()
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	request, err := http.NewRequestWithContext(testContext(t), method, config.Host+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	for name, values := range header {
		request.Header[name] = values
	}
	response, err := client.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, string(body)
}

func TestKubernetesIsAskedAsTheCaller(t *testing.T) {
	f := withPods()
	config := tunnelled(t, f)
	for range 3 { // on one connection
		if code, body := ask(t, config, http.MethodGet, "/api/v1/namespaces/default/pods/web", nil); code != http.StatusOK || !strings.Contains(body, `"web"`) {
			t.Fatalf("GET pod: %d %s", code, body)
		}
	}
	if code, _ := ask(t, config, http.MethodDelete, "/api/v1/namespaces/default/pods/web", nil); code != http.StatusOK {
		t.Fatalf("DELETE pod: %d", code)
	}
	if f.count("DELETE /api/v1/namespaces/default/pods/web") != 1 {
		t.Error("the deletion did not arrive")
	}
	if want := "ada:keelson:operator"; len(f.as) != 4 || slices.ContainsFunc(f.as, func(as string) bool { return as != want }) {
		t.Errorf("asked as %q, want 4 times %q", f.as, want)
	}
}

// A client that names somebody else to act as must not become them.
func TestKubernetesDropsTheClientsCredentials(t *testing.T) {
	for _, name := range []string{"Impersonate-User", "impersonate-user", "IMPERSONATE-GROUP", "Impersonate-Uid", "Impersonate-Extra-Scopes", "X-Remote-User", "X-Remote-Group"} {
		t.Run(name, func(t *testing.T) {
			f := withPods()
			var got http.Header
			f.exec = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
			// The path is served by the handler above; what it answers does not matter.
			header := http.Header{name: {"system:masters"}}
			ask(t, tunnelled(t, f), http.MethodPost, "/api/v1/namespaces/default/pods/web/exec", header)
			if user := got.Values("Impersonate-User"); !slices.Equal(user, []string{"ada"}) {
				t.Errorf("acted as %q", user)
			}
			for header, values := range got {
				if slices.Contains(values, "system:masters") {
					t.Errorf("%s: %q reached Kubernetes", header, values)
				}
			}
			if got.Get("Authorization") != "" {
				t.Error("the gateway's token reached Kubernetes")
			}
		})
	}
}

func TestKubernetesCarriesStreams(t *testing.T) {
	for name, executor := range map[string]func(*rest.Config, string) (remotecommand.Executor, error){
		"WebSocket": func(config *rest.Config, url string) (remotecommand.Executor, error) {
			return remotecommand.NewWebSocketExecutor(config, http.MethodGet, url)
		},
	} {
		t.Run(name, func(t *testing.T) {
			f := withContainers()
			f.exec = throughWebSocket(t)
			config := tunnelled(t, f)
			run, err := executor(config, config.Host+"/api/v1/namespaces/default/pods/web/exec?command=cat&container=a&stdin=true&stdout=true")
			if err != nil {
				t.Fatal(err)
			}
			sent := bytes.Repeat([]byte("0123456789abcdef"), 64<<10) // 1 MiB
			var received bytes.Buffer
			if err := run.StreamWithContext(testContext(t), remotecommand.StreamOptions{Stdin: bytes.NewReader(sent), Stdout: &received}); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(received.Bytes(), sent) {
				t.Errorf("%d bytes came back of %d, or others", received.Len(), len(sent))
			}
		})
	}
}

func TestKubernetesStreamsWatches(t *testing.T) {
	f := withPods()
	config := tunnelled(t, f)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	f.watches = []string{`{"type":"ADDED","object":{}}` + "\n"}
	response, err := client.Get(config.Host + "/api/v1/pods?watch=true")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil || !strings.Contains(string(body), "ADDED") {
		t.Errorf("the watch brought %q, %v", body, err)
	}
}

func TestKubernetesSaysThatItDoesNotAnswer(t *testing.T) {
	t.Run("no kubeconfig yet", func(t *testing.T) {
		service := New(Options{Kubeconfig: filepath.Join(t.TempDir(), "none"), Caller: ada, Log: slog.New(slog.DiscardHandler)})
		_, err := (&client.Client{Workload: dial(t, service)}).DialKubernetes(testContext(t))
		if status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "osctl bootstrap") {
			t.Errorf("%v", err)
		}
	})
	t.Run("nobody may", func(t *testing.T) {
		refused := func(context.Context) (rest.ImpersonationConfig, error) {
			return rest.ImpersonationConfig{}, status.Error(codes.PermissionDenied, "no role")
		}
		service := New(Options{Kubeconfig: newFakeAPI().kubeconfig(t), Caller: refused, Log: slog.New(slog.DiscardHandler)})
		_, err := (&client.Client{Workload: dial(t, service)}).DialKubernetes(testContext(t))
		if status.Code(err) != codes.PermissionDenied {
			t.Errorf("%v", err)
		}
	})
	t.Run("API server gone", func(t *testing.T) {
		service := New(Options{Kubeconfig: deadKubeconfig(t), Caller: ada, Log: slog.New(slog.DiscardHandler)})
		node := &client.Client{Workload: dial(t, service)}
		gateway, err := kubetunnel.Listen(func(ctx context.Context) (net.Conn, error) { return node.DialKubernetes(ctx) })
		if err != nil {
			t.Fatal(err)
		}
		defer gateway.Close()
		code, body := ask(t, gateway.Config(), http.MethodGet, "/api/v1/pods", nil)
		if code != http.StatusServiceUnavailable || !strings.Contains(body, "Kubernetes does not answer") || !strings.Contains(body, `"kind":"Status"`) {
			t.Errorf("%d %s", code, body)
		}
	})
}

// deadKubeconfig names an API server that has stopped.
func deadKubeconfig(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	return kubeconfigFor(t, "http://"+listener.Addr().String())
}

// Another user of the host reaches the gateway's port, and nothing behind it.
func TestGatewayIsForItsProcessAlone(t *testing.T) {
	f := withPods()
	config := tunnelled(t, f)
	for _, token := range []string{"", "Bearer ", "Bearer x", "Basic eDp5"} {
		request, err := http.NewRequest(http.MethodGet, config.Host+"/api/v1/pods", nil)
		if err != nil {
			t.Fatal(err)
		}
		if token != "" {
			request.Header.Set("Authorization", token)
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		response.Body.Close()
		if response.StatusCode != http.StatusUnauthorized {
			t.Errorf("%q: %s", token, response.Status)
		}
	}
	if n := f.count(""); n != 0 {
		t.Errorf("%d requests reached Kubernetes", n)
	}
}
