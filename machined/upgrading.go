package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"time"

	"golang.org/x/mod/semver"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/install"
	"github.com/keelson-os/keelson/machined/supervise"
	"github.com/keelson-os/keelson/machined/upgrade"
	upgradeapi "github.com/keelson-os/keelson/pkg/api/upgrade"
	"github.com/keelson-os/keelson/pkg/osbundle"
	"github.com/keelson-os/keelson/pkg/osdisk"
	"github.com/keelson-os/keelson/pkg/version"
)

const (
	// updateKeysPath is where the root image has the keys that sign its successors.
	updateKeysPath = "/usr/share/keelson/update-keys.pem"
	// releasePath tells builds of one version apart.
	releasePath = "usr/lib/os-release"

	probation = "probation"
	// probationTime is what an update has to be found healthy in, from power-on. A
	// first boot takes a minute on a server, and five where it is emulated.
	probationTime = 20 * time.Minute
	// probationParameter is the kernel parameter that sets another time: "5m".
	probationParameter = "keelson.probation"
	// probationCheck is how often it is looked at meanwhile. The checks are of
	// many parts, of which most announce nothing.
	probationCheck = 5 * time.Second
	// probationSettle is how long all must be well without a break.
	probationSettle = 15 * time.Second
)

// espModules are for the file system of the ESP; the kernel asks for its
// character sets by itself, and finds no program that could load them.
var espModules = []string{"vfat", "nls_cp437", "nls_ascii"}

// build is what tells builds of one version apart: os-release's BUILD_ID.
func (n *node) build() string {
	text, err := os.ReadFile("/" + releasePath)
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(strings.TrimSpace(line), "BUILD_ID="); ok {
			return strings.Trim(value, `"`)
		}
	}
	return ""
}

// imageName is the running image's, for people.
func (n *node) imageName() string {
	return osbundle.Manifest{Version: version.Version, Build: n.build()}.Name()
}

// openSlots takes over the slots of an installed node, and tells of an update
// that did not go well.
func (n *node) openSlots(ctx context.Context) error {
	n.findSource()
	if n.booted.Kind != install.Installed || n.slots != nil {
		return nil
	}
	if n.modules == nil {
		return errors.New("no modules: phase host says why")
	}
	if err := n.load(ctx, espModules); err != nil {
		n.log.Warn("modules for the ESP", "error", err) // its mount says what is missing
	}
	slots, failed, err := upgrade.New(upgrade.Options{
		OS: n.os, Log: n.log, Slot: n.booted.Slot, Running: n.imageName(),
		Partition: func(name string) (string, error) { return host.PartitionNode(n.os.Root(), n.booted.Device, name) },
	})
	n.slots = slots
	if failed != nil {
		message := fmt.Sprintf("the update to %s failed, this is %s again: %s", failed.To, failed.From, failed.Why)
		n.log.Error(message)
		n.events.Publish(api.KindMachine, "update", "failed", message)
	}
	if slots != nil {
		n.background(n.watch, "root image", supervise.RestartTask, n.watchRoot)
	}
	if slots != nil && slots.OnProbation() {
		n.log.Info("this image is on probation until it is healthy", "within", n.probationTime())
		n.background(n.watch, probation, supervise.RestartTask, n.watchProbation)
	}
	return err
}

// noteBoot remembers how far the boot of an image on probation got.
func (n *node) noteBoot(reached string) {
	if n.slots == nil || n.Status().GetStage() == stopping || !n.slots.OnProbation() {
		return
	}
	if err := n.slots.Note(reached, n.Status().GetProblems()); err != nil {
		n.log.Warn("how far this boot got is not remembered", "error", err)
	}
}

// watchProbation blesses the running image once all of the node is well, or goes
// back to the other one when it is not in time.
func (n *node) watchProbation(ctx context.Context) error {
	tick := time.NewTicker(probationCheck)
	defer tick.Stop()
	var wellSince time.Time
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			if n.Status().GetStage() == stopping {
				return nil
			}
			wrong := n.wrong(ctx)
			if len(wrong) > 0 {
				wellSince = time.Time{}
			} else if wellSince.IsZero() {
				wellSince = now
			}
			switch {
			case len(wrong) == 0 && now.Sub(wellSince) >= probationSettle:
				err := n.bless()
				if err == nil {
					return nil
				}
				n.log.Error(err.Error()) // and no problem of the node's: it is healthy
				wellSince = time.Time{}
			case len(wrong) > 0 && n.os.SinceBoot() >= n.probationTime():
				if err := n.goBack(ctx, wrong); err != nil {
					n.log.Error(err.Error()) // it may get well yet
					continue
				}
				return nil
			}
		}
	}
}

