package join

import (
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
)

// Limits of one request.
const (
	maxRequests  = 8
	maxCSR       = 4 << 10 // bytes; one of RSA 8192 has 3
	maxAddresses = 16
)

var (
	dnsLabel  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	machineID = regexp.MustCompile(`^[0-9a-f]{32}$`) // machine-id(5)
)

// claim is what a node says of itself, checked.
type claim struct {
	hostname, machineID string
	addresses           []netip.Addr
}

// rules say what no worker may claim: with a certificate for one of these it
// could pass for the control plane.
type rules struct {
	names     []string
	addresses []netip.Addr
	subnets   []netip.Prefix
}

func newRules(options SignerOptions) rules {
	cluster := options.Config.Cluster
	r := rules{
		// Kubernetes' authority signs the API server under these names, too.
		names:     []string{"localhost", "kubernetes", options.Hostname},
		addresses: slices.Concat(options.Addresses, cluster.ControlPlane.VirtualIPs),
		subnets:   []netip.Prefix{cluster.Network.ServiceSubnet, cluster.Network.PodSubnet},
	}
	reserve := func(host string) {
		if address, err := netip.ParseAddr(host); err == nil {
			r.addresses = append(r.addresses, address.Unmap())
		} else {
			r.names = append(r.names, strings.ToLower(host)) // case makes no other name
		}
	}
	for _, host := range cluster.ControlPlane.Addresses {
		reserve(string(host))
	}
	if endpoint, err := url.Parse(cluster.Endpoint); err == nil {
		reserve(endpoint.Hostname())
	}
	return r
}

// check reads a request. nodes are those there are.
func (r rules) check(request *joinpb.JoinRequest, nodes []Node) (claim, error) {
	claimed := claim{hostname: request.GetHostname(), machineID: request.GetMachineId()}
	if !dnsLabel.MatchString(claimed.hostname) {
		return claim{}, invalid("hostname %q: expected a DNS label (at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit); set machine.hostname", shorten(claimed.hostname))
	}
	if !machineID.MatchString(claimed.machineID) {
		return claim{}, invalid("machine ID %q: expected 32 hexadecimal digits", shorten(claimed.machineID))
	}
	isControlPlane := func(node Node) bool { return node.ControlPlane && node.Name == claimed.hostname }
	if slices.Contains(r.names, claimed.hostname) || slices.ContainsFunc(nodes, isControlPlane) {
		return claim{}, status.Errorf(codes.AlreadyExists, "the name %s is the control plane's: give this node another machine.hostname", claimed.hostname)
	}
	if count := len(request.GetAddresses()); count == 0 || count > maxAddresses {
		return claim{}, invalid("%d addresses: expected 1 to %d", count, maxAddresses)
	}
	for _, text := range request.GetAddresses() {
		address, err := r.address(text, claimed.hostname, nodes)
		if err != nil {
			return claim{}, err
		}
		claimed.addresses = append(claimed.addresses, address)
	}
	return claimed, checkRequests(request.GetRequests())
}

// address reads one that the node claims.
func (r rules) address(text, hostname string, nodes []Node) (netip.Addr, error) {
	address, err := netip.ParseAddr(text)
	if err != nil || !usable(address) {
		return netip.Addr{}, invalid("address %q: expected an IP address that a host on a network can have", shorten(text))
	}
	if slices.Contains(r.addresses, address) {
		return netip.Addr{}, invalid("address %s is the control plane's: give this node another one", address)
	}
	for _, subnet := range r.subnets {
		if subnet.Contains(address) {
			return netip.Addr{}, invalid("address %s is in the cluster's own subnet %s: give this node one outside of it", address, subnet)
		}
	}
	for _, node := range nodes {
		// Those of a worker that is away may have been given to another since.
		if node.Name != hostname && (node.Ready || node.ControlPlane) && slices.Contains(node.Addresses, address) {
			return netip.Addr{}, status.Errorf(codes.AlreadyExists, "address %s is that of node %s: give one of them another", address, node.Name)
		}
	}
	return address, nil
}

// usable tells whether a host can be reached by an address from others.
func usable(address netip.Addr) bool {
	return address.IsGlobalUnicast() && !address.Is4In6() && address.Zone() == ""
}

func checkRequests(requests []*joinpb.CertificateRequest) error {
	if len(requests) == 0 || len(requests) > maxRequests {
		return invalid("%d certificate requests: expected 1 to %d", len(requests), maxRequests)
	}
	seen := map[joinpb.CertificateRequest_Use]bool{}
	for _, each := range requests {
		use := each.GetUse()
		if _, known := profiles[use]; !known {
			return invalid("a certificate for use %s: this version signs none; update the control plane first", use)
		}
		if seen[use] {
			return invalid("%s is requested twice", use)
		}
		if len(each.GetCsr()) > maxCSR {
			return invalid("%s: a certificate request of %d bytes; at most %d are read", use, len(each.GetCsr()), maxCSR)
		}
		seen[use] = true
	}
	return nil
}

func invalid(format string, args ...any) error {
	return status.Errorf(codes.InvalidArgument, format, args...)
}

// shorten keeps a text of a request from filling a message.
func shorten(text string) string { return shortenTo(text, 80) }

// shortenTo also keeps what is no text out of the API, which would answer nothing
// at all then.
func shortenTo(text string, most int) string {
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…" // the cut may go through a character
	}
	return strings.ToValidUTF8(text, "\uFFFD")
}
