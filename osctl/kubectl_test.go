package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/spf13/cobra"
	cmdutil "k8s.io/kubectl/pkg/cmd/util"

	"github.com/keelson-os/keelson/pkg/api/workload"
	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/identity"
)

// kubectlCommand runs call as one of kubectl's commands.
func kubectlCommand(t *testing.T, harness *harness, ctx context.Context, call func()) error {
	t.Helper()
	command := &cobra.Command{Use: "test"}
	command.SetContext(ctx)
	return (&kubernetes{app: harness.app}).run(command, call)
}

func TestKubectlsEndsAreExitCodes(t *testing.T) {
	inGoroutine := func(call func()) func() {
		return func() {
			go call()
			select {} // as cp does, whose own end nobody sees then
		}
	}
	for name, test := range map[string]struct {
		call func()
		want error
		says string
	}{
		"success":                {func() {}, nil, ""},
		"an error":               {func() { cmdutil.CheckErr(errors.New("no such thing")) }, programExit(exitError), "error: no such thing"},
		"an error of another":    {inGoroutine(func() { cmdutil.CheckErr(errors.New("no tar")) }), programExit(exitError), "error: no tar"},
		"called wrongly":         {func() { cmdutil.CheckErr(cmdutil.UsageErrorf(&cobra.Command{Use: "x"}, "which?")) }, programExit(exitUsage), "which?"},
		"words of the cluster's": {func() { cmdutil.CheckErr(errors.New(`deployments "kubectl" not found, See 'x'`)) }, programExit(exitError), `"kubectl" not found`},
		"a difference":           {func() { cmdutil.CheckErr(cmdutil.ErrExit) }, programExit(1), ""},
		"diff that fails":        {func() { cmdutil.CheckDiffErr(errors.New("no diff")) }, programExit(2), "no diff"},
	} {
		t.Run(name, func(t *testing.T) {
			harness := newHarness(t, nil)
			harness.err.Reset()
			if err := kubectlCommand(t, harness, t.Context(), test.call); !errors.Is(err, test.want) {
				t.Errorf("ended with %v, want %v", err, test.want)
			}
			if got := harness.err.String(); !strings.Contains(got, test.says) || test.says == "" && got != "" {
				t.Errorf("it says %q, want %q", got, test.says)
			}
		})
	}
}

func TestKubectlIsInterruptedWhileItConnects(t *testing.T) {
	harness := newHarness(t, nil)
	dialling := make(chan struct{})
	harness.dial = func(ctx context.Context, _ client.Options) (*client.Client, error) {
		close(dialling)
		<-ctx.Done()
		return nil, ctx.Err()
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-dialling; cancel() }()
	began := time.Now()
	if code := harness.execute(ctx, []string{"describe", "pod", "x"}); code != exitInterrupted {
		t.Errorf("exit code %d: %s", code, harness.err)
	}
	if took := time.Since(began); took > dialTimeout/2 {
		t.Errorf("it took %s", took)
	}
}

// The node's own words reach the user, whatever kubectl makes of them.
func TestKubectlTellsWhyTheNodeRefuses(t *testing.T) {
	for _, args := range [][]string{{"describe", "pod", "x"}, {"scale", "deployment/x", "--replicas=1"}, {"top", "nodes"}, {"wait", "pod/x", "--for=delete"}} {
		harness, node := newWorkloadHarness(t)
		node.kubernetes = func(workload.WorkloadService_KubernetesServer) error {
			return status.Error(codes.Unavailable, "Kubernetes is not set up on this node yet: bootstrap the cluster")
		}
		harness.fails(t, exitError, []string{"error: Kubernetes is not set up on this node yet: bootstrap the cluster"}, args...)
	}
	harness, node := newWorkloadHarness(t)
	node.kubernetes = func(workload.WorkloadService_KubernetesServer) error {
		return status.Error(codes.Unavailable, "not yet")
	}
	// 1 would mean that there are differences.
	file := writeFile(t, t.TempDir()+"/map.yaml", "{apiVersion: v1, kind: ConfigMap, metadata: {name: x}}")
	harness.fails(t, 2, []string{"not yet"}, "diff", "-f", file)
}

