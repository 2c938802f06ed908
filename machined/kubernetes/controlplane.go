package kubernetes

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
)

// WatchControlPlane follows where the cluster's API servers are, until ctx
// ends, and calls changed with their addresses in order, first with those there
// are. Each API server keeps its own among the endpoints of the Service
// "kubernetes" by a lease, so that one that died is gone after some seconds.
func (k *Kubernetes) WatchControlPlane(ctx context.Context, changed func([]netip.AddrPort)) {
	slicesOf := map[string][]netip.AddrPort{}
	tell := func() {
		var all []netip.AddrPort
		for _, addresses := range slicesOf {
			all = append(all, addresses...)
		}
		slices.SortFunc(all, netip.AddrPort.Compare)
		if len(all) > 0 { // none at all is a cluster that is being made
			changed(slices.Compact(all))
		}
	}
	k.follow(ctx, collection{
		what:  "the control plane's addresses",
		path:  "/apis/discovery.k8s.io/v1/namespaces/default/endpointslices",
		query: url.Values{"fieldSelector": {"metadata.name=kubernetes"}},
		list: func(items []json.RawMessage) error {
			clear(slicesOf)
			for _, item := range items {
				name, addresses, err := parseEndpoints(item)
				if err != nil {
					return err
				}
				slicesOf[name] = addresses
			}
			tell()
			return nil
		},
		changed: func(kind string, object json.RawMessage) error {
			name, addresses, err := parseEndpoints(object)
			if err != nil {
				return err
			}
			if kind == "DELETED" {
				addresses = nil
			}
			slicesOf[name] = addresses
			tell()
			return nil
		},
	})
}

// parseEndpoints reads the part of an EndpointSlice that is used here.
func parseEndpoints(text json.RawMessage) (name string, addresses []netip.AddrPort, err error) {
	var slice struct {
		Metadata struct {
			Name string `json:"name"`
		} `json:"metadata"`
		Endpoints []struct {
			Addresses  []string `json:"addresses"`
			Conditions struct {
				Ready *bool `json:"ready"` // unknown means ready
			} `json:"conditions"`
		} `json:"endpoints"`
		Ports []struct {
			Port uint16 `json:"port"`
		} `json:"ports"`
	}
	if err := json.Unmarshal(text, &slice); err != nil {
		return "", nil, fmt.Errorf("read the control plane's addresses: %w", err)
	}
	for _, endpoint := range slice.Endpoints {
		if ready := endpoint.Conditions.Ready; ready != nil && !*ready {
			continue
		}
		for _, text := range endpoint.Addresses {
			address, err := netip.ParseAddr(text)
			if err != nil {
				return "", nil, fmt.Errorf("read the control plane's addresses: %w", err)
			}
			for _, port := range slice.Ports {
				addresses = append(addresses, netip.AddrPortFrom(address, port.Port))
			}
		}
	}
	return slice.Metadata.Name, addresses, nil
}
