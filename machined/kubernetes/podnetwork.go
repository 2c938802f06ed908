package kubernetes

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"
	"unicode"

	"github.com/keelson-os/keelson/pkg/machineconfig"
	"golang.org/x/sys/unix"
)

// maxProblemsFile bounds what is read of flannel's problems, in bytes; it writes
// twenty sentences at most.
const maxProblemsFile = 16 << 10

// hasFlannel tells whether the pod network is ours; else an add-on brings one.
func (k *Kubernetes) hasFlannel() bool {
	return k.options.Config.Cluster.Network.CNI != machineconfig.CNINone
}

// checkPodNetwork tells what flannel says keeps pods on this node from others.
func (k *Kubernetes) checkPodNetwork() Check {
	const name = "pod network"
	if !k.hasFlannel() {
		return Check{Name: name, OK: true, Message: "left to an add-on by cluster.network.cni"}
	}
	problems, err := k.podNetworkProblems()
	if err == nil && problems != "" {
		err = errors.New(problems)
	}
	return result(name, err, k.options.Config.Cluster.Network.Backend)
}

// podNetworkProblems reads what flannel wrote. The folder is flannel's: no link
// or pipe that it might leave there leads this elsewhere or holds it up.
func (k *Kubernetes) podNetworkProblems() (string, error) {
	root, err := os.OpenRoot(k.path(flannelDir))
	if err == nil {
		defer root.Close()
		var file *os.File
		if file, err = root.OpenFile(problemsFile, os.O_RDONLY|unix.O_NONBLOCK, 0); err == nil {
			defer file.Close()
			var text []byte
			if text, err = io.ReadAll(io.LimitReader(file, maxProblemsFile)); err == nil {
				return sentences(string(text)), nil
			}
		}
	}
	if errors.Is(err, fs.ErrNotExist) {
		return "", fmt.Errorf("it was not set up yet; see osctl logs %s", Flannel)
	}
	return "", fmt.Errorf("read what %s says: %w", Flannel, err)
}

// sentences joins lines to one, without what a terminal would obey.
func sentences(text string) string {
	text = strings.ReplaceAll(strings.TrimSpace(strings.ToValidUTF8(text, "?")), "\n", "; ")
	return strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return '?'
		}
		return r
	}, text)
}
