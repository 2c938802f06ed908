package flanneld

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// options is the command line.
type options struct {
	kubeconfig, nodeName, nodeIP, netConfig, cniConfig string
	wireguardKey, problems                             string
}

// NewCommand makes the command "flanneld".
func NewCommand() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:           "flanneld",
		Short:         "Join this node's pods to the cluster's pod network",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: false,
		RunE: func(command *cobra.Command, _ []string) error {
			ctx, stop := signal.NotifyContext(command.Context(), syscall.SIGTERM, syscall.SIGINT)
			defer stop()
			return run(ctx, o)
		},
	}
	command.SetContext(context.Background())
	for _, each := range []struct {
		name  string
		value *string
		usage string
	}{
		{"kubeconfig", &o.kubeconfig, "`file` that says how to reach the Kubernetes API"},
		{"node-name", &o.nodeName, "this node's `name` in Kubernetes"},
		{"node-ip", &o.nodeIP, "this node's `address` towards the other nodes"},
		{"net-config", &o.netConfig, "`file` with flannel's network config (JSON)"},
		{"cni-config", &o.cniConfig, "`file` to write the CNI configuration to"},
		{"wireguard-key", &o.wireguardKey, "`file` to keep the private key of WireGuard in, with that backend"},
		{"problems", &o.problems, "`file` to write to what is wrong while the network runs, one sentence a line"},
	} {
		command.Flags().StringVar(each.value, each.name, "", each.usage)
		if err := command.MarkFlagRequired(each.name); err != nil {
			panic(fmt.Sprintf("flag %s was just made: %v", each.name, err))
		}
	}
	return command
}
