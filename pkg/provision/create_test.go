package provision

import (
	"testing"

	"github.com/keelson-os/keelson/pkg/provision/qemu"
)

func TestSeveralEmulatedMachinesHaveOneCPUEach(t *testing.T) {
	for name, test := range map[string]struct {
		accel           qemu.Accel
		nodes, hostCPUs int
		want            int
	}{
		"KVM":                {qemu.KVM, 4, 2, DefaultCPUs},
		"one machine":        {qemu.TCG, 1, 1, DefaultCPUs},
		"enough CPUs":        {qemu.TCG, 4, 8, DefaultCPUs},
		"fewer than wanted":  {qemu.TCG, 4, 4, 1},
		"more than the host": {qemu.TCG, 2, 2, 1},
	} {
		asked := []Node{{Name: "asked", CPUs: 3}}
		for range test.nodes - 1 {
			asked = append(asked, Node{})
		}
		c := &Cluster{}
		c.spec.Host.Accel = test.accel
		for _, node := range asked {
			c.spec.Nodes = append(c.spec.Nodes, nodeSpec{CPUs: orDefault(node.CPUs, DefaultCPUs)})
		}
		c.fitCPUs(asked, test.hostCPUs)
		for i, node := range c.spec.Nodes {
			if want := orDefault(asked[i].CPUs, test.want); node.CPUs != want {
				t.Errorf("%s: machine %d has %d CPUs, want %d", name, i, node.CPUs, want)
			}
		}
	}
}
