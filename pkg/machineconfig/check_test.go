package machineconfig

import (
	"net/netip"
	"testing"
)

func TestValidEndpoint(t *testing.T) {
	for text, want := range map[string]bool{
		"https://10.0.0.5:6443":        true,
		"https://10.0.0.5":             true,
		"https://[fd00::5]:6443/":      true,
		"https://[fd00::5]":            true,
		"https://Kube.Example.com:443": true,
		"http://10.0.0.5:6443":         false,
		"https://10.0.0.5:99999":       false,
		"https://10.0.0.5:0":           false,
		"https://10.0.0.5:":            false,
		"https://10.0.0.500:6443":      false,
		"https://10.0.0:6443":          false,
		"https://:6443":                false,
		"https://under_score:6443":     false,
		"https://user@10.0.0.5:6443":   false,
		"https://10.0.0.5:6443/path":   false,
		"https://10.0.0.5:6443?a=b":    false,
		"10.0.0.5:6443":                false,
		"":                             false,
	} {
		if got := validEndpoint(text); got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
}

func TestIsBroadcast(t *testing.T) {
	for text, want := range map[string]bool{
		"10.0.0.255/24":      true,
		"10.0.0.255/16":      false,
		"10.0.0.7/30":        true,
		"10.0.0.7/31":        false,
		"10.0.0.7/32":        false,
		"255.255.255.255/24": true,
		"fd00::ff/120":       false,
	} {
		if got := isBroadcast(netip.MustParsePrefix(text)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	if isBroadcast(netip.Prefix{}) {
		t.Error("no address is a broadcast address")
	}
}
