package machineconfig

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// patchedConfig is what patches are applied to.
func patchedConfig(t *testing.T) *Config {
	t.Helper()
	config, err := Decode("node.yaml", strings.NewReader(machineDocument+clusterDocument+secretsDocument(t, testSecrets())))
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func patch(name, kind, text string) Patch {
	return Patch{Name: name, Text: []byte("apiVersion: " + APIVersion + "\nkind: " + kind + "\n" + text)}
}

func TestApply(t *testing.T) {
	base := patchedConfig(t)
	config, err := Apply(base,
		patch("a.yaml", KindMachine, `
kernel:
  sysctls: {net.core.somaxconn: 1024}
  modules: [nbd, dummy]
kubelet:
  drainTimeout: 1m
`),
		Patch{Name: "b.yaml", Text: []byte("---\napiVersion: keelson/v1\nkind: Machine\nkernel: {modules: [wireguard]}\n" +
			"---\napiVersion: keelson/v1\nkind: Cluster\nnetwork:\n  podSubnet:\netcd:\n  snapshots: {keep: 2}\n---\n")})
	if err != nil {
		t.Fatal(err)
	}
	got := fmt.Sprint(config.Machine.Hostname, config.Machine.Kernel.Modules, config.Machine.Kernel.Sysctls, config.Machine.Kubelet.DrainTimeout,
		config.Machine.Kubelet.ShutdownGracePeriod, config.Machine.Network.Interfaces[0].MTU)
	if want := "node-1[wireguard]map[net.core.somaxconn:1024 vm.max_map_count:262144]1m0s30s1500"; strings.ReplaceAll(got, " ", "") != strings.ReplaceAll(want, " ", "") {
		t.Errorf("machine %s, want %s", got, want)
	}
	if config.Cluster.Etcd.Snapshots.Keep != 2 || config.Cluster.Etcd.HeartbeatInterval != 250*time.Millisecond || config.Cluster.Network.PodSubnet.String() != "10.244.0.0/16" {
		t.Errorf("cluster %+v", config.Cluster)
	}
	if config.Secrets.JoinToken != base.Secrets.JoinToken {
		t.Error("the secrets changed")
	}
	if len(base.Machine.Kernel.Modules) != 0 {
		t.Error("the config that was patched changed itself")
	}
}

func TestApplyNothing(t *testing.T) {
	base := patchedConfig(t)
	config, err := Apply(base)
	if err != nil {
		t.Fatal(err)
	}
	before, err := Encode(base)
	if err != nil {
		t.Fatal(err)
	}
	if after, err := Encode(config); err != nil || string(after) != string(before) {
		t.Errorf("changed to %s, %v", after, err)
	}
}

func TestApplyRefuses(t *testing.T) {
	fine := patch("fine.yaml", KindMachine, "kernel: {modules: [nbd]}\n")
	for want, patches := range map[string][]Patch{
		`bad.yaml:4:3: machine.kernel: unknown field "moduls": did you mean "modules"?`: {fine, patch("bad.yaml", KindMachine, "kernel:\n  moduls: []\n")},
		`bad.yaml:3:19: machine.kernel.modules: expected a list, found a text`:          {patch("bad.yaml", KindMachine, "kernel: {modules: nbd}\n")},
		`bad.yaml:4:3: machine.kernel.modules: given twice: the first time on line 3`:   {patch("bad.yaml", KindMachine, "kernel: {modules: [],\n  modules: []}\n")},
		`bad.yaml:2:7: kind: expected Machine, Cluster or Secrets`:                      {patch("bad.yaml", "Pod", "")},
		`bad.yaml:1:13: apiVersion: expected "keelson/v1"`:                              {{Name: "bad.yaml", Text: []byte("apiVersion: v1\nkind: Machine\n")}},
		`bad.yaml:1:1: not valid YAML`:                                                  {{Name: "bad.yaml", Text: []byte("a: [\n")}},
		`bad.yaml:1:1: larger than`:                                                     {{Name: "bad.yaml", Text: make([]byte, MaxSize+1)}},
		// What only the whole config shows is told with the place in the patch that is to blame.
		`bad.yaml:4:18: cluster.network.serviceSubnet: 10.244.1.0/24 overlaps cluster.network.podSubnet 10.244.0.0/16`: {fine, fine,
			patch("bad.yaml", KindCluster, "network:\n  serviceSubnet: 10.244.1.0/24\n")},
		`bad.yaml:6:5: machine.kernel.modules[1]: expected a module's name`: {patch("bad.yaml", KindMachine, "kernel:\n  modules:\n  - nbd\n  - ../x\n")},
		// And without one where none has.
		"cluster.network.serviceSubnet: 10.96.0.0/16 overlaps cluster.network.podSubnet 10.96.0.0/14": {patch("bad.yaml", KindCluster, "network: {podSubnet: 10.96.0.0/14}\n")},
	} {
		config, err := Apply(patchedConfig(t), patches...)
		if err == nil || config != nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

// A patch of the secrets must not show in an error.
func TestApplyHidesSecrets(t *testing.T) {
	_, err := Apply(patchedConfig(t), patch("bad.yaml", KindSecrets, "joinToken: {hunter2: hunter2}\nhunter2:\n  x: y\n"))
	if err == nil || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("error %v", err)
	}
}

func FuzzApply(f *testing.F) {
	config := Default()
	config.Secrets = nil
	f.Add([]byte("apiVersion: keelson/v1\nkind: Machine\nkernel: {modules: [a]}\n"))
	f.Add([]byte("kind: &a Machine\nx: *a\n"))
	f.Add([]byte("apiVersion: keelson/v1\nkind: Machine\nnetwork:\n---\n[]\n---\nkind: Cluster\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		if _, err := Apply(config, Patch{Name: "p", Text: text}); err != nil {
			for _, one := range Errors(err) {
				if one.Line > lineBand {
					t.Errorf("a line of no file: %v", one)
				}
			}
		}
	})
}
