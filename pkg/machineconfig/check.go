package machineconfig

import (
	"maps"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

var (
	dnsLabel   = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	dnsDomain  = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?(\.[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?)*$`)
	devicePath = regexp.MustCompile(`^/dev/[A-Za-z0-9][A-Za-z0-9_:+-]*(/[A-Za-z0-9][A-Za-z0-9._:+-]*)*$`)
	moduleName = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$`)
	sysctlName = regexp.MustCompile(`^[a-z0-9_]+([./][A-Za-z0-9_-]+)+$`)
	linkName   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,14}$`) // IFNAMSIZ is 16 with its end
	macAddress = regexp.MustCompile(`^([0-9A-Fa-f]{2}:){5}[0-9A-Fa-f]{2}$`)
	flagName   = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	labelName  = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?$`)
	labelValue = regexp.MustCompile(`^([A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?)?$`)
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	numericEnd = regexp.MustCompile(`(^|\.)[0-9]+$`)
	ownLabels  = regexp.MustCompile(`(^|\.)(kubelet|node)\.kubernetes\.io$|^topology\.kubernetes\.io$`)
)

func (decoder *decoder) required(path, value, where string) {
	if value == "" {
		decoder.failAt(path, "required%s", where)
	}
}

func (decoder *decoder) oneOf(path, value string, allowed ...string) {
	if slices.Contains(allowed, value) {
		return
	}
	choice := strings.Join(allowed, " or ")
	if value == "" {
		decoder.failAt(path, "required: %s", choice)
		return
	}
	decoder.failAt(path, "expected %s, found %q", choice, shorten(value))
}

func (decoder *decoder) between(path string, value, least, most time.Duration) {
	if value < least || value > most {
		decoder.failAt(path, "expected %s to %s, found %s", least, most, value)
	}
}

func (decoder *decoder) label(path, value string) {
	if value == "" {
		decoder.failAt(path, "required")
	} else if !dnsLabel.MatchString(value) {
		decoder.failAt(path, "expected a DNS label (at most 63 of a-z, 0-9 and -, beginning and ending with a letter or digit), found %q", shorten(value))
	}
}

// host refuses addresses that no single host on a network can have.
func (decoder *decoder) host(path string, address netip.Addr) {
	switch {
	case !address.IsValid():
		decoder.failAt(path, "required: an IP address")
	case address.Zone() != "":
		decoder.failAt(path, "%s has a zone, which names a link of one machine only", address)
	case address.Is4In6():
		decoder.failAt(path, "expected the IPv4 form %s", address.Unmap())
	case address.IsUnspecified(), address.IsMulticast(), address.IsLoopback(), address == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		decoder.failAt(path, "%s is not an address that a host on a network can have", address)
	}
}

// isBroadcast tells whether an IPv4 address means every host of its network.
// Networks of one or two addresses have none (RFC 3021).
func isBroadcast(address netip.Prefix) bool {
	if !address.Addr().Is4() || address.Bits() < 0 || address.Bits() > 30 {
		return false
	}
	next := address.Addr().Next()
	return !next.IsValid() || !address.Contains(next)
}

// validEndpoint tells whether a text is a URL of nothing but https, a host
// that can exist, and perhaps a port.
func validEndpoint(text string) bool {
	endpoint, err := url.Parse(text)
	if err != nil || endpoint.Scheme != "https" || endpoint.User != nil ||
		(endpoint.Path != "" && endpoint.Path != "/") || endpoint.RawQuery != "" || endpoint.Fragment != "" {
		return false
	}
	if _, port, found := strings.Cut(strings.TrimPrefix(endpoint.Host, "["+endpoint.Hostname()+"]"), ":"); found {
		if number, err := strconv.ParseUint(port, 10, 16); err != nil || number == 0 {
			return false
		}
	}
	host := endpoint.Hostname()
	if _, err := netip.ParseAddr(host); err == nil {
		return true
	}
	// No top-level domain is a number: 10.0.0.500 is a mistyped address.
	return dnsDomain.MatchString(strings.ToLower(host)) && !numericEnd.MatchString(host)
}

func (decoder *decoder) extraArgs(path string, args map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(args)) {
		if bare := strings.TrimLeft(name, "-"); bare != name && flagName.MatchString(bare) {
			decoder.failAt(keyed(path, name), "expected the flag without its dashes: %q", bare)
		} else if !flagName.MatchString(name) {
			decoder.failAt(keyed(path, name), `expected a flag's name without its dashes, such as "v"`)
		}
	}
}

// nodeLabels holds labels against Kubernetes' syntax and against what the
// NodeRestriction admission plugin lets a kubelet set on its own node: with
// any other the node could not register.
func (decoder *decoder) nodeLabels(path string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		here := keyed(path, key)
		prefix, name, prefixed := strings.Cut(key, "/")
		if !prefixed {
			prefix, name = "", key
		}
		switch {
		case prefixed && (!dnsDomain.MatchString(prefix) || len(prefix) > 253), !labelName.MatchString(name):
			decoder.failAt(here, `expected a label such as "example.com/rack"`)
		case reservedPrefix(prefix):
			decoder.failAt(here, "Kubernetes does not let a node give itself labels of %s: use node.kubernetes.io or a domain of yours", prefix)
		}
		if !labelValue.MatchString(labels[key]) {
			decoder.failAt(here, "expected a value of at most 63 letters, digits, -, _ and ., found %q", shorten(labels[key]))
		}
	}
}

// reservedPrefix tells whether a label's prefix is kept from kubelets.
func reservedPrefix(prefix string) bool {
	under := func(domain string) bool { return prefix == domain || strings.HasSuffix(prefix, "."+domain) }
	return (under("kubernetes.io") || under("k8s.io")) && !ownLabels.MatchString(prefix)
}

// keyed is the path of one entry of a dictionary.
func keyed(path, key string) string {
	return path + "[" + strconv.Quote(shorten(key)) + "]"
}
