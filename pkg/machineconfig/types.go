package machineconfig

import (
	"log/slog"
	"net/netip"
	"time"

	"github.com/keelson-os/keelson/pkg/pki"
)

// APIVersion stands at the head of every document.
const APIVersion = "keelson/v1"

// Kinds of documents.
const (
	KindMachine = "Machine"
	KindCluster = "Cluster"
	KindSecrets = "Secrets"
)

// Types of machines.
const (
	ControlPlane = "controlplane"
	Worker       = "worker"
)

// What joins the nodes' pod subnets.
const (
	// CNIFlannel is built in.
	CNIFlannel = "flannel"
	// CNINone leaves the pod network to an add-on.
	CNINone = "none"
)

// How flannel carries pod traffic between nodes.
const (
	// BackendVXLAN carries it inside UDP.
	BackendVXLAN = "vxlan"
	// BackendHostGW routes it as it is; all nodes must be in one layer-2 network.
	BackendHostGW = "host-gw"
	// BackendWireGuard carries it encrypted inside UDP.
	BackendWireGuard = "wireguard"
)

// Config is everything a node is told: one document of each kind.
type Config struct {
	Machine *Machine
	Cluster *Cluster
	Secrets *Secrets
}

// Machine is what holds for one node.
type Machine struct {
	// Type is ControlPlane or Worker.
	Type string `yaml:"type"`
	// Hostname is a DNS label. Empty: the name that DHCP gives, else one made
	// from the machine ID.
	Hostname string  `yaml:"hostname,omitempty"`
	Network  Network `yaml:"network,omitempty"`
	Install  Install `yaml:"install,omitempty"`
	Kernel   Kernel  `yaml:"kernel,omitempty"`
	Kubelet  Kubelet `yaml:"kubelet,omitempty"`
	// Registries says how images are pulled.
	Registries Registries `yaml:"registries,omitempty"`
	// Update says which OS images the node takes.
	Update Update `yaml:"update,omitempty"`
}

// Update says which OS images the node takes.
type Update struct {
	// Keys are Ed25519 public keys in PEM that may sign a bundle, beside those in
	// the running image.
	Keys []string `yaml:"keys,omitempty"`
}

// Network is how a node reaches the others.
type Network struct {
	// Interfaces to set up. Empty: DHCP on every Ethernet link.
	Interfaces []Interface `yaml:"interfaces,omitempty"`
	// Nameservers, before those that DHCP gives.
	Nameservers []netip.Addr `yaml:"nameservers,omitempty"`
}

// Interface is one network link, found by its name or its hardware address.
type Interface struct {
	// Name is the kernel's: "eth0".
	Name string `yaml:"name,omitempty"`
	// MAC is the hardware address: "52:54:00:12:34:56".
	MAC string `yaml:"mac,omitempty"`
	// DHCP asks for an IPv4 address, instead of or beside Addresses.
	DHCP bool `yaml:"dhcp,omitempty"`
	// Addresses with their prefix length: "10.0.0.5/24".
	Addresses []netip.Prefix `yaml:"addresses,omitempty"`
	// Gateway of the default route; the zero value means none.
	Gateway netip.Addr `yaml:"gateway,omitempty"`
	// MTU in bytes; zero keeps the link's own.
	MTU int `yaml:"mtu,omitempty"`
}

// Install is where the node keeps its data.
type Install struct {
	// Disk is a block device: "/dev/vda". It is partitioned on the first boot,
	// and refused when it holds anything that is not Keelson's.
	Disk string `yaml:"disk"`
	// DiskSelector, if given, finds the disk instead of Disk; it must fit one disk
	// of the machine, and no other.
	DiskSelector DiskSelector `yaml:"diskSelector,omitempty"`
	// Wipe lets an installation from a medium erase a disk that holds something,
	// be it another system or a node's data. One that nobody asks for (osctl
	// install) never erases a node of the same cluster.
	Wipe bool `yaml:"wipe,omitempty"`
}

