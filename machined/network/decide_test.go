package network

import (
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

var (
	compareAddresses = cmp.Comparer(func(a, b netip.Addr) bool { return a == b })
	comparePrefixes  = cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	unexported       = cmp.AllowUnexported(linkSettings{}, route{})
)

func addr(s string) netip.Addr     { return netip.MustParseAddr(s) }
func prefix(s string) netip.Prefix { return netip.MustParsePrefix(s) }

func TestChooseNodeIP(t *testing.T) {
	for name, test := range map[string]struct {
		candidates []candidate
		want       netip.Addr
	}{
		"none":               {nil, netip.Addr{}},
		"only local ones":    {[]candidate{{address: addr("127.0.0.1")}, {address: addr("169.254.20.10")}, {address: addr("fe80::1")}}, netip.Addr{}},
		"gateway wins":       {[]candidate{{address: addr("10.0.0.5"), static: true}, {address: addr("192.168.1.5"), gateway: true, order: 1}}, addr("192.168.1.5")},
		"fixed before DHCP":  {[]candidate{{address: addr("10.0.0.5"), gateway: true}, {address: addr("10.0.0.9"), gateway: true, static: true}}, addr("10.0.0.9")},
		"first link":         {[]candidate{{address: addr("10.0.0.5"), order: 1}, {address: addr("10.0.0.9")}}, addr("10.0.0.9")},
		"lower of one link":  {[]candidate{{address: addr("10.0.0.9")}, {address: addr("10.0.0.5")}}, addr("10.0.0.5")},
		"IPv4 before IPv6":   {[]candidate{{address: addr("2001:db8::5"), gateway: true, static: true}, {address: addr("10.0.0.5")}}, addr("10.0.0.5")},
		"IPv6 if nothing is": {[]candidate{{address: addr("2001:db8::5")}}, addr("2001:db8::5")},
	} {
		if got := chooseNodeIP(test.candidates); got != test.want {
			t.Errorf("%s: %s, want %s", name, got, test.want)
		}
	}
}

var threeLinks = []linkInfo{
	{"lo", "", false},
	{"eth0", "52:54:00:00:00:01", true},
	{"eth1", "52:54:00:00:00:02", true},
	{"bridge0", "52:54:00:00:00:03", false},
}

func machine(interfaces ...machineconfig.Interface) *machineconfig.Machine {
	return &machineconfig.Machine{Network: machineconfig.Network{Interfaces: interfaces}}
}

func TestSettingsFor(t *testing.T) {
	everyCard := []linkSettings{{name: "eth0", dhcp: true}, {name: "eth1", dhcp: true}}
	for name, test := range map[string]struct {
		machine *machineconfig.Machine
		want    []linkSettings
	}{
		"no config":     {nil, everyCard},
		"no interfaces": {machine(), everyCard},
		"by MAC": {machine(machineconfig.Interface{MAC: "52:54:00:00:00:02", DHCP: true, MTU: 1400}),
			[]linkSettings{{name: "eth1", dhcp: true, mtu: 1400}}},
		"fixed": {machine(machineconfig.Interface{Name: "eth0", Addresses: []netip.Prefix{prefix("10.0.0.5/24")}, Gateway: addr("10.0.0.1")}),
			[]linkSettings{{name: "eth0", addresses: []netip.Prefix{prefix("10.0.0.5/24")}, gateway: addr("10.0.0.1")}}},
	} {
		got, err := settingsFor(test.machine, threeLinks)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(test.want, got, compareAddresses, comparePrefixes, unexported); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSettingsForNamesTheField(t *testing.T) {
	dhcp := func(i machineconfig.Interface) machineconfig.Interface { i.DHCP = true; return i }
	for want, interfaces := range map[string][]machineconfig.Interface{
		`machine.network.interfaces[1].name: no link eth7; the links here: eth0 (52:54:00:00:00:01), eth1 (52:54:00:00:00:02)`: {
			dhcp(machineconfig.Interface{Name: "eth0"}), dhcp(machineconfig.Interface{Name: "eth7"})},
		`machine.network.interfaces[0].mac: no link 52:54:00:00:00:99;`: {dhcp(machineconfig.Interface{MAC: "52:54:00:00:00:99"})},
		`machine.network.interfaces[0].mac: "nonsense" is not`:          {dhcp(machineconfig.Interface{MAC: "nonsense"})},
		`machine.network.interfaces[1]: means the link eth0, which machine.network.interfaces[0] configures already`: {
			dhcp(machineconfig.Interface{Name: "eth0"}), dhcp(machineconfig.Interface{MAC: "52:54:00:00:00:01"})},
		`machine.network.interfaces[0].addresses[1]: 127.0.0.2/8 is not`: {
			{Name: "eth0", Addresses: []netip.Prefix{prefix("10.0.0.5/24"), prefix("127.0.0.2/8")}}},
		`machine.network.interfaces[0].gateway: 10.0.1.1 is in the network of none`: {
			{Name: "eth0", Addresses: []netip.Prefix{prefix("10.0.0.5/24")}, Gateway: addr("10.0.1.1")}},
	} {
		_, err := settingsFor(machine(interfaces...), threeLinks)
		var field *FieldError
		if !errors.As(err, &field) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	if _, err := settingsFor(machine(dhcp(machineconfig.Interface{Name: "eth0"})), nil); err == nil || !strings.Contains(err.Error(), "driver may be missing") {
		t.Errorf("no cards: %v", err)
	}
}

func TestChooseHostname(t *testing.T) {
	for _, test := range []struct{ configured, dhcp, mac, want string }{
		{"node-1", "other", "52:54:00:00:00:01", "node-1"},
		{"", "Node-2.example.com", "52:54:00:00:00:01", "node-2"},
		{"", "bad_name", "52:54:00:00:00:01", "keelson-525400000001"},
		{"", "localhost", "52:54:00:00:00:01", "keelson-525400000001"},
		{"", "", "", "keelson"},
	} {
		if got := chooseHostname(test.configured, test.dhcp, test.mac); got != test.want {
			t.Errorf("%+v: %s", test, got)
		}
	}
}

func TestEtcFiles(t *testing.T) {
	files := etcFiles(State{
		NodeIP:      addr("10.0.0.5"),
		Hostname:    "node-1",
		Nameservers: mergeNameservers([]netip.Addr{addr("1.1.1.1")}, []netip.Addr{addr("10.0.0.1"), addr("1.1.1.1")}, []netip.Addr{addr("10.0.0.2"), addr("10.0.0.3")}),
		Domain:      "example.com",
	})
	for name, want := range map[string]string{
		"resolv.conf": "# Made by machined from the machine config and DHCP.\nnameserver 1.1.1.1\nnameserver 10.0.0.1\nnameserver 10.0.0.2\nsearch example.com\n",
		"hosts":       "127.0.0.1 localhost\n::1 localhost ip6-localhost ip6-loopback\n10.0.0.5 node-1\n",
		"hostname":    "node-1\n",
	} {
		if diff := cmp.Diff(want, string(files[name])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

func TestSearchDomain(t *testing.T) {
	for domain, want := range map[string]string{
		"Example.COM.":                  "example.com",
		"lan":                           "lan",
		"":                              "",
		"a b":                           "",
		"evil\nnameserver 203.0.113.66": "",
	} {
		if got, ok := searchDomain(domain); got != want || ok != (want != "") {
			t.Errorf("%q: %q, %v", domain, got, ok)
		}
	}
}

func ack(t *testing.T, options ...dhcpv4.Option) *dhcpv4.DHCPv4 {
	t.Helper()
	message, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)))
	if err != nil {
		t.Fatal(err)
	}
	for _, option := range options {
		message.UpdateOption(option)
	}
	return message
}

func TestParseLease(t *testing.T) {
	now := time.Unix(1_000_000, 0)
	mask := dhcpv4.OptSubnetMask(net.CIDRMask(24, 32))
	router := dhcpv4.OptRouter(net.IPv4(10, 0, 0, 1))
	times := func(total, renew, rebind time.Duration) []dhcpv4.Option {
		return []dhcpv4.Option{mask, router, dhcpv4.OptIPAddressLeaseTime(total),
			dhcpv4.OptRenewTimeValue(renew), dhcpv4.OptGeneric(dhcpv4.OptionRebindingTimeValue, dhcpv4.Duration(rebind).ToBytes())}
	}
	classless := dhcpv4.OptClasslessStaticRoute(
		&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(10, 9, 0, 0), Mask: net.CIDRMask(16, 32)}, Router: net.IPv4(10, 0, 0, 2)},
		&dhcpv4.Route{Dest: &net.IPNet{IP: net.IPv4(10, 8, 0, 0), Mask: net.CIDRMask(16, 32)}, Router: net.IPv4zero},
	)
	defaultRoute := []route{{prefix("0.0.0.0/0"), addr("10.0.0.1")}}
	for name, test := range map[string]struct {
		options               []dhcpv4.Option
		address               string
		routes                []route
		renew, rebind, expire time.Duration
	}{
		"plain":          {[]dhcpv4.Option{mask, router, dhcpv4.OptIPAddressLeaseTime(800 * time.Second)}, "10.0.0.5/24", defaultRoute, 400 * time.Second, 700 * time.Second, 800 * time.Second},
		"nothing said":   {nil, "10.0.0.5/32", nil, 30 * time.Minute, 3150 * time.Second, time.Hour},
		"own times":      {times(100*time.Second, 10*time.Second, 20*time.Second), "10.0.0.5/24", defaultRoute, 10 * time.Second, 20 * time.Second, 100 * time.Second},
		"absurd times":   {times(800*time.Second, 900*time.Second, 1000*time.Second), "10.0.0.5/24", defaultRoute, 400 * time.Second, 700 * time.Second, 800 * time.Second},
		"renew too late": {times(800*time.Second, 300*time.Second, 70*time.Second), "10.0.0.5/24", defaultRoute, 40 * time.Second, 70 * time.Second, 800 * time.Second},
		"routes": {[]dhcpv4.Option{mask, router, classless, dhcpv4.OptIPAddressLeaseTime(800 * time.Second)}, "10.0.0.5/24",
			[]route{{prefix("10.9.0.0/16"), addr("10.0.0.2")}, {prefix("10.8.0.0/16"), netip.Addr{}}}, 400 * time.Second, 700 * time.Second, 800 * time.Second},
	} {
		l, err := parseLease(ack(t, test.options...), now)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if l.address != prefix(test.address) {
			t.Errorf("%s: address %s", name, l.address)
		}
		if diff := cmp.Diff(test.routes, l.routes, compareAddresses, comparePrefixes, unexported); diff != "" {
			t.Errorf("%s: routes (-want +got):\n%s", name, diff)
		}
		got := []time.Duration{l.renew.Sub(now), l.rebind.Sub(now), l.expire.Sub(now)}
		if diff := cmp.Diff([]time.Duration{test.renew, test.rebind, test.expire}, got); diff != "" {
			t.Errorf("%s: times (-want +got):\n%s", name, diff)
		}
	}
	for _, bad := range []*dhcpv4.DHCPv4{
		ack(t, dhcpv4.OptIPAddressLeaseTime(0)),
		func() *dhcpv4.DHCPv4 { m := ack(t); m.YourIPAddr = net.IPv4zero; return m }(),
		func() *dhcpv4.DHCPv4 { m := ack(t); m.YourIPAddr = net.IPv4bcast; return m }(),
	} {
		if l, err := parseLease(bad, now); err == nil {
			t.Errorf("%s gave a lease of %s", bad.Summary(), l.address)
		}
	}
}

func FuzzParseLease(f *testing.F) {
	seed, err := dhcpv4.New(dhcpv4.WithYourIP(net.IPv4(10, 0, 0, 5)), dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(60))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed.ToBytes())
	now := time.Unix(1_000_000, 0)
	f.Fuzz(func(t *testing.T, packet []byte) {
		message, err := dhcpv4.FromBytes(packet)
		if err != nil {
			return
		}
		l, err := parseLease(message, now)
		if err != nil {
			return
		}
		if !l.address.IsValid() || !now.Before(l.renew) || !l.renew.Before(l.rebind) || !l.rebind.Before(l.expire) {
			t.Errorf("address %s, renew %s, rebind %s, expire %s", l.address, l.renew, l.rebind, l.expire)
		}
	})
}

func TestNextStep(t *testing.T) {
	start := time.Unix(1_000_000, 0)
	at := func(seconds int) time.Time { return start.Add(time.Duration(seconds) * time.Second) }
	l := &lease{renew: at(1000), rebind: at(1750), expire: at(2000)}
	for _, test := range []struct {
		now  int
		step leaseStep
		at   int
	}{
		{0, renewLease, 1000},
		{1000, renewLease, 1375}, // the first attempt failed: half of the time to 1750
		{1700, rebindLease, 1750},
		{1750, rebindLease, 1875},
		{1875, rebindLease, 1938}, // 62.5 s, rounded below
		{1941, giveUpLease, 2000},
		{2500, giveUpLease, 2000},
	} {
		step, when := l.next(at(test.now))
		if step != test.step || when.Round(time.Second) != at(test.at) {
			t.Errorf("at %d: step %d at %s", test.now, step, when.Sub(start))
		}
	}
}
