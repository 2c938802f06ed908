package main

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/keelson-os/keelson/pkg/nearest"
)

// group is a named set of specs: those whose full names match.
type group struct {
	name  string
	focus *regexp.Regexp
}

// groups are looked through in this order: a spec belongs to the first that
// matches.
var groups = []group{
	{"pods", regexp.MustCompile(`^\[sig-node\] (Pods|Containers|InitContainer|Ephemeral Containers|PreStop|Variable Expansion|Kubelet )`)},
	{"probes", regexp.MustCompile(`^\[sig-node\] (Probing container|Container Lifecycle Hook|Container Runtime)`)},
	{"services", regexp.MustCompile(`^\[sig-network\] (Service|Endpoint)`)},
	{"network", regexp.MustCompile(`^\[sig-network\] (Networking|Proxy|HostPort|Ingress)`)},
	{"dns", regexp.MustCompile(`^\[sig-network\] DNS`)},
	{"deployments", regexp.MustCompile(`^\[sig-apps\] Deployment`)},
	{"replicasets", regexp.MustCompile(`^\[sig-apps\] Replica`)},
	{"daemonsets", regexp.MustCompile(`^\[sig-apps\] Daemon set`)},
	{"statefulsets", regexp.MustCompile(`^\[sig-apps\] StatefulSet`)},
	{"jobs", regexp.MustCompile(`^\[sig-apps\] (Job|CronJob)`)},
	{"configmap", regexp.MustCompile(`^\[sig-(node|storage)\] (Projected )?[cC]onfigMap`)},
	{"secret", regexp.MustCompile(`^\[sig-(node|storage)\] (Secrets|Projected secret)`)},
	{"emptydir", regexp.MustCompile(`^\[sig-storage\] EmptyDir`)},
	{"downward", regexp.MustCompile(`^\[sig-(node|storage)\] (Downward API|Projected downwardAPI)`)},
	{"kubectl", regexp.MustCompile(`^\[sig-cli\] Kubectl client`)},
}

// otherGroup is where the summary puts specs that are in no group.
const otherGroup = "other"

// groupOf names the group of a spec.
func groupOf(spec string) string {
	for _, g := range groups {
		if g.focus.MatchString(spec) {
			return g.name
		}
	}
	return otherGroup
}

// chosenGroups returns the groups of a comma-separated list of names.
func chosenGroups(list string) ([]group, error) {
	var names []string
	byName := map[string]group{}
	for _, g := range groups {
		names = append(names, g.name)
		byName[g.name] = g
	}
	var chosen []group
	for name := range strings.SplitSeq(list, ",") {
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "" {
			continue
		}
		g, ok := byName[name]
		if !ok {
			return nil, fmt.Errorf("there is no group %q: %s", name, nearest.List(name, names))
		}
		chosen = append(chosen, g)
	}
	return chosen, nil
}

// exclusion keeps specs out that cannot pass here, whatever the cluster does.
type exclusion struct {
	match  *regexp.Regexp
	reason string
}

// exclusions are about images and registries only: what a cluster cannot do
// is run, and fails.
var exclusions = []exclusion{
	{regexp.MustCompile(`Aggregator Should be able to support the 1\.17 Sample API Server`), "needs the images sample-apiserver and etcd, which are not built"},
	{regexp.MustCompile(`private image|[pP]rivate registry|should be able to pull (image|from)`), "pulls from a registry that lets nobody else in"},
	{regexp.MustCompile(`pull policy of Always|PodCertificate.*(mTLS connection|UserAnnotations)`), "its pods pull always, which needs a registry"},
}