// probationTime is the command line's, or else the constant.
func (n *node) probationTime() time.Duration {
	value, ok := n.commandLine.Last(probationParameter)
	if !ok {
		return probationTime
	}
	given, err := time.ParseDuration(value)
	if err != nil || given <= 0 {
		n.log.Warn("a kernel parameter that is no time such as 5m", "parameter", probationParameter, "value", value)
		return probationTime
	}
	return given
}

// wrong lists the node's checks that fail.
func (n *node) wrong(ctx context.Context) []string {
	if n.Status().GetStage() != running {
		return append(n.Status().GetProblems(), "the boot is not done")
	}
	cluster := n.clusterView.Load()
	if cluster == nil {
		return []string{"the node has no cluster yet"}
	}
	ctx, cancel := context.WithTimeout(ctx, probationCheck)
	defer cancel()
	var wrong []string
	for _, check := range cluster.Health(ctx) {
		if !check.OK {
			wrong = append(wrong, check.Name+": "+check.Message)
		}
	}
	return wrong
}

func (n *node) bless() error {
	if err := n.slots.Bless(); err != nil {
		return fmt.Errorf("the image is healthy, and that cannot be written down: %w", err)
	}
	n.log.Info("this image is healthy, and stays", "image", n.imageName())
	n.events.Publish(api.KindMachine, "update", "good", n.imageName()+" is healthy, and stays")
	return nil
}

// goBack gives the running image up.
func (n *node) goBack(ctx context.Context, wrong []string) error {
	why := fmt.Sprintf("not healthy within %s: %s", n.probationTime(), strings.Join(wrong, "; "))
	n.events.Publish(api.KindMachine, "update", "given up", why)
	if err := n.slots.Condemn(wrong); err != nil {
		return fmt.Errorf("%s; going on all the same: %w", why, err)
	}
	n.log.Error("going back to the image in the other slot: " + why)
	return n.RequestStop(ctx, api.Stop{Kind: api.StopReboot, Force: true, By: "the failed update"})
}

// slotsView is the slots as the API has them.
type slotsView struct{ *node }

