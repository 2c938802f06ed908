package main

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/keelson-os/keelson/pkg/client"
	"github.com/keelson-os/keelson/pkg/identity"
)

const (
	// pairingTries is how many wrong codes a minute are looked at, from all
	// clients together.
	pairingTries = 6
	// minPairingCode is the shortest code worth its name, in characters.
	minPairingCode = 6
)

// paired is whoever holds the pairing code, and so stands at the machine: an
// administrator of it.
var paired = caller{user: "maintenance", roles: []string{identity.Admin}}

func readPairingCode(file string) (string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return "", fmt.Errorf("read the pairing code: %w", err)
	}
	code := strings.TrimSpace(string(content))
	if len(code) < minPairingCode {
		return "", fmt.Errorf("read the pairing code: %s holds fewer than %d characters", file, minPairingCode)
	}
	return code, nil
}

// requirePairing admits clients that present the code, to the few methods of
// maintenance.
func requirePairing(code string, refused *throttledLog) admit {
	guess := newGuessing(code)
	return func(ctx context.Context, method string) (caller, error) {
		if err := admitPaired(ctx, method, guess); err != nil {
			refused.warn("call refused", "method", method, "remote", remote(ctx), "reason", status.Convert(err).Message())
			return caller{}, err
		}
		return paired, nil
	}
}

func admitPaired(ctx context.Context, method string, guess *guessing) error {
	md, _ := metadata.FromIncomingContext(ctx)
	codesSent := md.Get(client.PairingCodeKey)
	if len(codesSent) != 1 {
		return status.Error(codes.Unauthenticated,
			"this node is in maintenance and needs the pairing code that its console shows")
	}
	// The code comes first: strangers learn nothing about the node.
	if err := guess.check(codesSent[0], time.Now()); err != nil {
		return err
	}
	if !maintenanceMethods[method] {
		return status.Errorf(codes.FailedPrecondition,
			"%s is not answered in maintenance: this node has no usable config; its console and MachineService.Status say why", method)
	}
	return nil
}

// guessing compares codes and bounds how often one may be wrong.
type guessing struct {
	hash [sha256.Size]byte

	mu    sync.Mutex
	wrong *rate.Limiter
}

func newGuessing(code string) *guessing {
	return &guessing{
		hash:  sha256.Sum256([]byte(code)),
		wrong: rate.NewLimiter(rate.Every(time.Minute/pairingTries), pairingTries),
	}
}

// check refuses even the right code once the tries are used up: otherwise
// guessing could go on.
func (g *guessing) check(code string, now time.Time) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.wrong.TokensAt(now) < 1 {
		return status.Error(codes.ResourceExhausted, "too many wrong pairing codes: wait a minute, then try again")
	}
	// Of hashes, so that neither the content nor the length shows in the time.
	hash := sha256.Sum256([]byte(code))
	if subtle.ConstantTimeCompare(hash[:], g.hash[:]) == 1 {
		return nil
	}
	g.wrong.AllowN(now, 1)
	return status.Error(codes.Unauthenticated, "wrong pairing code: the node's console shows the right one")
}
