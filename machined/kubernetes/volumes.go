package kubernetes

import (
	"context"

	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/pkg/secretdir"
)

// volumesDir holds the volumes of this node, one folder each. Nobody gets
// through it but the provisioner and root: pods reach their volume by its mount.
const volumesDir = "/var/lib/local-path-provisioner"

// localPath makes and removes volumes on this node's disk.
func (k *Kubernetes) localPath() supervise.Spec {
	render := k.prepare(LocalPath, LocalPath, k.localPathFiles)
	args := flags{
		"kubeconfig": k.secrets(LocalPath, kubeconfigFile),
		"node-name":  k.options.Hostname,
		"volumes":    k.path(volumesDir),
	}
	if !k.isWorker() {
		args["for-gone-nodes"] = "true"
	}
	return k.through(supervise.Spec{
		Name:        LocalPath,
		Gate:        k.grantedAndReady,
		GateMessage: notGranted,
		Prepare: func(ctx context.Context) error {
			owner, err := k.owner(LocalPath)
			if err != nil {
				return err
			}
			if err := secretdir.Make(k.path(volumesDir), owner); err != nil {
				return err
			}
			return render(ctx)
		},
		Path: "/usr/bin/" + LocalPath,
		Args: args.args(nil),
		User: LocalPath,
		// A volume is root's, as upstream's is; what pods leave in it is of any
		// user, with any mode. It confines itself to that folder.
		Capabilities: []string{"CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"},
	})
}

func (k *Kubernetes) localPathFiles() (rendered, error) {
	const group = "keelson:local-path-provisioner"
	// The second is a control-plane node's alone: what is signed for a worker is
	// decided by join.
	access, err := k.nodeKubeconfig(LocalPath, useLocalPath, group+":"+k.options.Hostname, group, "keelson:control-plane")
	return rendered{secrets: access}, err
}
