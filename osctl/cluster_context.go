package main

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/provision"
)

// giveAccess adds a context for a new cluster to the client config.
func (app *app) giveAccess(cluster machines, name string, secrets *machineconfig.Secrets) (*client.Context, provision.Layout, error) {
	layout, err := cluster.Layout()
	if err != nil {
		return nil, layout, err
	}
	access, err := clusterContext(layout, secrets, app)
	if err != nil {
		return nil, layout, err
	}
	return access, layout, app.saveContext(name, access)
}

// clusterContext is the access to a cluster through this machine's forwards.
func clusterContext(layout provision.Layout, secrets *machineconfig.Secrets, app *app) (*client.Context, error) {
	var endpoints, nodes []string
	var kubernetes netip.AddrPort
	for _, node := range layout.Nodes {
		if !node.ControlPlane {
			continue // control-plane nodes pass calls on to workers
		}
		endpoints, nodes = append(endpoints, node.API.String()), append(nodes, node.Name)
		if !kubernetes.IsValid() {
			kubernetes = node.Kubernetes
		}
	}
	access, err := adminContext(secrets, app.now(), endpoints, nodes)
	if err != nil {
		return nil, err
	}
	access.Kubernetes = "https://" + kubernetes.String()
	return access, nil
}

// clusterIsFree refuses the name of a cluster that there is, before its context
// is found to be in the way: who removes that one locks himself out.
func clusterIsFree(name string) error {
	names, err := provision.List()
	if err != nil {
		return err
	}
	if slices.Contains(names, name) {
		return fmt.Errorf("there is a cluster %s already: use it (osctl cluster status %s), start it (osctl cluster start %s), or destroy it first (osctl cluster destroy %s)", name, name, name, name)
	}
	return nil
}

// contextIsFree refuses a name under which another cluster is known already.
func (app *app) contextIsFree(name string) error {
	config, err := app.loadConfig()
	if err != nil {
		return err
	}
	if _, taken := config.Contexts[name]; taken {
		return fmt.Errorf("the client config has a context %q already: choose another name, or remove it (osctl config remove %s)", name, name)
	}
	return nil
}

// saveContext adds a context and makes it current.
func (app *app) saveContext(name string, access *client.Context) error {
	path, err := app.configPath()
	if err != nil {
		return err
	}
	return client.UpdateConfig(path, func(config *client.Config) error {
		config.Contexts[name] = access
		config.Current = name
		return nil
	})
}

// changeContext changes the context of a cluster, if there is one.
func (app *app) changeContext(name string, change func(*client.Context)) error {
	path, err := app.configPath()
	if err != nil {
		return err
	}
	return client.UpdateConfig(path, func(config *client.Config) error {
		if access, ok := config.Contexts[name]; ok {
			change(access)
		}
		return nil
	})
}

// addEndpoints makes new control-plane nodes known to a context.
func addEndpoints(access *client.Context, nodes []provision.NodeLayout) {
	for _, node := range nodes {
		access.Endpoints, access.Nodes = append(access.Endpoints, node.API.String()), append(access.Nodes, node.Name)
	}
}

// removeNode makes a context forget a node; Kubernetes is reached through
// another one from then on.
func removeNode(access *client.Context, node provision.NodeLayout, heir netip.AddrPort) {
	if access.Kubernetes == "https://"+node.Kubernetes.String() {
		access.Kubernetes = "https://" + heir.String()
	}
	at := slices.Index(access.Endpoints, node.API.String())
	if at < 0 {
		return
	}
	access.Endpoints = slices.Delete(access.Endpoints, at, at+1)
	if at < len(access.Nodes) {
		access.Nodes = slices.Delete(access.Nodes, at, at+1)
	}
}