// DiskSelector finds a disk by what it is: all that is given must hold. In its texts |
// stands between alternatives.
type DiskSelector struct {
	// Size compares with a size: ">= 100GiB", "== 8GiB"; without an operator it is
	// "==". Of several, as in ">= 100GiB, < 2TB", all must hold.
	Size string `yaml:"size,omitempty"`
	// Model is the disk's own word for what it is; * and ? stand for others:
	// "Samsung*|INTEL*".
	Model string `yaml:"model,omitempty"`
	// Serial is its serial number, in the same way.
	Serial string `yaml:"serial,omitempty"`
	// WWN is its World Wide Name, in the same way.
	WWN string `yaml:"wwn,omitempty"`
	// Transport is how it is attached: "nvme", "sata", "sas", "scsi", "usb",
	// "virtio" or "mmc"; "nvme|sata" is either.
	Transport string `yaml:"transport,omitempty"`
	// Rotational tells disks that turn from those that do not.
	Rotational *bool `yaml:"rotational,omitempty"`
}

// Kernel is what is asked of the kernel beyond what the node needs itself.
type Kernel struct {
	// Modules to load, in this order.
	Modules []string `yaml:"modules,omitempty"`
	// Sysctls by their dotted names: "vm.max_map_count".
	Sysctls map[string]string `yaml:"sysctls,omitempty"`
}

// Kubelet is what is asked of this node's kubelet.
type Kubelet struct {
	// ExtraArgs are flags without their dashes, and their values.
	ExtraArgs map[string]string `yaml:"extraArgs,omitempty"`
	// NodeLabels are set when the node registers.
	NodeLabels map[string]string `yaml:"nodeLabels,omitempty"`
	// ShutdownGracePeriod is how long pods may take to end when the node goes
	// down: 0s to 1h. Critical pods have the last third of it.
	ShutdownGracePeriod time.Duration `yaml:"shutdownGracePeriod"`
	// DrainTimeout is how long a reboot or shutdown waits, before that, for pods
	// to be evicted as their PodDisruptionBudgets allow: 0s to 24h.
	DrainTimeout time.Duration `yaml:"drainTimeout"`
}

// Registries is where images are pulled from, and how. Without it every registry
// is asked itself, and without credentials.
type Registries struct {
	// Mirrors are asked before a registry, by its host as images name it:
	// "docker.io" or "registry.example.com:5000". "*" is every registry that is
	// not listed.
	Mirrors map[string]Mirror `yaml:"mirrors,omitempty"`
	// Config is how a registry or mirror is spoken to, by its host as it is
	// dialled. "*" is every one whose certificate nothing here is said about.
	Config map[string]RegistryHost `yaml:"config,omitempty"`
}

// Mirror is what is asked before a registry.
type Mirror struct {
	// Endpoints are URLs, asked in this order: "https://mirror.example.com". What
	// begins with http:// is spoken to without TLS.
	Endpoints []string `yaml:"endpoints"`
	// OverridePath says that the endpoints' paths are whole: "/v2" is not added.
	OverridePath bool `yaml:"overridePath,omitempty"`
	// SkipFallback leaves the registry itself out.
	SkipFallback bool `yaml:"skipFallback,omitempty"`
}

// RegistryHost is how one registry or mirror is spoken to.
type RegistryHost struct {
	// Auth proves who asks.
	Auth RegistryAuth `yaml:"auth,omitempty"`
	// TLS says whom to trust.
	TLS RegistryTLS `yaml:"tls,omitempty"`
}

// RegistryAuth is one of: Username and Password, Auth, IdentityToken. Pods may
// bring others by imagePullSecrets.
type RegistryAuth struct {
	// Username at the registry.
	Username string `yaml:"username,omitempty"`
	// Password that belongs to it.
	Password Secret `yaml:"password,omitempty"`
	// Auth is both as Docker writes them: base64 of "username:password".
	Auth Secret `yaml:"auth,omitempty"`
	// IdentityToken is changed for an access token at the registry.
	IdentityToken Secret `yaml:"identityToken,omitempty"`
}

