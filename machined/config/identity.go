package config

import (
	"context"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"slices"
	"strings"
)

// What a URL may ask about the machine, and the file of the kernel's that
// answers, as its firmware tells.
var firmwareFacts = map[string]string{
	"${uuid}":   "sys/class/dmi/id/product_uuid",
	"${serial}": "sys/class/dmi/id/product_serial",
}

// macVariable stands for the MAC address of the network card by which the
// server is reached, in lower case, with colons.
const macVariable = "${mac}"

// unknownError says what this machine's firmware does not tell.
type unknownError string

func (what unknownError) Error() string {
	return fmt.Sprintf("this machine's firmware does not tell what %s is", string(what))
}

// expand replaces what the URL asks about the machine. host is the URL's.
func expand(ctx context.Context, options Options, host string) (*url.URL, error) {
	text := options.URL
	for variable, file := range firmwareFacts {
		if !strings.Contains(text, variable) {
			continue
		}
		value, err := fs.ReadFile(options.Root, file)
		if err != nil || strings.TrimSpace(string(value)) == "" {
			return nil, unknownError(variable)
		}
		text = strings.ReplaceAll(text, variable, url.PathEscape(strings.TrimSpace(string(value))))
	}
	if strings.Contains(text, macVariable) {
		find := options.MAC
		if find == nil {
			find = cardTowards
		}
		mac, err := find(ctx, host)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", macVariable, err)
		}
		text = strings.ReplaceAll(text, macVariable, mac.String())
	}
	return parseURL(text)
}

// cardTowards is the MAC address of the network card that leads to a host. The
// kernel tells by routing a UDP socket, for which nothing is sent.
func cardTowards(ctx context.Context, host string) (net.HardwareAddr, error) {
	name, _, err := net.SplitHostPort(host)
	if err != nil {
		name = strings.Trim(host, "[]")
	}
	const discardPort = "9" // RFC 863; any would do
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(name, discardPort))
	if err != nil {
		return nil, fmt.Errorf("find the way to %s: %w", name, err)
	}
	defer conn.Close()
	local := conn.LocalAddr().(*net.UDPAddr).IP
	cards, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	for _, card := range cards {
		addresses, err := card.Addrs()
		if err != nil {
			continue // it went away
		}
		holds := func(a net.Addr) bool { prefix, ok := a.(*net.IPNet); return ok && prefix.IP.Equal(local) }
		if len(card.HardwareAddr) > 0 && slices.ContainsFunc(addresses, holds) {
			return card.HardwareAddr, nil
		}
	}
	return nil, fmt.Errorf("the way to %s, from %s, leads through no network card", name, local)
}
