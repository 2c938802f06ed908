package network

import (
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// linkInfo is what is known of a link that the node has.
type linkInfo struct {
	name string
	mac  string // as net.HardwareAddr prints it
	// physical tells network cards from links that programs made.
	physical bool
}

// linkSettings is what one link shall be.
type linkSettings struct {
	name      string
	dhcp      bool
	addresses []netip.Prefix
	gateway   netip.Addr // invalid: none
	mtu       int        // zero: the link's own
}

// FieldError is a setting of the machine config that this node cannot fulfil.
type FieldError struct {
	// Field is the path in the config: "machine.network.interfaces[0].name".
	Field   string
	Message string
}

func (e *FieldError) Error() string { return e.Field + ": " + e.Message }

// settingsFor decides what each link shall be. Without interfaces in the config,
// or without a config at all, every network card asks DHCP.
func settingsFor(machine *machineconfig.Machine, links []linkInfo) ([]linkSettings, error) {
	if machine == nil || len(machine.Network.Interfaces) == 0 {
		var all []linkSettings
		for _, link := range links {
			if link.physical {
				all = append(all, linkSettings{name: link.name, dhcp: true})
			}
		}
		return all, nil
	}
	var all []linkSettings
	owner := map[string]string{} // link → the field that configures it
	for i, wanted := range machine.Network.Interfaces {
		field := fmt.Sprintf("machine.network.interfaces[%d]", i)
		link, err := findLink(wanted, field, links)
		if err != nil {
			return nil, err
		}
		if other, taken := owner[link.name]; taken {
			return nil, &FieldError{field, fmt.Sprintf("means the link %s, which %s configures already", link.name, other)}
		}
		owner[link.name] = field
		if err := checkInterface(wanted, field); err != nil {
			return nil, err
		}
		all = append(all, linkSettings{
			name:      link.name,
			dhcp:      wanted.DHCP,
			addresses: wanted.Addresses,
			gateway:   wanted.Gateway,
			mtu:       wanted.MTU,
		})
	}
	return all, nil
}

// findLink finds the link that an entry means by its name, its MAC, or both.
func findLink(wanted machineconfig.Interface, field string, links []linkInfo) (linkInfo, error) {
	field += ".name"
	mac := wanted.MAC
	if mac != "" {
		parsed, err := net.ParseMAC(mac)
		if err != nil {
			return linkInfo{}, &FieldError{strings.TrimSuffix(field, "name") + "mac", fmt.Sprintf("%q is not a hardware address such as 52:54:00:12:34:56", mac)}
		}
		mac = parsed.String()
		if wanted.Name == "" {
			field = strings.TrimSuffix(field, "name") + "mac"
		}
	}
	var here []string
	for _, link := range links {
		if (wanted.Name == "" || link.name == wanted.Name) && (mac == "" || link.mac == mac) {
			return link, nil
		}
		if link.physical {
			here = append(here, link.name+" ("+link.mac+")")
		}
	}
	if len(here) == 0 {
		here = []string{"none; the network card's driver may be missing"}
	}
	return linkInfo{}, &FieldError{field, fmt.Sprintf("no link %s; the links here: %s", strings.TrimSpace(wanted.Name+" "+mac), strings.Join(here, ", "))}
}

// checkInterface refuses what the kernel would refuse less clearly. (Package
// machineconfig checks files; a caller may hand over anything.)
func checkInterface(wanted machineconfig.Interface, field string) error {
	for i, address := range wanted.Addresses {
		if !address.IsValid() || address.Addr().IsUnspecified() || address.Addr().IsMulticast() || address.Addr().IsLoopback() {
			return &FieldError{fmt.Sprintf("%s.addresses[%d]", field, i), fmt.Sprintf("%s is not an address a link can have", address)}
		}
	}
	if !wanted.Gateway.IsValid() || wanted.DHCP {
		return nil
	}
	for _, address := range wanted.Addresses {
		if address.Contains(wanted.Gateway) {
			return nil
		}
	}
	return &FieldError{field + ".gateway", fmt.Sprintf("%s is in the network of none of the addresses", wanted.Gateway)}
}
