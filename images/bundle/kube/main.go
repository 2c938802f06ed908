// Command kube is every Kubernetes component of a node in one file, and the
// daemons of the pod network, of names, of local volumes and of the metrics API, which use
// the same packages: the name it is started under (argv[0]) chooses the component, so that the processes
// share one set of text pages and the image holds Kubernetes' packages once.
package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	_ "time/tzdata" // CronJobs name time zones, and the image has no zoneinfo files

	"github.com/keelson-os/keelson/images/bundle/kube/coredns"
	"github.com/keelson-os/keelson/images/bundle/kube/flanneld"
	"github.com/keelson-os/keelson/images/bundle/kube/localpath"
	"github.com/spf13/cobra"
	genericapiserver "k8s.io/apiserver/pkg/server"
	"k8s.io/component-base/cli"
	_ "k8s.io/component-base/logs/json/register"          // --logging-format=json
	_ "k8s.io/component-base/metrics/prometheus/clientgo" // client metrics
	_ "k8s.io/component-base/metrics/prometheus/version"  // build version metric
	apiserver "k8s.io/kubernetes/cmd/kube-apiserver/app"
	controllermanager "k8s.io/kubernetes/cmd/kube-controller-manager/app"
	proxy "k8s.io/kubernetes/cmd/kube-proxy/app"
	scheduler "k8s.io/kubernetes/cmd/kube-scheduler/app"
	kubelet "k8s.io/kubernetes/cmd/kubelet/app"
	metricsserver "sigs.k8s.io/metrics-server/cmd/metrics-server/app"
)

const corednsName = "coredns"

var components = map[string]func() *cobra.Command{
	"flanneld":                flanneld.NewCommand,
	"kube-apiserver":          apiserver.NewAPIServerCommand,
	"kube-controller-manager": controllermanager.NewControllerManagerCommand,
	"kube-proxy":              proxy.NewProxyCommand,
	"kube-scheduler":          func() *cobra.Command { return scheduler.NewSchedulerCommand() },
	"local-path-provisioner":  localpath.NewCommand,
	"kubelet":                 func() *cobra.Command { return kubelet.NewKubeletCommand(context.Background()) },
	"metrics-server": func() *cobra.Command {
		return metricsserver.NewMetricsServerCommand(genericapiserver.SetupSignalHandler())
	},
}

func main() {
	name := filepath.Base(os.Args[0])
	if name == corednsName {
		coredns.Run() // it has its own way with flags
		return
	}
	newCommand, ok := components[name]
	if !ok {
		fmt.Fprintf(os.Stderr, "kube: start it under the name of a component, not %q: %s\n", name, strings.Join(names(), ", "))
		os.Exit(2)
	}
	os.Exit(cli.Run(newCommand()))
}

func names() []string {
	out := []string{corednsName}
	for name := range components {
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}
