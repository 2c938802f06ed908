package join

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
)

const (
	// maxPerName bounds the addresses that are tried of one DNS name.
	maxPerName = 8
	// maxReason cuts what a control-plane node says.
	maxReason = 400
)

// client asks control-plane nodes to sign for one node.
type client struct {
	owner owner
	token string
	hosts []machineconfig.Host
	port  uint16
	by    authorities
}

// attempt is one try that failed.
type attempt struct {
	target string
	order  int // of the host in the config
	kind   kind
	reason string
}

// roundError says what was tried in one round, and why nothing came of it.
type roundError struct {
	attempts []attempt
}

// newRoundError puts the tries in the config's order: two rounds that failed in
// the same way read the same.
func newRoundError(attempts []attempt) *roundError {
	slices.SortFunc(attempts, func(a, b attempt) int {
		return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.target, b.target))
	})
	return &roundError{attempts}
}

func (e *roundError) Error() string {
	var list []string
	for _, each := range e.attempts {
		list = append(list, each.target+": "+each.reason)
	}
	return "no control-plane node lets this node in: " + strings.Join(list, "; ")
}

// lasting tells that trying again soon would be in vain: a node of the cluster
// said no, or whoever answers is none of the cluster.
func (e *roundError) lasting() bool {
	strangersOnly := len(e.attempts) > 0
	for _, each := range e.attempts {
		if each.kind == refused {
			return true
		}
		strangersOnly = strangersOnly && each.kind == unverified
	}
	return strangersOnly
}

// join makes keys and has them certified, in one round over all control-plane
// nodes.
func (c *client) join(ctx context.Context) (*Identity, error) {
	request := &joinpb.JoinRequest{
		Token: c.token, ClusterId: c.owner.clusterID, Hostname: c.owner.hostname, MachineId: c.owner.machineID,
	}
	for _, address := range c.owner.addresses {
		request.Addresses = append(request.Addresses, address.String())
	}
	keys := map[joinpb.CertificateRequest_Use][]byte{}
	for _, use := range uses {
		key, csr, err := pki.NewCSR()
		if err != nil {
			return nil, err
		}
		keys[use] = key
		request.Requests = append(request.Requests, &joinpb.CertificateRequest{Use: use, Csr: csr})
	}
	return c.round(ctx, request, keys)
}

// round tries one node after the other, in an order of chance, so that many
// workers do not ask the same one.
func (c *client) round(ctx context.Context, request *joinpb.JoinRequest, keys map[joinpb.CertificateRequest_Use][]byte) (*Identity, error) {
	var failed []attempt
	for _, order := range rand.Perm(len(c.hosts)) {
		host := string(c.hosts[order])
		targets, err := c.resolve(ctx, host)
		if err != nil {
			kind, reason := explain(err, time.Now())
			failed = append(failed, attempt{host, order, kind, reason})
		}
		for _, to := range targets {
			identity, kind, reason := c.try(ctx, to, request, keys)
			if identity != nil {
				return identity, nil
			}
			if ctx.Err() != nil {
				return nil, ctx.Err()
			}
			failed = append(failed, attempt{to.String(), order, kind, shortenTo(reason, maxReason)})
		}
	}
	return nil, newRoundError(failed)
}

// try asks one node.
func (c *client) try(ctx context.Context, to target, request *joinpb.JoinRequest, keys map[joinpb.CertificateRequest_Use][]byte) (*Identity, kind, string) {
	response, err := call(ctx, to, c.by.os, request)
	if err != nil {
		kind, reason := explain(err, time.Now())
		return nil, kind, reason
	}
	identity, err := c.assemble(response, keys)
	if err != nil {
		return nil, unreached, "its answer is of no use: " + err.Error()
	}
	return identity, 0, ""
}

// assemble makes an identity of the node's keys and what was signed for them.
func (c *client) assemble(response *joinpb.JoinResponse, keys map[joinpb.CertificateRequest_Use][]byte) (*Identity, error) {
	if got := len(response.GetCertificates()); got != len(uses) {
		return nil, fmt.Errorf("%d certificates for %d requests", got, len(uses))
	}
	pairs := map[joinpb.CertificateRequest_Use]pki.KeyPair{}
	for i, use := range uses {
		pairs[use] = pki.KeyPair{Cert: pki.EncodeCert(response.GetCertificates()[i]), Key: keys[use]}
	}
	return newIdentity(c.owner, pairs, c.by)
}

// resolve finds where a control-plane node is. A DNS name may stand for several
// nodes, and for others at another time.
func (c *client) resolve(ctx context.Context, host string) ([]target, error) {
	if address, err := netip.ParseAddr(host); err == nil {
		return []target{{host, netip.AddrPortFrom(address, c.port)}}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, tryTimeout)
	defer cancel()
	addresses, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, err
	}
	if len(addresses) == 0 {
		return nil, errors.New("the name has no address")
	}
	rand.Shuffle(len(addresses), func(i, j int) { addresses[i], addresses[j] = addresses[j], addresses[i] })
	var targets []target
	for _, address := range addresses[:min(len(addresses), maxPerName)] {
		targets = append(targets, target{host, netip.AddrPortFrom(address.Unmap(), c.port)})
	}
	return targets, nil
}
