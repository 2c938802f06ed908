package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/join"
	"github.com/keelson-os/keelson/machined/kubernetes"
	"github.com/keelson-os/keelson/machined/network"
	joinpb "github.com/keelson-os/keelson/pkg/api/join"
	"github.com/keelson-os/keelson/pkg/pki"
)

// joinCluster gets a worker the certificates that it needs to be one of the
// cluster: those on its disk, or new ones that a control-plane node signs. Until
// then it answers as a node in maintenance does, and says whom it tried. A
// control-plane node has the cluster's keys in its config.
func (n *node) joinCluster(ctx context.Context) error {
	if n.isControlPlane() {
		return nil
	}
	if n.join == nil {
		made, err := join.New(join.Options{
			Config: n.config, Hostname: n.nodeState().Hostname, MachineID: n.storage.MachineID,
			Addresses: hostAddresses(n.nodeState()), Port: api.JoinPort, Report: n.joinReport(), Log: n.log,
		})
		if err != nil {
			return err
		}
		n.join = made
	}
	identity, err := n.join.Obtain(ctx)
	if err != nil {
		return err
	}
	front, err := n.frontOptions()
	if err != nil {
		return err
	}
	if err := n.supervisor.Replace(ctx, api.FrontSpec(front)); err != nil {
		return err
	}
	n.server.SetJoiner(api.JoinElsewhere{})
	n.events.Reached("joined", "certificates until "+identity.Until().UTC().Format("2006-01-02"))
	return nil
}

// joinReport shows what keeps the node from joining, and how it can be asked,
// until it has joined.
func (n *node) joinReport() func(error) {
	const part = "join"
	invited := false
	return func(err error) {
		if err == nil {
			n.solved(part)
			return
		}
		n.problem(part, err)
		if !invited && n.joining() {
			invited = true
			_ = n.showInvitation(context.Background())
		}
	}
}

// joining tells whether the node is answered for by the maintenance API.
func (n *node) joining() bool {
	if n.join == nil {
		return true
	}
	_, err := n.join.Pair(joinpb.CertificateRequest_USE_API_SERVER)
	return err != nil
}

// keepIdentity renews a worker's certificates for as long as it runs.
func (n *node) keepIdentity(ctx context.Context) {
	n.join.Keep(ctx, func(*join.Identity) {
		const part = "renewed certificates"
		front, err := n.frontOptions()
		if err == nil {
			err = errors.Join(front.Write(), n.kubernetes.Renewed())
		}
		if err != nil {
			n.problem(part, err)
			return
		}
		n.solved(part)
	})
}

// letOthersJoin makes a control-plane node sign what workers ask for.
func (n *node) letOthersJoin(cluster *kubernetes.Kubernetes) error {
	signer, err := join.NewSigner(join.SignerOptions{
		Config: n.config, Hostname: n.nodeState().Hostname, Addresses: hostAddresses(n.nodeState()),
		Known: cluster.Machine, Nodes: func() []join.Node { return knownNodes(cluster) }, Log: n.log,
		Publish: func(subject, action, message string) { n.events.Publish(api.KindAccess, subject, action, message) },
	})
	if err != nil {
		return err
	}
	n.server.SetJoiner(signer)
	return nil
}

func knownNodes(cluster *kubernetes.Kubernetes) []join.Node {
	var nodes []join.Node
	for _, each := range cluster.Nodes() {
		nodes = append(nodes, join.Node{Name: each.Name, Addresses: each.Addresses, ControlPlane: each.ControlPlane, Ready: each.Ready})
	}
	return nodes
}

// signed is a worker's certificate of one use.
func (n *node) signed(use joinpb.CertificateRequest_Use) (pki.KeyPair, error) {
	if n.join == nil {
		return pki.KeyPair{}, fmt.Errorf("no certificate for %s: the node has not joined", use)
	}
	return n.join.Pair(use)
}

// hostAddresses are a node's addresses without their networks.
func hostAddresses(state network.State) []netip.Addr {
	var addresses []netip.Addr
	for _, prefix := range state.Addresses {
		addresses = append(addresses, prefix.Addr())
	}
	return addresses
}
