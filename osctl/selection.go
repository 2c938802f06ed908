package main

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"k8s.io/cli-runtime/pkg/resource"

	"github.com/keelson-os/keelson/pkg/api/workload"
)

// allResources are those that kubectl's "all" has meant ever since: what runs
// pods, and Services. Their names stand before those of the objects.
var allResources = []string{
	"pod", "replicationcontroller", "service", "daemonset.apps", "deployment.apps", "replicaset.apps", "statefulset.apps",
	"horizontalpodautoscaler.autoscaling", "cronjob.batch", "job.batch",
}

// selectionFlags are what kubectl's users know: -n, -A, -l, --field-selector.
type selectionFlags struct {
	namespace      string
	all            bool
	labels, fields string
}

func (selection *selectionFlags) add(command *cobra.Command) {
	flags := command.Flags()
	flags.StringVarP(&selection.namespace, "namespace", "n", "", "namespace (default \"default\")")
	flags.BoolVarP(&selection.all, "all-namespaces", "A", false, "all namespaces")
	flags.StringVarP(&selection.labels, "selector", "l", "", "labels that the objects must have: app=web,tier!=test")
	flags.StringVar(&selection.fields, "field-selector", "", "fields that the objects must have: status.phase=Running")
	command.MarkFlagsMutuallyExclusive("namespace", "all-namespaces")
}

// parse reads "RESOURCE[,RESOURCE] [NAME…]" or "RESOURCE/NAME…" into one
// selection for each resource.
func (selection *selectionFlags) parse(args []string) ([]*workload.Selection, error) {
	if len(args) == 0 {
		return nil, usagef("name a resource: pods, deployments, services, nodes, events, …")
	}
	var selections []*workload.Selection
	add := func(resource string, names ...string) {
		selections = append(selections, &workload.Selection{
			Resource: resource, Names: names, Namespace: selection.namespace, AllNamespaces: selection.all,
			LabelSelector: selection.labels, FieldSelector: selection.fields,
		})
	}
	if !strings.Contains(args[0], "/") {
		resources := strings.Split(args[0], ",")
		if args[0] == "all" && len(args) == 1 {
			resources = allResources
		}
		for _, resource := range resources {
			if resource == "" {
				return nil, usagef("%q: a resource's name is missing", args[0])
			}
			add(resource, args[1:]...)
		}
	} else {
		for _, arg := range args {
			resource, name, _ := strings.Cut(arg, "/")
			if resource == "" || name == "" || strings.Contains(name, "/") {
				return nil, usagef("%q: expected RESOURCE/NAME", arg)
			}
			if last := len(selections) - 1; last >= 0 && selections[last].GetResource() == resource {
				selections[last].Names = append(selections[last].Names, name)
				continue
			}
			add(resource, name)
		}
	}
	for _, one := range selections {
		if len(one.GetNames()) == 0 {
			continue
		}
		if selection.all {
			return nil, usagef("an object's name needs its namespace: expected -n instead of -A")
		}
		if selection.labels != "" || selection.fields != "" {
			return nil, usagef("names and selectors exclude each other")
		}
	}
	return selections, nil
}

// named is one selection for the objects of the same kind and namespace that
// follow each other in manifests. A manifest's own namespace goes first.
func (selection *selectionFlags) named(manifests []*workload.Manifest) ([]*workload.Selection, error) {
	var selections []*workload.Selection
	for _, manifest := range manifests {
		infos, err := resource.NewLocalBuilder().Unstructured().Local().Flatten().
			Stream(bytes.NewReader(manifest.GetContent()), manifest.GetSource()).Do().Infos()
		if err != nil {
			return nil, err
		}
		for _, info := range infos {
			kind := info.Object.GetObjectKind().GroupVersionKind().GroupKind().String()
			if info.Namespace != "" && selection.namespace != "" && info.Namespace != selection.namespace {
				return nil, usagef("%s: the namespace of %s %s is %q and not %q: leave -n out, or give that one",
					manifest.GetSource(), kind, info.Name, info.Namespace, selection.namespace)
			}
			namespace := cmp.Or(info.Namespace, selection.namespace)
			if info.Name == "" {
				return nil, fmt.Errorf("%s: a %s without a name", manifest.GetSource(), kind)
			}
			if last := len(selections) - 1; last >= 0 && selections[last].GetResource() == kind && selections[last].GetNamespace() == namespace {
				selections[last].Names = append(selections[last].Names, info.Name)
				continue
			}
			selections = append(selections, &workload.Selection{Resource: kind, Names: []string{info.Name}, Namespace: namespace})
		}
	}
	if len(selections) == 0 {
		return nil, errors.New("the manifests name no object")
	}
	return selections, nil
}
