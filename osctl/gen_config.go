package main

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/identity"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
)

const (
	// adminTTL is how long a new cluster's first client certificate is valid.
	adminTTL = 365 * 24 * time.Hour
	// adminName is who it is for.
	adminName = "admin"
	// kubernetesPort is where nodes serve the Kubernetes API.
	kubernetesPort = "6443"
)

// clusterPlan is what the configs of a new cluster are made from.
type clusterPlan struct {
	name          string
	controlPlanes []machineconfig.Host
	// endpoint is the Kubernetes API's URL; empty means the first
	// control-plane node's.
	endpoint    string
	installDisk string
	secrets     *machineconfig.Secrets
}

// configs makes the configs of a control-plane node and of a worker.
func (plan *clusterPlan) configs() (controlPlane, worker *machineconfig.Config) {
	config := machineconfig.Default()
	config.Machine.Type = machineconfig.ControlPlane
	if plan.installDisk != "" {
		config.Machine.Install.Disk = plan.installDisk
	}
	config.Cluster.Name = plan.name
	config.Cluster.ControlPlane.Addresses = plan.controlPlanes
	config.Cluster.Endpoint = plan.endpoint
	if plan.endpoint == "" {
		config.Cluster.Endpoint = "https://" + net.JoinHostPort(string(plan.controlPlanes[0]), kubernetesPort)
	}
	config.Secrets = plan.secrets
	machine := *config.Machine
	machine.Type = machineconfig.Worker
	return config, &machineconfig.Config{Machine: &machine, Cluster: config.Cluster, Secrets: plan.secrets.ForWorker()}
}

// encodeChecked writes a config and makes sure that a node will take it.
func encodeChecked(config *machineconfig.Config) ([]byte, error) {
	text, err := machineconfig.Encode(config)
	if err != nil {
		return nil, err
	}
	if _, err := machineconfig.Decode("config", bytes.NewReader(text)); err != nil {
		return nil, withoutPlaces(err)
	}
	return text, nil
}

// withoutPlaces drops the lines of a decoder's errors: they are in a text that
// nobody sees. The fields say which flag is wrong.
func withoutPlaces(err error) error {
	var texts []string
	for _, one := range machineconfig.Errors(err) {
		texts = append(texts, one.Field+": "+one.Message)
	}
	if len(texts) == 0 {
		return err
	}
	return errors.New(strings.Join(texts, "\n"))
}

// adminContext makes a context with a new administrator's certificate.
func adminContext(secrets *machineconfig.Secrets, now time.Time, endpoints, nodes []string) (*client.Context, error) {
	ca, err := secrets.OSCA.CA()
	if err != nil {
		return nil, fmt.Errorf("the CA of the OS API: %w", err)
	}
	pair, err := ca.Issue(pki.Request{
		CommonName: adminName, Organizations: []string{identity.Admin}, Client: true, Now: now, TTL: adminTTL,
	})
	if err != nil {
		return nil, err
	}
	return &client.Context{
		Endpoints: endpoints, Nodes: nodes,
		CA: string(ca.KeyPair().Cert), Cert: string(pair.Cert), Key: string(pair.Key),
	}, nil
}

func (app *app) genConfigCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "config CLUSTER --control-plane ADDRESS", Short: "Make the machine configs and client config of a new cluster",
		Long: `Make the machine configs and the client config of a new cluster:
controlplane.yaml and worker.yaml for the nodes, osctl.yaml for you
(OSCTL_CONFIG=osctl.yaml). All of them hold secrets.`,
		Args: cobra.ExactArgs(1),
	}
	flags := command.Flags()
	addresses := flags.StringSlice("control-plane", nil, "IP address or DNS name of a control-plane node; may be repeated")
	endpoint := flags.String("kubernetes-endpoint", "", "URL of the Kubernetes API (default: the first control-plane node's)")
	secretsFile := flags.String("secrets", "", "file of osctl gen secrets (default: new secrets)")
	dir := flags.String("output-dir", ".", "directory to write to")
	disk := flags.String("install-disk", "", "disk for the nodes' data (default /dev/vda)")
	force := flags.Bool("force", false, "replace files that exist")
	command.RunE = func(_ *cobra.Command, args []string) error {
		plan := &clusterPlan{name: args[0], endpoint: *endpoint, installDisk: *disk}
		for _, text := range *addresses {
			plan.controlPlanes = append(plan.controlPlanes, machineconfig.Host(text))
		}
		if len(plan.controlPlanes) == 0 {
			return usagef("--control-plane is required: the IP address or DNS name of a control-plane node")
		}
		var err error
		if plan.secrets, err = app.loadOrMakeSecrets(*secretsFile, plan.name); err != nil {
			return err
		}
		return app.genConfig(plan, *dir, *force)
	}
	return command
}

func (app *app) loadOrMakeSecrets(path, cluster string) (*machineconfig.Secrets, error) {
	if path == "" {
		return machineconfig.NewSecrets(cluster, app.now())
	}
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return machineconfig.DecodeSecrets(path, file)
}

func (app *app) genConfig(plan *clusterPlan, dir string, force bool) error {
	controlPlane, worker := plan.configs()
	controlPlaneText, err := encodeChecked(controlPlane)
	if err != nil {
		return err
	}
	workerText, err := encodeChecked(worker)
	if err != nil {
		return err
	}
	var endpoints []string
	for _, address := range plan.controlPlanes {
		endpoints = append(endpoints, net.JoinHostPort(string(address), client.DefaultPort))
	}
	context, err := adminContext(plan.secrets, app.now(), endpoints, nil)
	if err != nil {
		return err
	}
	contextText, err := yaml.Marshal(&client.Config{Current: plan.name, Contexts: map[string]*client.Context{plan.name: context}})
	if err != nil {
		return fmt.Errorf("encode the client config: %w", err)
	}
	files := []struct {
		path string
		text []byte
	}{
		{filepath.Join(dir, "controlplane.yaml"), controlPlaneText},
		{filepath.Join(dir, "worker.yaml"), workerText},
		{filepath.Join(dir, "osctl.yaml"), contextText},
	}
	// All or none: half a set would mix two clusters' secrets.
	for _, file := range files {
		if err := mayWrite(file.path, force); err != nil {
			return err
		}
	}
	for _, file := range files {
		if err := writeSecretFile(file.path, file.text, force); err != nil {
			return err
		}
		fmt.Fprintln(app.stdout, "wrote", file.path)
	}
	return nil
}
