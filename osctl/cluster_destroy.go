package main

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/provision"
)

func (app *app) clusterDestroyCommand() *cobra.Command {
	return &cobra.Command{
		Use: "destroy NAME", Short: "End a cluster's machines and remove all of it, its context included",
		Args: cobra.ExactArgs(1), ValidArgsFunction: app.completeClusters,
		RunE: func(command *cobra.Command, args []string) error {
			name := args[0]
			names, err := provision.List()
			if err != nil {
				return err
			}
			// Also without a folder: processes or sockets may have outlived it.
			if err := provision.Destroy(command.Context(), name); err != nil {
				return err
			}
			if err := app.removeLocalContext(name); err != nil {
				return err
			}
			text := "cluster %s is destroyed\n"
			if !slices.Contains(names, name) {
				text = "there was no cluster %s\n"
			}
			_, err = fmt.Fprintf(app.stdout, text, name)
			return err
		},
	}
}

// removeLocalContext removes the context of a cluster on this machine. One of
// the same name that leads elsewhere is another cluster's and stays.
func (app *app) removeLocalContext(name string) error {
	config, err := app.loadConfig()
	if err != nil {
		return err
	}
	context, ok := config.Contexts[name]
	if !ok {
		return nil
	}
	if !madeHere(context) {
		return nil
	}
	path, err := app.configPath()
	if err != nil {
		return err
	}
	return client.UpdateConfig(path, func(config *client.Config) error { config.Remove(name); return nil })
}

// madeHere tells a context that cluster create made: all its addresses, also
// that of Kubernetes, which no other context has, lead to this machine. The
// node's API alone may do so in a context of someone who uses a tunnel.
func madeHere(context *client.Context) bool {
	kubernetes, found := strings.CutPrefix(context.Kubernetes, "https://")
	for _, endpoint := range append([]string{kubernetes}, context.Endpoints...) {
		address, err := netip.ParseAddrPort(endpoint)
		if err != nil || !address.Addr().IsLoopback() {
			return false
		}
	}
	return found
}