// RegistryTLS is whom to trust. There is no way to trust everybody.
type RegistryTLS struct {
	// CA are certificates (PEM) of authorities that are trusted beside the public
	// ones.
	CA string `yaml:"ca,omitempty"`
	// ClientIdentity is shown to registries that ask for a client certificate.
	ClientIdentity ClientIdentity `yaml:"clientIdentity,omitempty"`
}

// ClientIdentity is a client's certificate and key (PEM).
type ClientIdentity struct {
	// Cert is the certificate (PEM).
	Cert string `yaml:"cert,omitempty"`
	// Key is the private key (PEM).
	Key Secret `yaml:"key,omitempty"`
}

// Cluster is what holds for every node of a cluster.
type Cluster struct {
	// Name is a DNS label.
	Name string `yaml:"name"`
	// Endpoint is the Kubernetes API's URL for clients outside the cluster.
	Endpoint          string         `yaml:"endpoint"`
	ControlPlane      ControlPlanes  `yaml:"controlPlane"`
	Network           ClusterNetwork `yaml:"network"`
	Etcd              Etcd           `yaml:"etcd"`
	APIServer         Component      `yaml:"apiServer,omitempty"`
	ControllerManager Component      `yaml:"controllerManager,omitempty"`
	Scheduler         Component      `yaml:"scheduler,omitempty"`
}

// ControlPlanes says where the control-plane nodes are.
type ControlPlanes struct {
	// Addresses of the control-plane nodes, IP addresses or DNS names:
	// "10.0.0.5". A node that joins asks them; it needs one that answers.
	Addresses []Host `yaml:"addresses"`
	// VirtualIPs are addresses that one healthy control-plane node holds at a
	// time, for clients outside the cluster: at most one IPv4 and one IPv6.
	VirtualIPs []netip.Addr `yaml:"virtualIPs,omitempty"`
}

// Host is an IP address or a DNS name.
type Host string

// Addr returns the address, if the host is one.
func (host Host) Addr() (netip.Addr, bool) {
	address, err := netip.ParseAddr(string(host))
	return address, err == nil
}

// ClusterNetwork is what pods and services live in.
type ClusterNetwork struct {
	// PodSubnet is where pods get their addresses; each node takes a /24 of it.
	PodSubnet netip.Prefix `yaml:"podSubnet"`
	// ServiceSubnet is where services get their addresses.
	ServiceSubnet netip.Prefix `yaml:"serviceSubnet"`
	// DNSDomain ends every service's name.
	DNSDomain string `yaml:"dnsDomain"`
	// CNI is CNIFlannel, or CNINone for a pod network of your own.
	CNI string `yaml:"cni"`
	// Backend is flannel's: BackendVXLAN, BackendHostGW or BackendWireGuard.
	Backend string `yaml:"backend"`
}

// Etcd is how patient etcd's members are with each other.
type Etcd struct {
	// HeartbeatInterval is how often the leader tells the others that it lives:
	// at least 10ms.
	HeartbeatInterval time.Duration `yaml:"heartbeatInterval"`
	// ElectionTimeout is how long the others wait for it before they elect a
	// new one: at least five heartbeats, at most 50s.
	ElectionTimeout time.Duration `yaml:"electionTimeout"`
	// Snapshots that are made by themselves.
	Snapshots EtcdSnapshots `yaml:"snapshots"`
}

// EtcdSnapshots says how often snapshots of etcd are made and where they go.
// Every control-plane node keeps some of its own on its disk.
type EtcdSnapshots struct {
	// Interval between two: at least 1m, or 0s for none.
	Interval time.Duration `yaml:"interval"`
	// Keep is how many a node keeps: at least 1.
	Keep int `yaml:"keep"`
	// MaxAge is when one is removed although it is among those; the newest
	// always stays. 0s is never.
	MaxAge time.Duration `yaml:"maxAge"`
	// S3 is a store that the leader sends its snapshots to.
	S3 S3Store `yaml:"s3,omitempty"`
}

