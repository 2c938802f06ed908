package localpath

import (
	"context"
	"fmt"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

// options is the command line.
type options struct {
	kubeconfig, nodeName, volumes string
	forGoneNodes                  bool
}

// NewCommand makes the command "local-path-provisioner".
func NewCommand() *cobra.Command {
	var o options
	command := &cobra.Command{
		Use:          "local-path-provisioner",
		Short:        "Make volumes of folders on this node for claims of the class local-path",
		Args:         cobra.NoArgs,
		SilenceUsage: true,
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
		{"volumes", &o.volumes, "`folder` that volumes are made in; it must be closed to other users"},
	} {
		command.Flags().StringVar(each.value, each.name, "", each.usage)
		if err := command.MarkFlagRequired(each.name); err != nil {
			panic(fmt.Sprintf("flag %s was just made: %v", each.name, err))
		}
	}
	command.Flags().BoolVar(&o.forGoneNodes, "for-gone-nodes", false,
		"also tidy up after nodes that are not in the cluster any more")
	return command
}
