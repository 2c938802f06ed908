package machineconfig

import (
	"bytes"
	"fmt"
	"net/netip"

	"go.yaml.in/yaml/v3"
)

// header comes first in every document.
type header struct {
	APIVersion string `yaml:"apiVersion"`
	Kind       string `yaml:"kind"`
}

// Encode writes a config as YAML, one document for each part that is set, in
// the order Machine, Cluster, Secrets. The result holds the secrets in the
// clear: keep it in files of mode 0600.
func Encode(config *Config) ([]byte, error) {
	var documents []any
	if config.Machine != nil {
		documents = append(documents, struct {
			header  `yaml:",inline"`
			Machine `yaml:",inline"`
		}{header{APIVersion, KindMachine}, *config.Machine})
	}
	if config.Cluster != nil {
		documents = append(documents, struct {
			header  `yaml:",inline"`
			Cluster `yaml:",inline"`
		}{header{APIVersion, KindCluster}, *config.Cluster})
	}
	if config.Secrets != nil {
		documents = append(documents, struct {
			header  `yaml:",inline"`
			Secrets `yaml:",inline"`
		}{header{APIVersion, KindSecrets}, *config.Secrets})
	}
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	for _, document := range documents {
		if err := encoder.Encode(document); err != nil {
			return nil, fmt.Errorf("encode the machine config: %w", err)
		}
	}
	if err := encoder.Close(); err != nil {
		return nil, fmt.Errorf("encode the machine config: %w", err)
	}
	return out.Bytes(), nil
}

// MarshalYAML writes the gateway only when there is one: the encoder takes
// every netip.Addr for an empty struct, since its fields are private.
func (link Interface) MarshalYAML() (any, error) {
	view := struct {
		Name      string         `yaml:"name,omitempty"`
		MAC       string         `yaml:"mac,omitempty"`
		DHCP      bool           `yaml:"dhcp,omitempty"`
		Addresses []netip.Prefix `yaml:"addresses,omitempty"`
		Gateway   *netip.Addr    `yaml:"gateway,omitempty"`
		MTU       int            `yaml:"mtu,omitempty"`
	}{link.Name, link.MAC, link.DHCP, link.Addresses, nil, link.MTU}
	if link.Gateway.IsValid() {
		view.Gateway = &link.Gateway
	}
	return view, nil
}
