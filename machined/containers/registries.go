package containers

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

const (
	// hostsDir holds one folder for each registry, named by its host as images
	// have it, with its hosts.toml (containerd's docs/hosts.md).
	hostsDir  = "registries"
	hostsFile = "hosts.toml"
	// anyHost is the folder of registries that have none.
	anyHost = "_default"
	// trustDir holds the certificates and keys that hosts.toml files name.
	trustDir = "trust"
)

// dialTimeout is how long a registry or mirror may take to be connected to, its
// name's address included: what a node pays whose packets get lost. It leaves
// time for a second nameserver after one that is silent for 5 s. containerd's
// own limit is 30 s.
const dialTimeout = "10s"

// registryFiles renders how images are pulled: the files of each folder, by
// folders below the config's. Some hold keys.
func registryFiles(configDir string, registries *machineconfig.Registries) map[string]map[string][]byte {
	trust := &trust{dir: filepath.Join(configDir, trustDir), files: map[string][]byte{}}
	folders := map[string]map[string][]byte{trustDir: trust.files}
	hosts := map[string]bool{machineconfig.AnyRegistry: true}
	for host := range registries.Mirrors {
		hosts[host] = true
	}
	for host := range registries.Config {
		hosts[host] = true
	}
	for host := range hosts {
		folder := host
		if host == machineconfig.AnyRegistry {
			folder = anyHost
		}
		folders[filepath.Join(hostsDir, folder)] = map[string][]byte{hostsFile: hostsText(host, registries, trust)}
	}
	return folders
}

// hostsText is one registry's hosts.toml: first the registry itself, which
// containerd asks last, then the mirrors in their order.
func hostsText(host string, registries *machineconfig.Registries, trust *trust) []byte {
	mirror, ok := registries.Mirrors[host]
	if !ok {
		mirror = registries.Mirrors[machineconfig.AnyRegistry]
	}
	endpoints := slices.Clone(mirror.Endpoints)
	var text strings.Builder
	switch {
	case mirror.SkipFallback && len(endpoints) > 0:
		// What stands in the registry's place is never left out.
		last := endpoints[len(endpoints)-1]
		endpoints = endpoints[:len(endpoints)-1]
		fmt.Fprintf(&text, "server = %s\n", quote(last))
		writeHost(&text, "", last, mirror.OverridePath, registries, trust)
	case host == machineconfig.AnyRegistry:
		// The server is the one that the image names.
		writeHost(&text, "", "https://"+host, false, registries, trust)
	default:
		server := "https://" + machineconfig.UpstreamOf(host)
		fmt.Fprintf(&text, "server = %s\n", quote(server))
		writeHost(&text, "", server, false, registries, trust)
		// A mirror of all registries is none of itself.
		endpoints = slices.DeleteFunc(endpoints, func(endpoint string) bool { return endpoint == server })
	}
	for _, endpoint := range endpoints {
		fmt.Fprintf(&text, "\n[host.%s]\n", quote(endpoint))
		writeHost(&text, "  ", endpoint, mirror.OverridePath, registries, trust)
	}
	return []byte(text.String())
}

func writeHost(text *strings.Builder, indent, endpoint string, overridePath bool, registries *machineconfig.Registries, trust *trust) {
	fmt.Fprintf(text, "%scapabilities = [\"pull\", \"resolve\"]\n%sdial_timeout = %s\n", indent, indent, quote(dialTimeout))
	if overridePath {
		fmt.Fprintf(text, "%soverride_path = true\n", indent)
	}
	at, err := url.Parse(endpoint)
	if err != nil || at.Scheme != "https" {
		// containerd would try TLS first if anything was said about it.
		return
	}
	tls := registries.Host(at.Host).TLS
	if tls.CA != "" {
		fmt.Fprintf(text, "%sca = %s\n", indent, quote(trust.file(at.Host, ".ca.pem", tls.CA)))
	}
	if tls.ClientIdentity.Cert != "" {
		fmt.Fprintf(text, "%sclient = [[%s, %s]]\n", indent,
			quote(trust.file(at.Host, ".cert.pem", tls.ClientIdentity.Cert)), quote(trust.file(at.Host, ".key.pem", string(tls.ClientIdentity.Key))))
	}
}

// trust is the files that hosts.toml files name.
type trust struct {
	dir   string
	files map[string][]byte
}

func (t *trust) file(host, suffix, content string) string {
	if host == machineconfig.AnyRegistry {
		host = anyHost
	}
	name := host + suffix
	t.files[name] = []byte(content)
	return filepath.Join(t.dir, name)
}

// credential is what containerd's configuration has of a registry.
type credential struct {
	Host string
	Auth machineconfig.RegistryAuth
}

// credentials are those of every host that is dialled, by name. hosts.toml has
// no place for them. kubelet's credential providers know the registry only that
// an image names: what is meant for it would be sent to its mirrors, too.
func credentials(registries *machineconfig.Registries) []credential {
	var list []credential
	for _, host := range slices.Sorted(maps.Keys(registries.Config)) {
		if auth := registries.Config[host].Auth; auth != (machineconfig.RegistryAuth{}) {
			list = append(list, credential{machineconfig.UpstreamOf(host), auth})
		}
	}
	return list
}

// quote writes a text as TOML, which reads all of JSON's strings. It reveals
// secrets.
func quote[T ~string](text T) string {
	quoted, _ := json.Marshal(string(text)) // a string: never fails
	return string(quoted)
}
