package main

import (
	"github.com/spf13/cobra"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/pki"
)

func (app *app) configCommand() *cobra.Command {
	return group("config", "Show and choose the contexts of the client config",
		app.configContextsCommand(), app.configUseCommand(), app.configInfoCommand(), app.configRemoveCommand())
}

// contextView is a context without its key.
type contextView struct {
	Name       string   `json:"name"`
	Current    bool     `json:"current"`
	Endpoints  []string `json:"endpoints"`
	Nodes      []string `json:"nodes,omitempty"`
	Kubernetes string   `json:"kubernetes,omitempty"`
	User       string   `json:"user,omitempty"`
	Roles      []string `json:"roles,omitempty"`
	Expires    string   `json:"expires,omitempty"`
	expired    bool
}

func (app *app) view(config *client.Config, name string) contextView {
	context := config.Contexts[name]
	view := contextView{
		Name: name, Current: name == config.Current,
		Endpoints: context.Endpoints, Nodes: context.Nodes, Kubernetes: context.Kubernetes,
	}
	if cert, err := pki.ParseCert([]byte(context.Cert)); err == nil {
		view.User, view.Roles = cert.Subject.CommonName, cert.Subject.Organization
		view.Expires = cert.NotAfter.UTC().Format("2006-01-02")
		view.expired = app.now().After(cert.NotAfter)
	}
	return view
}
