package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/nclient4"
)

// requested is what the node can use of what a server can tell.
var requested = []dhcpv4.OptionCode{
	dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionClasslessStaticRoute,
	dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.OptionHostName, dhcpv4.OptionInterfaceMTU,
}

const (
	// The first answer is awaited this long, each next one twice as long.
	firstTimeout = 2 * time.Second
	tries        = 3
	// Pauses between whole attempts grow to the longest.
	firstPause, longestPause = time.Second, time.Minute
)

// dhcpClient holds one link's lease from one boot to the next shutdown.
type dhcpClient struct {
	link string
	log  *slog.Logger
	// plugged tells that the cable came back, or that it is in for the first time.
	plugged <-chan struct{}
	// changed takes the lease that is in force, nil when there is none.
	changed func(*lease)
}

// run asks for a lease, keeps it, and asks anew when it is lost, until ctx ends.
func (c *dhcpClient) run(ctx context.Context) {
	pause := firstPause
	for ctx.Err() == nil {
		granted, err := c.acquire(ctx)
		if err == nil {
			pause = firstPause
			c.log.Info("lease granted", "address", granted.address, "server", granted.server, "until", granted.expire.Round(time.Second))
			c.changed(granted)
			c.keep(ctx, granted)
			if ctx.Err() != nil {
				return // the address stays: the node is going down, or is set up anew
			}
			c.changed(nil)
			continue
		}
		if ctx.Err() != nil {
			return
		}
		c.log.Warn("no address from DHCP: is a DHCP server on this network? trying again", "error", err, "in", pause)
		select {
		case <-ctx.Done():
		case <-c.plugged: // try at once
		case <-time.After(pause):
		}
		pause = min(2*pause, longestPause)
	}
}

// acquire goes through discover, offer, request and acknowledgement.
func (c *dhcpClient) acquire(ctx context.Context) (*lease, error) {
	client, err := nclient4.New(c.link, nclient4.WithTimeout(firstTimeout), nclient4.WithRetry(tries))
	if err != nil {
		return nil, fmt.Errorf("DHCP on %s: %w", c.link, err)
	}
	defer client.Close()
	granted, err := client.Request(ctx, dhcpv4.WithRequestedOptions(requested...))
	if err != nil {
		return nil, fmt.Errorf("DHCP on %s: %w", c.link, err)
	}
	l, err := parseLease(granted.ACK, granted.CreationTime)
	return &l, err
}

// keep extends the lease until it is lost or ctx ends.
func (c *dhcpClient) keep(ctx context.Context, l *lease) {
	select {
	case <-c.plugged: // that is how this lease could be acquired
	default:
	}
	for {
		step, at := l.next(time.Now())
		timer := time.NewTimer(time.Until(at))
		select {
		case <-ctx.Done():
			timer.Stop()
			return
		case <-c.plugged:
			timer.Stop()
			// It may be another network now: ask any server, at once.
			step = rebindLease
			c.log.Info("the link is back: asking for the lease again", "address", l.address)
		case <-timer.C:
		}
		if step == giveUpLease {
			c.log.Error("the lease has run out: no DHCP server answered in time", "address", l.address)
			return
		}
		renewed, err := c.extend(ctx, l, step)
		switch {
		case errors.Is(err, errRefused) || (err == nil && renewed.address != l.address):
			c.log.Error("the DHCP server takes the address away", "address", l.address, "error", err)
			return
		case err != nil:
			c.log.Warn("the lease is not renewed yet", "address", l.address, "until", l.expire.Round(time.Second), "error", err)
		default:
			c.log.Debug("lease renewed", "address", l.address, "until", renewed.expire.Round(time.Second))
			l = renewed
			c.changed(l)
		}
	}
}

// errRefused says that a server answered no.
var errRefused = errors.New("refused by the DHCP server")

// extend asks the granting server, or any, for more time, while the lease runs.
func (c *dhcpClient) extend(ctx context.Context, l *lease, step leaseStep) (*lease, error) {
	ctx, cancel := context.WithDeadline(ctx, l.expire)
	defer cancel()
	options := []nclient4.ClientOpt{nclient4.WithTimeout(firstTimeout), nclient4.WithRetry(2)}
	to := nclient4.DefaultServers
	if step == renewLease && l.server.IsValid() {
		to = &net.UDPAddr{IP: l.server.AsSlice(), Port: nclient4.ServerPort}
		options = append(options, nclient4.WithUnicast(&net.UDPAddr{IP: l.address.Addr().AsSlice(), Port: nclient4.ClientPort}))
	}
	client, err := nclient4.New(c.link, options...)
	if err != nil {
		return nil, fmt.Errorf("DHCP on %s: %w", c.link, err)
	}
	defer client.Close()
	request, err := dhcpv4.NewRenewFromAck(l.ack, dhcpv4.WithRequestedOptions(requested...))
	if err != nil {
		return nil, fmt.Errorf("DHCP on %s: %w", c.link, err)
	}
	answer, err := client.SendAndRead(ctx, to, request, nclient4.IsMessageType(dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak))
	if err != nil {
		return nil, fmt.Errorf("renew the lease of %s: %w", l.address, err)
	}
	if answer.MessageType() == dhcpv4.MessageTypeNak {
		return nil, fmt.Errorf("renew the lease of %s: %w: %s", l.address, errRefused, answer.Message())
	}
	renewed, err := parseLease(answer, time.Now())
	return &renewed, err
}