// S3Store is a bucket of an S3-compatible store. The keys to it are
// secrets.snapshotStore.
type S3Store struct {
	// Endpoint is its URL: "https://s3.example.com". Empty: no store is used.
	Endpoint string `yaml:"endpoint,omitempty"`
	// Bucket that holds the snapshots; it must exist.
	Bucket string `yaml:"bucket,omitempty"`
	// Prefix begins the names of the objects; "keelson/CLUSTER/" is one.
	Prefix string `yaml:"prefix,omitempty"`
	// Region, where the store asks for one.
	Region string `yaml:"region,omitempty"`
	// CA is the certificate (PEM) of the store's authority, if it is not a
	// public one.
	CA string `yaml:"ca,omitempty"`
}

// Component is what is asked of one Kubernetes component.
type Component struct {
	// ExtraArgs are flags without their dashes, and their values.
	ExtraArgs map[string]string `yaml:"extraArgs,omitempty"`
}

// Secrets is what proves who belongs to the cluster. A worker holds no keys.
type Secrets struct {
	// ClusterID tells clusters of the same name apart; it is no secret.
	ClusterID string `yaml:"clusterID"`
	// JoinToken is what a new node proves itself with.
	JoinToken Secret `yaml:"joinToken"`
	// OSCA signs the clients and servers of the OS API.
	OSCA KeyPair `yaml:"osCA"`
	// KubernetesCA signs Kubernetes' clients and servers.
	KubernetesCA KeyPair `yaml:"kubernetesCA"`
	// EtcdCA signs etcd's members and clients.
	EtcdCA KeyPair `yaml:"etcdCA,omitempty"`
	// AggregatorCA signs the API server as a client of extension API servers.
	AggregatorCA KeyPair `yaml:"aggregatorCA,omitempty"`
	// ServiceAccountKey signs service-account tokens (PEM).
	ServiceAccountKey Secret `yaml:"serviceAccountKey,omitempty"`
	// EncryptionKey encrypts Kubernetes' secrets in etcd: 32 bytes in base64.
	EncryptionKey Secret `yaml:"encryptionKey,omitempty"`
	// SnapshotStore are the keys to cluster.etcd.snapshots.s3.
	SnapshotStore S3Keys `yaml:"snapshotStore,omitempty"`
}

// S3Keys prove to an S3-compatible store who asks.
type S3Keys struct {
	// AccessKeyID names the key.
	AccessKeyID string `yaml:"accessKeyID,omitempty"`
	// SecretAccessKey is the key itself.
	SecretAccessKey Secret `yaml:"secretAccessKey,omitempty"`
}

// KeyPair is a CA's certificate and, on control-plane nodes, its key (PEM).
type KeyPair struct {
	// Cert is the certificate (PEM).
	Cert string `yaml:"cert"`
	// Key is the private key (PEM); only control-plane nodes hold it.
	Key Secret `yaml:"key,omitempty"`
}

// PKI returns the pair in the form pkg/pki works with.
func (pair KeyPair) PKI() pki.KeyPair {
	return pki.KeyPair{Cert: []byte(pair.Cert), Key: []byte(pair.Key)}
}

// CA returns the pair as an authority that can sign. The key must be present.
func (pair KeyPair) CA() (*pki.CA, error) { return pki.ParseCA(pair.PKI()) }

// Secret is a text that is never printed: string(secret) reveals it.
type Secret string

const redacted = "[secret]"

// String hides the secret from fmt.
func (Secret) String() string { return redacted }

// GoString hides the secret from fmt's %#v.
func (Secret) GoString() string { return redacted }

// MarshalJSON hides the secret from encoding/json, and so from what slog finds
// deep inside a value. Only Encode writes secrets.
func (Secret) MarshalJSON() ([]byte, error) { return []byte(`"` + redacted + `"`), nil }

// LogValue hides the secret from slog.
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }
