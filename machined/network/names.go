package network

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/renameio/v2"
)

// maxNameservers is what resolvers read (resolv.conf(5), MAXNS).
const maxNameservers = 3

// chooseHostname picks the node's name: the config's, else the one DHCP gave,
// else one made from a card's hardware address, which stays the same over
// reboots. Kubernetes knows the node by it.
func chooseHostname(configured, fromDHCP, mac string) string {
	if configured != "" {
		return configured
	}
	if name, ok := dnsLabel(fromDHCP); ok {
		return name
	}
	if mac == "" {
		return "keelson"
	}
	return "keelson-" + strings.ReplaceAll(mac, ":", "")
}

// dnsLabel takes the first label of a name and tells whether it can be a host's
// (RFC 1123).
func dnsLabel(name string) (string, bool) {
	label, _, _ := strings.Cut(strings.ToLower(strings.TrimRight(name, "\x00")), ".")
	outside := func(r rune) bool { return (r < 'a' || r > 'z') && (r < '0' || r > '9') && r != '-' }
	if label == "" || len(label) > 63 || label == "localhost" || strings.ContainsFunc(label, outside) ||
		strings.HasPrefix(label, "-") || strings.HasSuffix(label, "-") {
		return "", false
	}
	return label, true
}

// searchDomain tells whether every label of a domain from DHCP may stand in
// resolv.conf: a newline in it would add lines of the server's choice.
func searchDomain(domain string) (string, bool) {
	domain = strings.Trim(domain, ".\x00")
	for label := range strings.SplitSeq(domain, ".") {
		if _, ok := dnsLabel(label); !ok {
			return "", false
		}
	}
	return strings.ToLower(domain), true
}

// mergeNameservers keeps the first few different ones, the config's first.
func mergeNameservers(configured []netip.Addr, fromDHCP ...[]netip.Addr) []netip.Addr {
	var all []netip.Addr
	for _, server := range append(slices.Clone(configured), slices.Concat(fromDHCP...)...) {
		if !slices.Contains(all, server) && len(all) < maxNameservers {
			all = append(all, server)
		}
	}
	return all
}

// etcFiles is the content of the files in Options.Dir, by name.
func etcFiles(s State) map[string][]byte {
	var resolv, hosts bytes.Buffer
	fmt.Fprintln(&resolv, "# Made by machined from the machine config and DHCP.")
	for _, server := range s.Nameservers {
		fmt.Fprintln(&resolv, "nameserver", server)
	}
	if s.Domain != "" {
		fmt.Fprintln(&resolv, "search", s.Domain)
	}
	fmt.Fprintln(&hosts, "127.0.0.1 localhost")
	fmt.Fprintln(&hosts, "::1 localhost ip6-localhost ip6-loopback")
	if s.NodeIP.IsValid() {
		fmt.Fprintln(&hosts, s.NodeIP, s.Hostname)
	}
	return map[string][]byte{
		"resolv.conf": resolv.Bytes(),
		"hosts":       hosts.Bytes(),
		"hostname":    []byte(s.Hostname + "\n"),
	}
}

// writeEtc replaces those files that changed, each in one step. Everyone on the
// node may read them.
func writeEtc(dir string, s State) error {
	var failed []error
	for name, content := range etcFiles(s) {
		path := filepath.Join(dir, name)
		if old, err := os.ReadFile(path); err == nil && bytes.Equal(old, content) {
			continue
		}
		if err := renameio.WriteFile(path, content, 0o644, renameio.WithTempDir(dir)); err != nil {
			failed = append(failed, fmt.Errorf("write %s: %w", path, err))
		}
	}
	return errors.Join(failed...)
}
