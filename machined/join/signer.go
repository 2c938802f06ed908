package join

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/machineconfig"
	"github.com/keelson-os/keelson/pkg/pki"
)

// TTL is the life of what is signed for a worker. It renews at a third of it.
const TTL = 30 * 24 * time.Hour

// knownTimeout bounds the question to Kubernetes; the node waits for 10 s.
const knownTimeout = 5 * time.Second

// SignerOptions are what a control-plane node decides by.
type SignerOptions struct {
	// Config holds the authorities' keys, the token, and whose names and
	// addresses are no worker's.
	Config *machineconfig.Config
	// Hostname and Addresses are this node's own.
	Hostname  string
	Addresses []netip.Addr
	// Known tells which machine bears a node's name in the cluster, and whether
	// it is there now. An error means that nobody can join.
	Known func(ctx context.Context, hostname string) (machineID string, ready, registered bool, err error)
	// Nodes are the cluster's, as this one last heard of them; it may be nil.
	Nodes func() []Node
	// Publish keeps what happened among the node's events.
	Publish func(subject, action, message string)
	Log     *slog.Logger
}

// Node is one of the cluster's nodes.
type Node struct {
	Name                string
	Addresses           []netip.Addr
	ControlPlane, Ready bool
}

// Signer lets workers join. Its methods may be called from any goroutine.
type Signer struct {
	options   SignerOptions
	clusterID string
	osCA, ca  *pki.CA
	token     *guessing
	rules     rules
	recent    *recent
	notices   *notices
	now       func() time.Time
}

// NewSigner checks that the node holds what it takes to sign.
func NewSigner(options SignerOptions) (*Signer, error) {
	secrets := options.Config.Secrets
	s := &Signer{
		options: options, clusterID: secrets.ClusterID, token: newGuessing(string(secrets.JoinToken)),
		rules: newRules(options), recent: newRecent(), notices: newNotices(), now: time.Now,
	}
	if secrets.ClusterID == "" || secrets.JoinToken == "" {
		return nil, errors.New("secrets.clusterID and secrets.joinToken are needed: without them anyone could join")
	}
	var err error
	if s.osCA, err = secrets.OSCA.CA(); err != nil {
		return nil, fmt.Errorf("secrets.osCA: %w", err)
	}
	if s.ca, err = secrets.KubernetesCA.CA(); err != nil {
		return nil, fmt.Errorf("secrets.kubernetesCA: %w", err)
	}
	return s, nil
}

// Join signs a worker's certificates, or says why not: the errors are gRPC
// statuses. The zero remote stands for an administrator.
func (s *Signer) Join(ctx context.Context, remote netip.Addr, request *joinpb.JoinRequest) (*joinpb.JoinResponse, error) {
	claimed, action, err := s.decide(ctx, remote, request)
	if err != nil {
		s.refused(remote, err)
		return nil, err
	}
	certificates, until, err := s.sign(claimed, request)
	if err != nil {
		s.refused(remote, err)
		return nil, err
	}
	message := fmt.Sprintf("from %s; its certificates end at %s", from(remote), until.UTC().Format(time.RFC3339))
	s.options.Log.Info("node "+action, "node", claimed.hostname, "machine_id", claimed.machineID, "remote", from(remote), "until", until)
	s.options.Publish(claimed.hostname, action, message)
	return &joinpb.JoinResponse{Certificates: certificates}, nil
}

// decide checks everything but the certificate requests themselves. What it
// admits either joined or renewed.
func (s *Signer) decide(ctx context.Context, remote netip.Addr, request *joinpb.JoinRequest) (claim, string, error) {
	// The ID is no secret and opens nothing. Before the token, so that a node
	// with another cluster's config uses up nobody's tries.
	if request.GetClusterId() != s.clusterID {
		return claim{}, "", status.Error(codes.FailedPrecondition,
			"a config of another cluster: its secrets.clusterID is not this one's; correct cluster.controlPlane.addresses, or give the node a config of this cluster")
	}
	now := s.now()
	if err := s.token.check(remote, request.GetToken(), now); err != nil {
		return claim{}, "", err
	}
	claimed, err := s.rules.check(request, s.nodes())
	if err != nil {
		return claim{}, "", err
	}
	action, err := s.admit(ctx, claimed, now)
	return claimed, action, err
}

// admit decides by what the cluster knows of the name.
func (s *Signer) admit(ctx context.Context, claimed claim, now time.Time) (action string, err error) {
	ctx, cancel := context.WithTimeout(ctx, knownTimeout)
	defer cancel()
	machineID, ready, registered, err := s.options.Known(ctx, claimed.hostname)
	switch {
	case err != nil:
		return "", status.Errorf(codes.Unavailable, "Kubernetes cannot be asked for the nodes there are: %v", err)
	case registered && machineID == claimed.machineID:
		return "renewed", nil
	case registered && ready:
		return "", nameTaken(claimed.hostname, machineID)
	}
	if other, taken := s.recent.claim(claimed, now); taken {
		return "", nameTaken(claimed.hostname, other)
	}
	if registered {
		s.options.Log.Warn("node replaced by another machine, as it is not ready", "node", claimed.hostname, "machine_id", claimed.machineID, "before", machineID)
	}
	return "joined", nil
}

func nameTaken(hostname, machineID string) error {
	return status.Errorf(codes.AlreadyExists, "node %s is in the cluster already and is another machine (ID %s): give one of them another machine.hostname", hostname, machineID)
}

// sign makes the certificates, and tells when they end.
func (s *Signer) sign(claimed claim, request *joinpb.JoinRequest) (certificates [][]byte, until time.Time, err error) {
	now := s.now()
	for _, each := range request.GetRequests() {
		profile := profiles[each.GetUse()] // is one of them: the rules saw to it
		wanted := profile.request(claimed)
		wanted.Now, wanted.TTL = now, TTL
		der, err := profile.authority(s).Sign(each.GetCsr(), wanted)
		if err != nil {
			return nil, time.Time{}, status.Errorf(codes.InvalidArgument, "%s: %v", each.GetUse(), err)
		}
		certificates = append(certificates, der)
	}
	until = now.Add(TTL)
	for _, authority := range []*pki.CA{s.osCA, s.ca} {
		if end := authority.Certificate().NotAfter; end.Before(until) {
			until = end
		}
	}
	return certificates, until, nil
}

func (s *Signer) nodes() []Node {
	if s.options.Nodes == nil {
		return nil
	}
	return s.options.Nodes()
}

// refused records a refusal, at a rate that strangers cannot raise.
func (s *Signer) refused(remote netip.Addr, err error) {
	before, ok := s.notices.allow(s.now())
	if !ok {
		return
	}
	reason := status.Convert(err).Message()
	s.options.Log.Warn("join refused", "remote", from(remote), "reason", reason, "unlogged_before", before)
	if status.Code(err) != codes.Unavailable { // which every new cluster is, until it is bootstrapped
		s.options.Publish("join", "refused", "from "+from(remote)+": "+reason)
	}
}

func from(remote netip.Addr) string {
	if !remote.IsValid() {
		return "an administrator"
	}
	return remote.String()
}