// Upgrade implements api.Upgrader.
func (s slotsView) Upgrade(ctx context.Context, from io.Reader, options *upgradeapi.UpgradeOptions, tell func(*upgradeapi.UpgradeResponse) error) error {
	keys, err := s.updateKeys()
	if err != nil {
		return err
	}
	bundle, err := osbundle.NewReader(from, keys)
	if errors.Is(err, osbundle.ErrSignature) {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	if err := checkBundle(bundle.Manifest, options.GetDowngrade()); err != nil {
		return err
	}
	if running := s.Version().GetRootHash(); running != "" && running == bundle.Manifest.RootHash {
		return status.Errorf(codes.FailedPrecondition, "the node runs this image already: %s", s.imageName())
	}
	answer := func() *upgradeapi.UpgradeResponse {
		return &upgradeapi.UpgradeResponse{From: s.imageName(), To: bundle.Manifest.Name()}
	}
	if err := tell(answer()); err != nil {
		return err
	}
	s.log.Info("writing an update", "from", s.imageName(), "to", bundle.Manifest.Name())
	s.events.Publish(api.KindMachine, "update", "writing", bundle.Manifest.Name())
	show := s.showProgress("writing the update")
	var last int64
	err = s.slots.Write(ctx, bundle, func(done, total int64) {
		show(done, total)
		if percent := done * 100 / max(total, 1); percent > last {
			last = percent
			now := answer()
			now.Written, now.Total = done, total
			_ = tell(now) // who went away is noticed by the next chunk
		}
	})
	if err != nil {
		s.events.Publish(api.KindMachine, "update", "refused", err.Error())
		if errors.Is(err, osbundle.ErrDamaged) {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		return err
	}
	s.events.Publish(api.KindMachine, "update", "written", bundle.Manifest.Name()+" is booted next")
	if !options.GetStage() {
		if err := s.RequestStop(ctx, api.Stop{Kind: api.StopReboot, Force: options.GetForce(), By: "an update"}); err != nil {
			return err
		}
	}
	done := answer()
	done.Done = true
	return tell(done)
}

// updateKeys are the keys that may sign a bundle.
func (s slotsView) updateKeys() ([]ed25519.PublicKey, error) {
	text, err := os.ReadFile(updateKeysPath)
	if err != nil {
		return nil, fmt.Errorf("read the keys that sign updates: %w", err)
	}
	texts := []string{string(text)}
	s.mu.Lock()
	if s.loaded != nil {
		texts = append(texts, s.loaded.Machine.Update.Keys...)
	}
	s.mu.Unlock()
	var all []ed25519.PublicKey
	for _, text := range texts {
		keys, err := osbundle.ParsePublicKeys([]byte(text))
		if err != nil {
			return nil, err
		}
		all = append(all, keys...)
	}
	return all, nil
}

// checkBundle tells whether a bundle that is signed is for this node.
func checkBundle(m osbundle.Manifest, downgrade bool) error {
	switch order := semver.Compare(m.Version, version.Version); {
	case m.Architecture != runtime.GOARCH:
		return status.Errorf(codes.InvalidArgument, "the bundle is for %s, and this node is %s", m.Architecture, runtime.GOARCH)
	case !semver.IsValid(m.Version):
		return status.Errorf(codes.InvalidArgument, "the bundle's version is %q, which is none", m.Version)
	case order < 0 && !downgrade:
		return status.Errorf(codes.FailedPrecondition,
			"the bundle has %s, which is older than %s; etcd and Kubernetes may not read what newer ones wrote: if you want it all the same, say so (--downgrade)", m.Version, version.Version)
	case order > 0 && skips(version.Version, m.Version):
		return status.Errorf(codes.FailedPrecondition,
			"from %s to %s is more than one minor version, which Kubernetes does not support: install each in between first", version.Version, m.Version)
	}
	return nil
}

// skips tells whether a minor version lies between two versions, or a major one.
func skips(from, to string) bool {
	if semver.Major(from) != semver.Major(to) {
		return true
	}
	var fromMinor, toMinor int
	_, _ = fmt.Sscanf(strings.TrimPrefix(semver.MajorMinor(from), semver.Major(from)+"."), "%d", &fromMinor)
	_, _ = fmt.Sscanf(strings.TrimPrefix(semver.MajorMinor(to), semver.Major(to)+"."), "%d", &toMinor)
	return toMinor > fromMinor+1
}

// Rollback implements api.Upgrader.
func (s slotsView) Rollback(ctx context.Context, request *upgradeapi.RollbackRequest) error {
	if err := s.slots.Rollback(); err != nil {
		return err
	}
	s.events.Publish(api.KindMachine, "update", "undone", "the image in the other slot is booted next")
	return s.RequestStop(ctx, api.Stop{Kind: api.StopReboot, Force: request.GetForce(), By: "a rollback"})
}

// outcomes in the API's terms.
var outcomes = map[upgrade.Outcome]upgradeapi.Update_Outcome{
	upgrade.Pending: upgradeapi.Update_OUTCOME_PENDING,
	upgrade.Good:    upgradeapi.Update_OUTCOME_GOOD,
	upgrade.Failed:  upgradeapi.Update_OUTCOME_FAILED,
	upgrade.Undone:  upgradeapi.Update_OUTCOME_UNDONE,
}

// Slots implements api.Upgrader.
func (s slotsView) Slots(context.Context) (*upgradeapi.SlotsResponse, error) {
	entries, next, err := s.slots.Entries()
	if err != nil {
		return nil, err
	}
	response := &upgradeapi.SlotsResponse{Running: string(s.booted.Slot), Probation: s.slots.OnProbation()}
	for _, slot := range []osdisk.Slot{osdisk.SlotA, osdisk.SlotB} {
		entry, there := entries[slot]
		if !there {
			continue
		}
		shown := &upgradeapi.Slot{Name: string(slot), Next: entry == next}
		if entry.Counted {
			left := int32(entry.Left)
			shown.TriesLeft = &left
		}
		response.Slots = append(response.Slots, shown)
	}
	if last := s.slots.Last(); last != nil {
		response.Last = &upgradeapi.Update{
			Slot: string(last.Slot), From: last.From, To: last.To, Written: timestamppb.New(last.Written),
			Outcome: outcomes[last.Outcome], Why: last.Why,
		}
	}
	return response, nil
}
