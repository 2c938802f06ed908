package machineconfig

import (
	"encoding/base64"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/keelson-os/keelson/pkg/osbundle"
	"github.com/keelson-os/keelson/pkg/pki"
)

// Bounds of etcd's own settings: it refuses an election timeout above 50 s or
// below five heartbeats.
const (
	minHeartbeat        = 10 * time.Millisecond
	maxElection         = 50 * time.Second
	heartbeatsPerElect  = 5
	maxServiceHostBits  = 20 // kube-apiserver refuses larger service ranges
	minServiceHostBits  = 4
	nodePodPrefixLength = 24 // the controller-manager gives each node a /24
)

// linkLocal holds the node-local DNS address.
var linkLocal = netip.MustParsePrefix("169.254.0.0/16")

// validateConfig gathers what is wrong with the values of a decoded config.
func (decoder *decoder) validateConfig(config *Config) {
	decoder.validateMachine(config.Machine)
	decoder.validateCluster(config.Cluster)
	decoder.validateAddresses(config)
	decoder.validateSecrets(config.Secrets, config.Machine.Type)
}

func (decoder *decoder) validateMachine(machine *Machine) {
	decoder.oneOf("machine.type", machine.Type, ControlPlane, Worker)
	if machine.Hostname != "" {
		decoder.label("machine.hostname", machine.Hostname)
	}
	for i := range machine.Network.Interfaces {
		path, link := fmt.Sprintf("machine.network.interfaces[%d]", i), &machine.Network.Interfaces[i]
		decoder.validateInterface(path, link)
		for _, other := range machine.Network.Interfaces[:i] {
			if link.Name != "" && link.Name == other.Name {
				decoder.failAt(path+".name", "%s is given twice", link.Name)
			}
			if link.MAC != "" && strings.EqualFold(link.MAC, other.MAC) {
				decoder.failAt(path+".mac", "%s is given twice", link.MAC)
			}
		}
	}
	for i, server := range machine.Network.Nameservers {
		decoder.host(fmt.Sprintf("machine.network.nameservers[%d]", i), server)
	}
	machine.Install.DiskSelector.validate(func(field, format string, args ...any) {
		decoder.failAt("machine.install.diskSelector."+field, format, args...)
	})
	if !devicePath.MatchString(machine.Install.Disk) {
		decoder.failAt("machine.install.disk", `expected a block device such as "/dev/vda"`)
	}
	for i, key := range machine.Update.Keys {
		if _, err := osbundle.ParsePublicKeys([]byte(key)); err != nil {
			decoder.failAt(fmt.Sprintf("machine.update.keys[%d]", i), "%v", err)
		}
	}
	for i, module := range machine.Kernel.Modules {
		if !moduleName.MatchString(module) {
			decoder.failAt(fmt.Sprintf("machine.kernel.modules[%d]", i), `expected a module's name such as "nvme_tcp"`)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(machine.Kernel.Sysctls)) {
		if !sysctlName.MatchString(name) {
			decoder.failAt(keyed("machine.kernel.sysctls", name), `expected a sysctl's name such as "vm.max_map_count"`)
		}
	}
	decoder.extraArgs("machine.kubelet.extraArgs", machine.Kubelet.ExtraArgs)
	decoder.nodeLabels("machine.kubelet.nodeLabels", machine.Kubelet.NodeLabels)
	decoder.between("machine.kubelet.shutdownGracePeriod", machine.Kubelet.ShutdownGracePeriod, 0, time.Hour)
	decoder.between("machine.kubelet.drainTimeout", machine.Kubelet.DrainTimeout, 0, 24*time.Hour)
	decoder.validateRegistries(&machine.Registries)
}

func (decoder *decoder) validateInterface(path string, link *Interface) {
	if link.Name == "" && link.MAC == "" {
		decoder.failAt(path, "name or mac is required, to tell which link is meant")
	}
	if link.Name != "" && !linkName.MatchString(link.Name) {
		decoder.failAt(path+".name", `expected a link's name of at most 15 characters such as "eth0"`)
	}
	if link.MAC != "" && !macAddress.MatchString(link.MAC) {
		decoder.failAt(path+".mac", `expected a hardware address such as "52:54:00:12:34:56"`)
	}
	if !link.DHCP && len(link.Addresses) == 0 {
		decoder.failAt(path, "dhcp: true or addresses are required")
	}
	reachable := link.DHCP || !link.Gateway.IsValid() || link.Gateway.IsLinkLocalUnicast()
	for i, address := range link.Addresses {
		here := fmt.Sprintf("%s.addresses[%d]", path, i)
		decoder.host(here, address.Addr())
		if address.IsValid() && address.Addr() == address.Masked().Addr() && address.Bits() < address.Addr().BitLen()-1 {
			decoder.failAt(here, "%s is the address of the whole network, not of a host in it", address)
		}
		if isBroadcast(address) {
			decoder.failAt(here, "%s is the network's broadcast address, not that of a host in it", address)
		}
		if address.Addr() == link.Gateway {
			decoder.failAt(path+".gateway", "%s is the node's own address", link.Gateway)
		}
		reachable = reachable || address.Contains(link.Gateway)
	}
	if link.Gateway.IsValid() {
		decoder.host(path+".gateway", link.Gateway)
	}
	if !reachable {
		decoder.failAt(path+".gateway", "%s is in none of the networks of addresses", link.Gateway)
	}
	// 576 bytes is the least that IPv4 hosts must take (RFC 791).
	if link.MTU != 0 && (link.MTU < 576 || link.MTU > 65535) {
		decoder.failAt(path+".mtu", "expected 576 to 65535 bytes, found %d", link.MTU)
	}
}

func (decoder *decoder) validateCluster(cluster *Cluster) {
	decoder.label("cluster.name", cluster.Name)
	if !validEndpoint(cluster.Endpoint) {
		decoder.failAt("cluster.endpoint", `expected the Kubernetes API's URL such as "https://10.0.0.5:6443"`)
	}
	if len(cluster.ControlPlane.Addresses) == 0 {
		decoder.failAt("cluster.controlPlane.addresses", "required: the addresses of the control-plane nodes")
	}
	decoder.validateControlPlane(&cluster.ControlPlane)
	decoder.validateSubnets(&cluster.Network)
	if !dnsDomain.MatchString(cluster.Network.DNSDomain) || len(cluster.Network.DNSDomain) > 200 {
		decoder.failAt("cluster.network.dnsDomain", `expected a domain such as "cluster.local"`)
	}
	decoder.oneOf("cluster.network.cni", cluster.Network.CNI, CNIFlannel, CNINone)
	decoder.oneOf("cluster.network.backend", cluster.Network.Backend, BackendVXLAN, BackendHostGW, BackendWireGuard)
	decoder.validateSnapshots(&cluster.Etcd.Snapshots)
	if cluster.Etcd.HeartbeatInterval < minHeartbeat {
		decoder.failAt("cluster.etcd.heartbeatInterval", "expected at least %s, found %s", minHeartbeat, cluster.Etcd.HeartbeatInterval)
	}
	if timeout := cluster.Etcd.ElectionTimeout; timeout > maxElection || timeout/heartbeatsPerElect < cluster.Etcd.HeartbeatInterval {
		decoder.failAt("cluster.etcd.electionTimeout", "expected at most %s and at least %d heartbeat intervals, found %s",
			maxElection, heartbeatsPerElect, timeout)
	}
	decoder.extraArgs("cluster.apiServer.extraArgs", cluster.APIServer.ExtraArgs)
	decoder.extraArgs("cluster.controllerManager.extraArgs", cluster.ControllerManager.ExtraArgs)
	decoder.extraArgs("cluster.scheduler.extraArgs", cluster.Scheduler.ExtraArgs)
}

func (decoder *decoder) validateControlPlane(nodes *ControlPlanes) {
	for i, host := range nodes.Addresses {
		path := fmt.Sprintf("cluster.controlPlane.addresses[%d]", i)
		if address, ok := host.Addr(); ok {
			decoder.host(path, address)
		} else if !dnsDomain.MatchString(string(host)) || numericEnd.MatchString(string(host)) || len(host) > 253 {
			decoder.failAt(path, `expected an IP address or a DNS name such as "10.0.0.5", found %q`, shorten(string(host)))
		}
		if slices.Contains(nodes.Addresses[:i], host) {
			decoder.failAt(path, "%s is given twice", host)
		}
	}
	for i, address := range nodes.VirtualIPs {
		path := fmt.Sprintf("cluster.controlPlane.virtualIPs[%d]", i)
		decoder.host(path, address)
		if slices.Contains(nodes.Addresses, Host(address.String())) {
			decoder.failAt(path, "%s is a control-plane node's own address: expected one that no machine has", address)
		}
		if slices.ContainsFunc(nodes.VirtualIPs[:i], func(other netip.Addr) bool { return other.Is4() == address.Is4() }) {
			decoder.failAt(path, "expected at most one IPv4 and one IPv6 address")
		}
	}
}

// minSnapshotInterval keeps snapshots from being most of what the disk does.
const minSnapshotInterval = time.Minute

func (decoder *decoder) validateSnapshots(snapshots *EtcdSnapshots) {
	const path = "cluster.etcd.snapshots"
	if snapshots.Interval != 0 && snapshots.Interval < minSnapshotInterval {
		decoder.failAt(path+".interval", "expected at least %s, or 0s for none, found %s", minSnapshotInterval, snapshots.Interval)
	}
	if snapshots.Keep < 1 {
		decoder.failAt(path+".keep", "expected at least 1, found %d", snapshots.Keep)
	}
	if snapshots.MaxAge < 0 {
		decoder.failAt(path+".maxAge", "expected 0s or more, found %s", snapshots.MaxAge)
	}
	decoder.validateStore(path+".s3", &snapshots.S3)
}

func (decoder *decoder) validateStore(path string, store *S3Store) {
	if store.Endpoint == "" {
		if *store != (S3Store{}) {
			decoder.failAt(path+".endpoint", "required: the store's URL")
		}
		return
	}
	if !validEndpoint(strings.Replace(store.Endpoint, "http://", "https://", 1)) {
		decoder.failAt(path+".endpoint", `expected the store's URL such as "https://s3.example.com"`)
	}
	if !bucketName.MatchString(store.Bucket) {
		decoder.failAt(path+".bucket", "expected a bucket's name: 3 to 63 of a-z, 0-9, . and -")
	}
	if store.CA != "" {
		if _, err := pki.ParseCert([]byte(store.CA)); err != nil {
			decoder.failAt(path+".ca", "%s", err)
		}
	}
}

func (decoder *decoder) validateSubnets(network *ClusterNetwork) {
	for _, subnet := range []struct {
		path                 string
		prefix               netip.Prefix
		minBits, maxHostBits int
	}{
		{"cluster.network.podSubnet", network.PodSubnet, 32 - nodePodPrefixLength, 24},
		{"cluster.network.serviceSubnet", network.ServiceSubnet, minServiceHostBits, maxServiceHostBits},
	} {
		hostBits := 32 - subnet.prefix.Bits()
		switch {
		case !subnet.prefix.Addr().Is4():
			decoder.failAt(subnet.path, "expected an IPv4 network, found %s", subnet.prefix)
		case subnet.prefix != subnet.prefix.Masked():
			decoder.failAt(subnet.path, "%s has host bits set: expected %s", subnet.prefix, subnet.prefix.Masked())
		case hostBits < subnet.minBits || hostBits > subnet.maxHostBits:
			decoder.failAt(subnet.path, "expected a prefix length of /%d to /%d, found /%d",
				32-subnet.maxHostBits, 32-subnet.minBits, subnet.prefix.Bits())
		case subnet.prefix.Overlaps(linkLocal):
			decoder.failAt(subnet.path, "%s overlaps %s, which nodes use for themselves", subnet.prefix, linkLocal)
		}
	}
	if network.PodSubnet.Overlaps(network.ServiceSubnet) {
		decoder.failAt("cluster.network.serviceSubnet", "%s overlaps cluster.network.podSubnet %s: expected separate networks",
			network.ServiceSubnet, network.PodSubnet)
	}
}

// validateAddresses holds nodes' addresses against the pods' and services'.
func (decoder *decoder) validateAddresses(config *Config) {
	check := func(path string, prefix netip.Prefix) {
		for _, subnet := range []struct {
			name   string
			prefix netip.Prefix
		}{{"podSubnet", config.Cluster.Network.PodSubnet}, {"serviceSubnet", config.Cluster.Network.ServiceSubnet}} {
			if prefix.Overlaps(subnet.prefix) {
				decoder.failAt(path, "%s overlaps cluster.network.%s %s: expected separate networks", prefix, subnet.name, subnet.prefix)
			}
		}
	}
	for i, link := range config.Machine.Network.Interfaces {
		for j, address := range link.Addresses {
			check(fmt.Sprintf("machine.network.interfaces[%d].addresses[%d]", i, j), address.Masked())
		}
	}
	for i, host := range config.Cluster.ControlPlane.Addresses {
		if address, ok := host.Addr(); ok {
			check(fmt.Sprintf("cluster.controlPlane.addresses[%d]", i), netip.PrefixFrom(address, address.BitLen()))
		}
	}
	for i, address := range config.Cluster.ControlPlane.VirtualIPs {
		check(fmt.Sprintf("cluster.controlPlane.virtualIPs[%d]", i), netip.PrefixFrom(address, address.BitLen()))
	}
	if store := config.Cluster.Etcd.Snapshots.S3; store.Endpoint != "" && config.Machine.Type == ControlPlane {
		decoder.required("secrets.snapshotStore.accessKeyID", config.Secrets.SnapshotStore.AccessKeyID, " by cluster.etcd.snapshots.s3")
		decoder.required("secrets.snapshotStore.secretAccessKey", string(config.Secrets.SnapshotStore.SecretAccessKey), " by cluster.etcd.snapshots.s3")
	}
}

// validateSecrets names the secrets that a machine type misses. Whether the
// certificates are valid now is not asked: a node's clock may be wrong at boot.
func (decoder *decoder) validateSecrets(secrets *Secrets, machineType string) {
	controlPlane := machineType == ControlPlane
	decoder.required("secrets.clusterID", secrets.ClusterID, "")
	decoder.required("secrets.joinToken", string(secrets.JoinToken), "")
	for _, ca := range []struct {
		path   string
		pair   KeyPair
		worker bool
	}{
		{"secrets.osCA", secrets.OSCA, true},
		{"secrets.kubernetesCA", secrets.KubernetesCA, true},
		{"secrets.etcdCA", secrets.EtcdCA, false},
		{"secrets.aggregatorCA", secrets.AggregatorCA, false},
	} {
		decoder.validateCA(ca.path, ca.pair, controlPlane, controlPlane || ca.worker)
	}
	const onControlPlane = " on a control-plane node"
	if controlPlane {
		decoder.required("secrets.serviceAccountKey", string(secrets.ServiceAccountKey), onControlPlane)
		decoder.required("secrets.encryptionKey", string(secrets.EncryptionKey), onControlPlane)
	}
	if secrets.ServiceAccountKey != "" {
		if _, err := pki.ParseKey([]byte(secrets.ServiceAccountKey)); err != nil {
			decoder.failAt("secrets.serviceAccountKey", "%s", err)
		}
	}
	if secrets.EncryptionKey != "" {
		key, err := base64.StdEncoding.DecodeString(string(secrets.EncryptionKey))
		if err != nil || len(key) != encryptionKeyBytes {
			decoder.failAt("secrets.encryptionKey", "expected %d bytes in base64", encryptionKeyBytes)
		}
	}
}

func (decoder *decoder) validateCA(path string, pair KeyPair, keyNeeded, certNeeded bool) {
	switch {
	case pair.Cert == "" && pair.Key == "" && !certNeeded:
		return
	case pair.Cert == "":
		decoder.failAt(path+".cert", "required")
	default:
		if cert, err := pki.ParseCert([]byte(pair.Cert)); err != nil {
			decoder.failAt(path+".cert", "%s", err)
		} else if !cert.IsCA {
			decoder.failAt(path+".cert", "expected the certificate of a certificate authority")
		} else if pair.Key != "" {
			if err := pair.PKI().Check(); err != nil {
				decoder.failAt(path+".key", "%s", err)
			}
		}
	}
	if pair.Key == "" && keyNeeded {
		decoder.failAt(path+".key", "required on a control-plane node")
	}
}
