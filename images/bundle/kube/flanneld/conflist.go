package flanneld

import (
	"encoding/json"
	"fmt"
)

// ipamDir holds which addresses are taken. It is in memory: after a reboot no
// pod has an address any more.
const ipamDir = "/run/keelson/ipam"

// conflist is the CNI configuration of this node: pods hang on a bridge of
// subnet, at the MTU that the network between the nodes leaves.
func conflist(subnet string, mtu int) ([]byte, error) {
	type object map[string]any
	text, err := json.MarshalIndent(object{
		"cniVersion": "1.0.0",
		"name":       "keelson",
		"plugins": []object{
			{
				"type":             "bridge",
				"bridge":           "cni0",
				"isDefaultGateway": true,
				"hairpinMode":      true,  // a pod may reach itself through its Service
				"ipMasq":           false, // flannel's rules do that
				"mtu":              mtu,
				"ipam": object{
					"type":    "host-local",
					"ranges":  [][]object{{{"subnet": subnet}}},
					"dataDir": ipamDir,
				},
			},
			{
				"type":         "portmap",
				"backend":      "nftables",
				"capabilities": object{"portMappings": true},
			},
		},
	}, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("render the CNI configuration: %w", err)
	}
	return append(text, '\n'), nil
}
