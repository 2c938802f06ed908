package workloads

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
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

	workloadpb "github.com/keelson-os/keelson/pkg/api/workload"
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

// A client that names somebody else to act as must not become them. The gateway
// of osctl is left out: it drops some of it already.
func TestKubernetesDropsTheClientsCredentials(t *testing.T) {
	for name, value := range map[string]string{
		"Impersonate-User": "system:masters", "impersonate-user": "system:masters", "IMPERSONATE-GROUP": "system:masters",
		"Impersonate-Uid": "system:masters", "Impersonate-Extra-Scopes": "system:masters",
		"X-Remote-User": "system:masters", "X-Remote-Group": "system:masters", "Authorization": "Bearer system:masters",
		"Sec-WebSocket-Protocol": "v5.channel.k8s.io, base64url.bearer.authorization.k8s.io.system:masters",
	} {
		t.Run(name, func(t *testing.T) {
			f := withPods()
			var got http.Header
			f.exec = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = r.Header.Clone() })
			conn, err := (&client.Client{Workload: f.serve(t)}).DialKubernetes(testContext(t))
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			fmt.Fprintf(conn, "POST /api/v1/namespaces/default/pods/web/exec HTTP/1.1\r\nHost: kubernetes\r\nContent-Length: 0\r\n%s: %s\r\n\r\n", name, value)
			response, err := http.ReadResponse(bufio.NewReader(conn), nil)
			if err != nil {
				t.Fatal(err)
			}
			response.Body.Close()
			if user := got.Values("Impersonate-User"); !slices.Equal(user, []string{"ada"}) {
				t.Errorf("acted as %q", user)
			}
			for header, values := range got {
				if strings.Contains(strings.Join(values, ","), "system:masters") {
					t.Errorf("%s: %q reached Kubernetes", header, values)
				}
			}
		})
	}
}

func TestKubernetesCarriesStreams(t *testing.T) {
	f := withContainers()
	f.exec = throughWebSocket(t)
	config := tunnelled(t, f)
	run, err := remotecommand.NewWebSocketExecutor(config, http.MethodGet,
		config.Host+"/api/v1/namespaces/default/pods/web/exec?command=cat&container=a&stdin=true&stdout=true")
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
}

// What happens is seen when it happens, not when a buffer is full or the watch
// ends: this one stays open.
func TestKubernetesStreamsWatches(t *testing.T) {
	f := withPods()
	release := make(chan struct{})
	defer close(release)
	f.exec = http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintln(w, "ADDED")
		w.(http.Flusher).Flush()
		<-release
	})
	config := tunnelled(t, f)
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		t.Fatal(err)
	}
	client.Timeout = testDeadline
	response, err := client.Get(config.Host + "/api/v1/namespaces/default/pods/web/exec")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	if line, err := bufio.NewReader(response.Body).ReadString('\n'); err != nil || line != "ADDED\n" {
		t.Errorf("the open watch brought %q, %v", line, err)
	}
}

// What a client writes just before it closes arrives: gRPC drops what it has
// queued when a call is cut.
func TestWhatWasWrittenBeforeTheEndArrives(t *testing.T) {
	for range 10 {
		f := withPods()
		arrived := make(chan int64, 1)
		f.exec = http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			arrived <- n
		})
		conn, err := (&client.Client{Workload: f.serve(t)}).DialKubernetes(testContext(t))
		if err != nil {
			t.Fatal(err)
		}
		const size = 300 << 10
		fmt.Fprintf(conn, "POST /api/v1/namespaces/default/pods/web/exec HTTP/1.1\r\nHost: kubernetes\r\nContent-Length: %d\r\n\r\n", size)
		if _, err := conn.Write(make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		conn.Close()
		select {
		case n := <-arrived:
			if n != size {
				t.Fatalf("%d of %d bytes arrived", n, size)
			}
		case <-testContext(t).Done():
			t.Fatal("the request did not arrive")
		}
	}
}

func TestKubernetesRefusesLargeMessages(t *testing.T) {
	stream, err := withPods().serve(t).Kubernetes(testContext(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&workloadpb.KubernetesRequest{Data: make([]byte, tunnelMaxChunk+1)}); err != nil {
		t.Fatal(err)
	}
	if response, err := stream.Recv(); err == nil {
		t.Errorf("it answers %q", response.GetData())
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
