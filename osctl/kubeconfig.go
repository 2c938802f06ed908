package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"github.com/spf13/cobra"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/client-go/tools/clientcmd/api"

	"github.com/keelson-os/keelson/pkg/api/cluster"
)

func (app *app) kubeconfigCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "kubeconfig [FILE|-]", Short: "Get a kubeconfig for kubectl and other clients", Args: cobra.MaximumNArgs(1),
		Long: `Get a kubeconfig with a new client certificate of yours. It is written to FILE
(default: kubeconfig) for you alone, or to standard output ("-"). With --merge
it is added to FILE (default: ~/.kube/config), which keeps its other contexts.`,
	}
	merge := command.Flags().Bool("merge", false, "add to the file instead of replacing it")
	force := command.Flags().Bool("force", false, "replace a file, or entries of other clusters with the same names")
	command.RunE = func(command *cobra.Command, args []string) error {
		path := "kubeconfig"
		switch {
		case len(args) == 1:
			path = args[0]
		case *merge:
			home, err := os.UserHomeDir()
			if err != nil {
				return fmt.Errorf("find ~/.kube/config: %w", err)
			}
			path = filepath.Join(home, ".kube", "config")
		}
		if *merge && path == "-" {
			return usagef("--merge needs a file")
		}
		if !*merge && path != "-" {
			// Before a certificate is made for nothing.
			if err := mayWrite(path, *force); err != nil {
				return err
			}
		}
		config, err := app.fetchKubeconfig(command.Context())
		if err != nil {
			return err
		}
		if *merge {
			// A link stays one, and its file changes.
			if real, err := filepath.EvalSymlinks(path); err == nil {
				path = real
			}
			if config, err = mergeKubeconfig(path, config, *force); err != nil {
				return err
			}
		}
		text, err := clientcmd.Write(*config)
		if err != nil {
			return fmt.Errorf("encode the kubeconfig: %w", err)
		}
		if path == "-" {
			_, err := app.stdout.Write(text)
			return err
		}
		if err := writeSecretFile(path, text, *force || *merge); err != nil {
			return err
		}
		_, err = fmt.Fprintf(app.stdout, "wrote %s; next: kubectl --kubeconfig %s get nodes\n", path, path)
		return err
	}
	return command
}

// fetchKubeconfig asks the node for a kubeconfig. When the context knows under
// which URL this machine reaches the Kubernetes API, it points there.
func (app *app) fetchKubeconfig(ctx context.Context) (*api.Config, error) {
	node, err := app.connect(ctx)
	if err != nil {
		return nil, err
	}
	answer, err := node.Cluster.Kubeconfig(ctx, &cluster.KubeconfigRequest{})
	if err != nil {
		return nil, err
	}
	config, err := clientcmd.Load(answer.GetKubeconfig())
	if err != nil {
		// Its text holds a key: the error is not passed on.
		return nil, errors.New("read the node's answer: not a kubeconfig")
	}
	if current, _, err := app.currentContext(); err == nil && current.Kubernetes != "" {
		for _, cluster := range config.Clusters {
			cluster.Server = current.Kubernetes
		}
	}
	// Users are named by cluster too: merged into one file, the "admin" of one
	// cluster would replace that of another.
	for name, context := range config.Contexts {
		config.AuthInfos[name] = config.AuthInfos[context.AuthInfo]
		if context.AuthInfo != name {
			delete(config.AuthInfos, context.AuthInfo)
		}
		context.AuthInfo = name
	}
	return config, nil
}

// mergeKubeconfig adds a kubeconfig to the file's. Entries of the same names
// are replaced if they are the same cluster's, which its CA tells.
func mergeKubeconfig(path string, added *api.Config, force bool) (*api.Config, error) {
	config, err := clientcmd.LoadFromFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return added, nil
	}
	var unread *fs.PathError
	if errors.As(err, &unread) {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("read %s: not a kubeconfig", path)
	}
	for name, cluster := range added.Clusters {
		old, exists := config.Clusters[name]
		if exists && !force && !bytes.Equal(old.CertificateAuthorityData, cluster.CertificateAuthorityData) {
			return nil, fmt.Errorf("%s has another cluster named %q: give --force to replace it", path, name)
		}
		config.Clusters[name] = cluster
	}
	for name, user := range added.AuthInfos {
		config.AuthInfos[name] = user
	}
	for name, context := range added.Contexts {
		config.Contexts[name] = context
	}
	config.CurrentContext = added.CurrentContext
	return config, nil
}