func TestRunReplicas(t *testing.T) {
	harness, _ := newWorkloadHarness(t)
	code := harness.run(t, "run", "web", "--image=shop/web:1", "--replicas=3", "--port=80", "--labels=app=web,tier=x", "--env=A=b", "--dry-run=client", "-o", "yaml", "--", "serve", "-v")
	if code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	compareGolden(t, "run-replicas.yaml", harness.out.String())
	for _, bad := range [][]string{
		{"--replicas=-1"}, {"--replicas=2", "--rm"}, {"--replicas=2", "--overrides={}"}, {"--replicas=2", "--quiet"},
	} {
		harness.fails(t, exitUsage, nil, append([]string{"run", "web", "--image=x"}, bad...)...)
	}
	harness.fails(t, exitError, []string{"--port=80abc"}, "run", "web", "--image=x", "--replicas=1", "--port=80abc")
}

// kubernetesBehind lets the node's tunnel end at an HTTP server.
func kubernetesBehind(t *testing.T, node *fakeWorkloads, handler http.Handler) {
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	node.kubernetes = func(stream workload.WorkloadService_KubernetesServer) error {
		conn, err := net.Dial("tcp", server.Listener.Addr().String())
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := stream.SendHeader(metadata.Pairs(identity.MetadataConnected, "true")); err != nil {
			return err
		}
		go func() {
			defer conn.Close()
			for request, err := stream.Recv(); err == nil; request, err = stream.Recv() {
				if _, err := conn.Write(request.GetData()); err != nil {
					return
				}
			}
		}()
		buffer := make([]byte, 32<<10)
		for {
			n, err := conn.Read(buffer)
			if n > 0 {
				if err := stream.Send(&workload.KubernetesResponse{Data: buffer[:n]}); err != nil {
					return err
				}
			}
			if err != nil {
				return nil
			}
		}
	}
}

// Commands that open streams of their own ask for the right thing, and tell what
// Kubernetes says to it.
func TestKubectlOpensStreams(t *testing.T) {
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	answers := map[string]string{
		"/version": `{"gitVersion":"v1.2.3"}`,
		"/api":     `{"kind":"APIVersions","versions":["v1"]}`,
		"/apis":    `{"kind":"APIGroupList","apiVersion":"v1","groups":[]}`,
		"/api/v1":  `{"kind":"APIResourceList","groupVersion":"v1","resources":[{"name":"pods","singularName":"pod","namespaced":true,"kind":"Pod","verbs":["get"]}]}`,
		"/api/v1/namespaces/default/pods/web": `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","namespace":"default"},
			"spec":{"securityContext":{},"containers":[{"name":"app"}]},"status":{"phase":"Running"}}`,
	}
	answers["/api/v1/namespaces/default/pods"] = `{"kind":"PodList","apiVersion":"v1","items":[` + answers["/api/v1/namespaces/default/pods/web"] + `]}`
	harness, node := newWorkloadHarness(t)
	kubernetesBehind(t, node, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		if answer, ok := answers[r.URL.Path]; ok {
			_, _ = io.WriteString(w, answer)
			return
		}
		w.WriteHeader(http.StatusForbidden)
		fmt.Fprintf(w, `{"kind":"Status","apiVersion":"v1","status":"Failure","reason":"Forbidden","code":403,"message":"%s is not for rita"}`, r.URL.Path)
	}))
	if code := harness.run(t, "get", "--raw", "/version"); code != exitOK || harness.out.String() != answers["/version"] {
		t.Errorf("get --raw: exit code %d: %s%s", code, harness.out, harness.err)
	}
	for _, args := range [][]string{{"describe", "pod", "w"}, {"get", "pods", ""}, {"delete", "pod", "we"}, {"exec", "w"}, {"logs", "-n", "default", "w"}} {
		if code := harness.run(t, append([]string{"__complete"}, args...)...); code != exitOK || !strings.HasPrefix(harness.out.String(), "web\n") {
			t.Errorf("%v is completed to %q (exit code %d: %s)", args, harness.out, code, harness.err)
		}
	}
	file := writeFile(t, t.TempDir()+"/word", "word")
	for _, args := range [][]string{{"attach", "web"}, {"cp", file, "web:/tmp/word"}, {"debug", "web", "--image=x", "--target=app"}} {
		harness.fails(t, exitError, []string{"is not for rita"}, args...)
	}
}
