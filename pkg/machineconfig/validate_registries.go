package machineconfig

import (
	"crypto/tls"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/keelson-os/keelson/pkg/pki"
)

// AnyRegistry is the name of what holds for every registry that is not listed.
const AnyRegistry = "*"

func (decoder *decoder) validateRegistries(registries *Registries) {
	const path = "machine.registries"
	for _, host := range slices.Sorted(maps.Keys(registries.Mirrors)) {
		mirror, here := registries.Mirrors[host], keyed(path+".mirrors", host)
		decoder.registryHost(here, host)
		if len(mirror.Endpoints) == 0 {
			decoder.failAt(here+".endpoints", `required: the mirrors' URLs such as "https://mirror.example.com"`)
		}
		for i, endpoint := range mirror.Endpoints {
			decoder.validateMirror(fmt.Sprintf("%s.endpoints[%d]", here, i), endpoint, registries.Config)
			if slices.Contains(mirror.Endpoints[:i], endpoint) {
				decoder.failAt(fmt.Sprintf("%s.endpoints[%d]", here, i), "%s is given twice", endpoint)
			}
		}
	}
	for _, host := range slices.Sorted(maps.Keys(registries.Config)) {
		config, here := registries.Config[host], keyed(path+".config", host)
		decoder.registryHost(here, host)
		if host == AnyRegistry && (config.Auth != RegistryAuth{} || config.TLS.ClientIdentity != ClientIdentity{}) {
			decoder.failAt(here, "every registry would be told who you are: give auth and clientIdentity by the registry's host")
		}
		decoder.validateRegistryAuth(here+".auth", &config.Auth)
		decoder.validateRegistryTLS(here+".tls", &config.TLS)
	}
}

// registryHost holds the name of a registry against what images' names begin with.
func (decoder *decoder) registryHost(path, host string) {
	switch {
	case host == AnyRegistry:
	case host == "index.docker.io", host == "registry-1.docker.io", host == "registry.hub.docker.com":
		decoder.failAt(path, `images of Docker Hub are named "docker.io": expected that`)
	case !validRegistryHost(host):
		decoder.failAt(path, `expected a registry's host such as "docker.io" or "registry.example.com:5000", or "*"`)
	}
}

// validRegistryHost tells whether a text is a host, in small letters, and
// perhaps a port.
func validRegistryHost(host string) bool {
	return host == strings.ToLower(host) && !strings.HasSuffix(host, "/") && validEndpoint("https://"+host)
}

func (decoder *decoder) validateMirror(path, endpoint string, config map[string]RegistryHost) {
	at, err := url.Parse(endpoint)
	if err != nil || at.Scheme != "https" && at.Scheme != "http" || at.User != nil || at.RawQuery != "" || at.Fragment != "" ||
		!validRegistryHost(at.Host) || strings.ContainsFunc(endpoint, func(char rune) bool { return char <= ' ' || char > '~' || strings.ContainsRune(`"'\`, char) }) {
		decoder.failAt(path, `expected a mirror's URL such as "https://mirror.example.com" or "https://mirror.example.com:5000/docker"`)
		return
	}
	if known, ok := config[at.Host]; ok && at.Scheme == "http" && known.Auth != (RegistryAuth{}) {
		decoder.failAt(path, "%s would get its credentials in the clear: expected https", at.Host)
	}
}

// validateRegistryAuth quotes nothing of what it looks at.
func (decoder *decoder) validateRegistryAuth(path string, auth *RegistryAuth) {
	forms := 0
	for _, given := range []bool{auth.Username != "" || auth.Password != "", auth.Auth != "", auth.IdentityToken != ""} {
		if given {
			forms++
		}
	}
	if forms > 1 {
		decoder.failAt(path, "expected one of: username and password, auth, identityToken")
	}
	if (auth.Username == "") != (auth.Password == "") {
		decoder.failAt(path, "username and password belong together")
	}
	for _, field := range []struct{ name, value string }{
		{".username", auth.Username}, {".password", string(auth.Password)}, {".identityToken", string(auth.IdentityToken)},
	} {
		if strings.ContainsFunc(field.value, unicode.IsControl) {
			decoder.failAt(path+field.name, "expected no line breaks or other control characters")
		}
	}
	if strings.Contains(auth.Username, ":") {
		decoder.failAt(path+".username", "expected no colon, which ends a user's name in HTTP")
	}
	if auth.Auth != "" {
		both, err := base64.StdEncoding.DecodeString(string(auth.Auth))
		if user, password, found := strings.Cut(string(both), ":"); err != nil || !found || user == "" || password == "" {
			decoder.failAt(path+".auth", `expected "username:password" in base64`)
		}
	}
}

func (decoder *decoder) validateRegistryTLS(path string, trust *RegistryTLS) {
	if trust.CA != "" {
		decoder.validateBundle(path+".ca", trust.CA)
	}
	if identity := trust.ClientIdentity; identity != (ClientIdentity{}) {
		if _, err := tls.X509KeyPair([]byte(identity.Cert), []byte(identity.Key)); err != nil {
			decoder.failAt(path+".clientIdentity", "expected a certificate and its key, both PEM: %s", err)
		}
	}
}

// validateBundle checks PEM certificates, one after the other.
func (decoder *decoder) validateBundle(path, text string) {
	rest := []byte(text)
	for count := 0; ; count++ {
		var block *pem.Block
		block, rest = pem.Decode(rest)
		if block == nil {
			if count == 0 || strings.TrimSpace(string(rest)) != "" {
				decoder.failAt(path, "expected certificates (PEM) and nothing else")
			}
			return
		}
		if _, err := pki.ParseCert(pem.EncodeToMemory(block)); err != nil {
			decoder.failAt(path, "%s", err)
			return
		}
	}
}

// UpstreamOf is the host that a registry's images really come from.
func UpstreamOf(registry string) string {
	if registry == "docker.io" {
		return "registry-1.docker.io"
	}
	return registry
}

// Host returns how a registry or mirror is spoken to that is dialled by a host.
// "docker.io" and its real name are one; ports that go without saying are not
// needed.
func (registries *Registries) Host(host string) RegistryHost {
	config, ok := registries.Config[host]
	if name, port, found := strings.Cut(host, ":"); !ok && found && port == "443" {
		config, ok = registries.Config[name]
	}
	if !ok && host == UpstreamOf("docker.io") {
		config = registries.Config["docker.io"]
	}
	if config.TLS.CA == "" {
		config.TLS.CA = registries.Config[AnyRegistry].TLS.CA
	}
	return config
}
