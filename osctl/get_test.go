package main

import (
	"encoding/json"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

// podTable is a Table as the API server makes it, with one row per name.
func podTable(names ...string) []byte {
	type object = map[string]any
	rows := []object{}
	for _, name := range names {
		rows = append(rows, object{
			"cells": []any{name, "1/1", "Running", 1000000, "5m", "10.244.0.7"},
			"object": object{
				"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1",
				"metadata": object{"name": name, "namespace": "shop"},
			},
		})
	}
	text, err := json.Marshal(object{
		"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": object{}, "rows": rows,
		"columnDefinitions": []object{
			{"name": "Name", "type": "string", "format": "name"}, {"name": "Ready", "type": "string"}, {"name": "Status", "type": "string"},
			{"name": "Restarts", "type": "integer"}, {"name": "Age", "type": "string"}, {"name": "IP", "type": "string", "priority": 1},
		},
	})
	if err != nil {
		panic(err)
	}
	return text
}

const podObject = `{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web","namespace":"shop",
	"managedFields":[{"manager":"osctl"}]},"status":{"phase":"Running"}}`

const podList = `{"kind":"List","apiVersion":"v1","metadata":{},"items":[
	{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web"}},
	{"kind":"Deployment","apiVersion":"apps/v1","metadata":{"name":"web"}}]}`

func TestGetPrintsWhatTheServerSent(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	node.get = func(request *workload.GetRequest) (*workload.GetResponse, error) {
		if request.GetOutput() == workload.Output_OUTPUT_TABLE {
			return &workload.GetResponse{Json: podTable("web-0", "web-with-a-long-name"), Kind: "pod"}, nil
		}
		if len(request.GetSelection().GetNames()) == 1 {
			return &workload.GetResponse{Json: []byte(podObject)}, nil
		}
		return &workload.GetResponse{Json: []byte(podList)}, nil
	}
	harness.golden(t, "get.txt", "get", "pods")
	harness.golden(t, "get-all.txt", "get", "pods", "-A")
	harness.golden(t, "get-show-kind.txt", "get", "pods", "--show-kind")
	harness.golden(t, "get-wide.txt", "get", "pods", "-o", "wide")
	harness.golden(t, "get-no-headers.txt", "get", "pods", "--no-headers")
	harness.golden(t, "get.json", "get", "pod", "web", "-o", "json")
	harness.golden(t, "get.yaml", "get", "pod/web", "-o", "yaml")
	harness.golden(t, "get-managed.yaml", "get", "pod/web", "-o", "yaml", "--show-managed-fields")
	harness.golden(t, "get.name", "get", "pods", "-o", "name")
	harness.golden(t, "get.jsonpath", "get", "pod", "web", "-o", "jsonpath={.status.phase}")
	harness.golden(t, "get-missing.jsonpath", "get", "pod", "web", "-o", "jsonpath=.status.nothing")
	harness.fails(t, exitUsage, []string{"jsonpath"}, "get", "pod", "web", "-o", "jsonpath={.status")
}

func TestGetAsksForTheSelection(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	var asked []*workload.Selection
	node.get = func(request *workload.GetRequest) (*workload.GetResponse, error) {
		asked = append(asked, request.GetSelection())
		kind := map[string]string{"pods": "pod", "services": "service"}[request.GetSelection().GetResource()]
		return &workload.GetResponse{Json: podTable("web-0"), Kind: kind}, nil
	}
	for args, want := range map[string][]*workload.Selection{
		"pods":            {{Resource: "pods"}},
		"po web-0 web-1":  {{Resource: "po", Names: []string{"web-0", "web-1"}}},
		"pod/a service/b": {{Resource: "pod", Names: []string{"a"}}, {Resource: "service", Names: []string{"b"}}},
		"pods,services -n shop -l app=web --field-selector status.phase=Running": {
			{Resource: "pods", Namespace: "shop", LabelSelector: "app=web", FieldSelector: "status.phase=Running"},
			{Resource: "services", Namespace: "shop", LabelSelector: "app=web", FieldSelector: "status.phase=Running"}},
		"pods -A": {{Resource: "pods", AllNamespaces: true}},
	} {
		asked = nil
		if code := harness.run(t, append([]string{"get"}, strings.Fields(args)...)...); code != exitOK {
			t.Errorf("%s: exit code %d: %s", args, code, harness.err)
		}
		if len(asked) != len(want) {
			t.Errorf("%s: asked for %v", args, asked)
			continue
		}
		for i := range want {
			if !proto.Equal(asked[i], want[i]) {
				t.Errorf("%s: asked for %v, want %v", args, asked[i], want[i])
			}
		}
	}
	harness.golden(t, "get-two.txt", "get", "pods,services")
}

func TestGetPrintsOneDocumentForSeveralResources(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	node.get = func(request *workload.GetRequest) (*workload.GetResponse, error) {
		if len(request.GetSelection().GetNames()) == 1 {
			return &workload.GetResponse{Json: []byte(podObject)}, nil
		}
		return &workload.GetResponse{Json: []byte(podList)}, nil
	}
	for args, want := range map[string]int{"pods,deployments": 4, "pod/a pod/b": 2} {
		if code := harness.run(t, append([]string{"get", "-o", "json"}, strings.Fields(args)...)...); code != exitOK {
			t.Fatalf("%s: exit code %d: %s", args, code, harness.err)
		}
		var list struct {
			Kind  string
			Items []any
		}
		if err := json.Unmarshal(harness.out.Bytes(), &list); err != nil || list.Kind != "List" || len(list.Items) != want {
			t.Errorf("%s: %v in\n%s", args, err, harness.out)
		}
		if strings.Contains(harness.out.String(), "managedFields") {
			t.Errorf("%s: shows managedFields", args)
		}
	}
}

func TestGetJoinsThePagesOfAList(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	pages := map[string]struct {
		table, list []byte
		next        string
	}{
		"":    {podTable("web-2"), []byte(`{"kind":"List","apiVersion":"v1","items":[{"kind":"Pod","apiVersion":"v1","metadata":{"name":"web-2"}}]}`), "two"},
		"two": {podTable("web-10-long-name"), []byte(podList), ""},
	}
	var limits []uint32
	node.get = func(request *workload.GetRequest) (*workload.GetResponse, error) {
		limits = append(limits, request.GetLimit())
		page := pages[request.GetContinue()]
		if request.GetOutput() == workload.Output_OUTPUT_TABLE {
			return &workload.GetResponse{Json: page.table, Continue: page.next}, nil
		}
		return &workload.GetResponse{Json: page.list, Continue: page.next}, nil
	}
	harness.golden(t, "get-pages.txt", "get", "pods", "--sort-by=.metadata.name")
	harness.golden(t, "get-pages.name", "get", "pods", "-o", "name", "--chunk-size=7")
	harness.golden(t, "get-pages.json", "get", "pods", "-o", "json", "--chunk-size=0")
	if want := []uint32{500, 500, 7, 7, 0, 0}; !slices.Equal(limits, want) {
		t.Errorf("limits %v, want %v", limits, want)
	}
}

// Most tables need nothing of the objects themselves, which are ten times as large.
func TestGetAsksForNoMoreThanIsShown(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	columnsOnly := false
	node.get = func(request *workload.GetRequest) (*workload.GetResponse, error) {
		columnsOnly = request.GetColumnsOnly()
		if request.GetOutput() == workload.Output_OUTPUT_TABLE {
			return &workload.GetResponse{Json: podTable("web-0"), Kind: "pod"}, nil
		}
		return &workload.GetResponse{Json: []byte(podList)}, nil
	}
	for args, want := range map[string]bool{
		"": true, "-o wide": true, "--show-kind": true, "-A": false, "-L app": false, "--show-labels": false,
		"--sort-by .metadata.name": false, "-o json": false, "-o name": false,
	} {
		if code := harness.run(t, append([]string{"get", "pods"}, strings.Fields(args)...)...); code != exitOK || columnsOnly != want {
			t.Errorf("%s: exit code %d, columns only %t", args, code, columnsOnly)
		}
	}
}

// The server forgets what a list looked like after some minutes.
func TestGetBeginsAListAnewThatWasForgotten(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	node.get = func(request *workload.GetRequest) (*workload.GetResponse, error) {
		switch {
		case request.GetContinue() != "":
			return nil, status.Error(codes.Aborted, "the provided continue parameter is too old")
		case request.GetLimit() > 0:
			return &workload.GetResponse{Json: podTable("web-0"), Continue: "two"}, nil
		}
		return &workload.GetResponse{Json: podTable("web-0", "web-1")}, nil
	}
	if code := harness.run(t, "get", "pods", "--no-headers"); code != exitOK || strings.Count(harness.out.String(), "\n") != 2 {
		t.Errorf("exit code %d, %q, %s", code, harness.out, harness.err)
	}
}

func TestGetSaysThatThereIsNothing(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	node.get = func(*workload.GetRequest) (*workload.GetResponse, error) {
		return &workload.GetResponse{Json: podTable()}, nil
	}
	harness.fails(t, exitOK, []string{"No resources found in shop namespace.\n"}, "get", "pods", "-n", "shop")
	if harness.out.Len() != 0 {
		t.Errorf("printed %q", harness.out)
	}
	harness.fails(t, exitOK, []string{"No resources found in default namespace.\n"}, "get", "pods")
	harness.fails(t, exitOK, []string{"No resources found\n"}, "get", "pods", "-A")
	node.get = func(*workload.GetRequest) (*workload.GetResponse, error) {
		return nil, status.Error(codes.NotFound, `the cluster has no resource "podz"; did you mean pods?`)
	}
	harness.fails(t, exitError, []string{`error: the cluster has no resource "podz"; did you mean pods?`}, "get", "podz")
}

func TestGetShowsWhatThereIsAndFailsWithTheRest(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	node.get = func(request *workload.GetRequest) (*workload.GetResponse, error) {
		names := request.GetSelection().GetNames()
		switch {
		case len(names) == 2:
			return &workload.GetResponse{Json: podTable(names[0]), NotFound: []string{`pods "` + names[1] + `" not found`}}, nil
		case request.GetIgnoreNotFound():
			return &workload.GetResponse{}, nil
		case names[0] == "gone":
			return nil, status.Error(codes.NotFound, `pods "gone" not found`)
		}
		return &workload.GetResponse{Json: podTable(names[0]), Kind: "service"}, nil
	}
	for args, want := range map[string]string{"pod a gone": "a ", "pod/gone svc/b": "service/b "} {
		harness.fails(t, exitError, []string{"error: pods \"gone\" not found\n"}, append([]string{"get", "--no-headers"}, strings.Fields(args)...)...)
		if got := harness.out.String(); !strings.HasPrefix(got, want) || strings.Count(got, "\n") != 1 {
			t.Errorf("%s: printed %q", args, got)
		}
	}
	for _, format := range []string{asTable, asYAML, asName} {
		if code := harness.run(t, "get", "pod", "gone", "--ignore-not-found", "-o", format); code != exitOK || harness.out.Len()+harness.err.Len() > 0 {
			t.Errorf("ignored, as %s: exit code %d, %q, %q", format, code, harness.out, harness.err)
		}
	}
	harness.fails(t, exitUsage, []string{"--ignore-not-found"}, "get", "pod", "gone", "-w", "--ignore-not-found")
}

func TestGetWatchPrintsTheHeaderOnce(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	// As the API server does, only the first Table has its columns.
	var second map[string]any
	if err := json.Unmarshal(podTable("web-1"), &second); err != nil {
		t.Fatal(err)
	}
	delete(second, "columnDefinitions")
	text, err := json.Marshal(second)
	if err != nil {
		t.Fatal(err)
	}
	node.watch = []*workload.WatchResponse{{Type: "ADDED", Json: podTable("web-0")}, {Type: "MODIFIED", Json: text}}
	harness.golden(t, "watch.txt", "get", "pods", "-w")
	node.watch[0].Kind, node.watch[1].Kind = "pod", "pod"
	if code := harness.run(t, "get", "pods", "-w", "--show-kind", "--no-headers"); code != exitOK || !strings.HasPrefix(harness.out.String(), "pod/web-0 ") || !strings.Contains(harness.out.String(), "\npod/web-1 ") {
		t.Errorf("exit code %d, %q", code, harness.out)
	}
	if node.watched.GetSelection().GetResource() != "pods" {
		t.Errorf("watched %v", node.watched)
	}
	if code := harness.run(t, "get", "pods", "--watch-only"); code != exitOK || !node.watched.GetOnlyChanges() {
		t.Errorf("exit code %d, watched %v", code, node.watched)
	}
	harness.fails(t, exitUsage, []string{"one resource at a time"}, "get", "pods,services", "-w")
}

func TestGetReadsWhatManifestsName(t *testing.T) {
	harness, node := newWorkloadHarness(t)
	var asked []*workload.Selection
	node.get = func(request *workload.GetRequest) (*workload.GetResponse, error) {
		asked = append(asked, request.GetSelection())
		return &workload.GetResponse{Json: []byte(podObject)}, nil
	}
	file := writeFile(t, filepath.Join(t.TempDir(), "all.yaml"), `{apiVersion: v1, kind: ConfigMap, metadata: {name: one}}
---
{apiVersion: v1, kind: List, items: [{apiVersion: v1, kind: ConfigMap, metadata: {name: two}}, {apiVersion: apps/v1, kind: Deployment, metadata: {name: web, namespace: mine}}]}
`)
	if code := harness.run(t, "get", "-f", file, "-n", "mine", "-o", "name"); code != exitOK {
		t.Fatalf("exit code %d: %s", code, harness.err)
	}
	want := []*workload.Selection{
		{Resource: "ConfigMap", Names: []string{"one", "two"}, Namespace: "mine"},
		{Resource: "Deployment.apps", Names: []string{"web"}, Namespace: "mine"},
	}
	if len(asked) != len(want) || !proto.Equal(asked[0], want[0]) || !proto.Equal(asked[1], want[1]) {
		t.Errorf("asked for %v, want %v", asked, want)
	}
	harness.fails(t, exitUsage, []string{"-f names the objects"}, "get", "pods", "-f", file)
	harness.fails(t, exitUsage, []string{`web is "mine" and not "other"`}, "get", "-f", file, "-n", "other")
	harness.fails(t, exitError, []string{"without a name"}, "get", "-f", writeFile(t, filepath.Join(t.TempDir(), "bad.yaml"), "{apiVersion: v1, kind: ConfigMap}"))
	harness.fails(t, exitUsage, []string{"--raw PATH"}, "get", "pods", "--raw", "/version")
}
