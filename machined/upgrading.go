package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/keelson-os/keelson/machined/api"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/machined/host/entries"
	"github.com/keelson-os/keelson/machined/host/secureboot"
	"github.com/keelson-os/keelson/machined/host/verity"
	"github.com/keelson-os/keelson/machined/install"
	"github.com/keelson-os/keelson/machined/kubernetes"
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
)

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
	if n.booted.Kind != install.Installed || n.slots.Load() != nil {
		return nil
	}
	verifies, modules := host.SecureBoot(n.os.Root()), entries.Modules
	if verifies {
		modules = append(slices.Clone(modules), secureboot.Module)
	}
	if n.modules == nil {
		n.log.Warn("no modules for the ESP: phase host says why")
	} else if err := n.load(ctx, modules); err != nil {
		n.log.Warn("modules for the ESP", "error", err) // its mount says what is missing
	}
	slots, failed, err := upgrade.New(upgrade.Options{
		OS: n.os, Log: n.log, Slot: n.booted.Slot, Running: n.imageName(), SecureBoot: verifies,
		Partition: func(name string) (string, error) { return host.PartitionNode(n.os.Root(), n.booted.Device, name) },
	})
	n.slots.Store(slots)
	if failed != nil {
		message := fmt.Sprintf("the update to %s failed, this is %s again: %s", failed.To, failed.From, failed.Why)
		n.log.Error(message)
		n.events.Publish(api.KindMachine, "update", "failed", message)
	}
	n.background(n.watch, "root image", supervise.RestartTask, n.watchRoot)
	if slots.OnProbation() {
		n.log.Info("this image is on probation until it is healthy", "within", n.probationTime())
		n.background(n.watch, probation, supervise.RestartTask, n.watchProbation)
	}
	return err
}

// slotsView is the slots as the API has them.
type slotsView struct{ *node }

// Upgrade implements api.Upgrader.
func (s slotsView) Upgrade(ctx context.Context, from io.Reader, options *upgradeapi.UpgradeOptions, tell func(*upgradeapi.UpgradeResponse) error) error {
	if limit := options.GetDrainTimeout().AsDuration(); limit < 0 || limit > 0 && (options.GetStage() || options.GetForce()) {
		return status.Error(codes.InvalidArgument, "a drain timeout is a time, and goes with neither stage nor force")
	}
	if !s.updating.CompareAndSwap(false, true) {
		return upgrade.ErrBusy
	}
	defer s.updating.Store(false)
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
		// On a disk that rots the same image once more is what helps.
		if damaged, err := verity.Damaged(verity.RootDevice); err != nil || !damaged {
			return status.Errorf(codes.FailedPrecondition, "the node runs this image already: %s", s.imageName())
		}
	}
	if s.Status().GetStage() == stopping {
		return status.Error(codes.FailedPrecondition, "the node is on its way down: wait until it has started again")
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
	err = s.slots.Load().Write(ctx, bundle, func(done, total int64) {
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
		if errors.Is(err, secureboot.ErrUntrusted) {
			return status.Error(codes.FailedPrecondition, err.Error()+": build the bundle with a key that the firmware has (docs/install.md, Secure Boot)")
		}
		if errors.Is(err, osbundle.ErrDamaged) {
			return status.Error(codes.InvalidArgument, err.Error())
		}
		return err
	}
	s.kexecOff.Store(true)
	s.events.Publish(api.KindMachine, "update", "written", bundle.Manifest.Name()+" is booted next")
	if !options.GetStage() {
		if err := s.drainFirst(ctx, options); err != nil {
			return err
		}
		if err := s.RequestStop(ctx, api.Stop{Kind: api.StopReboot, Force: options.GetForce(), By: "an update"}); err != nil {
			return err
		}
	}
	done := answer()
	done.Done = true
	return tell(done)
}

// undrainTime bounds the taking back of a drain.
const undrainTime = 30 * time.Second

// drainFirst moves the node's pods away while it can still stay: if some are left,
// the update that was written is called off.
func (s slotsView) drainFirst(ctx context.Context, options *upgradeapi.UpgradeOptions) error {
	limit := options.GetDrainTimeout().AsDuration()
	if limit == 0 || s.clusterView.Load() == nil {
		return nil
	}
	cluster := s.clusterView.Load().kubernetes
	err := cluster.Drain(ctx, limit, func(message string) {
		s.log.Info(message)
		s.events.Publish(api.KindMachine, "drain", "progress", message)
	})
	waits := s.slots.Load().Waiting()
	switch {
	case s.Status().GetStage() == stopping:
		return status.Error(codes.FailedPrecondition, "somebody else has had the node go down meanwhile; the update is booted if it was not called off")
	case waits && (err == nil || errors.Is(err, kubernetes.ErrAlone)):
		return nil
	case waits:
		if _, undo := s.slots.Load().Rollback(); undo != nil {
			return status.Errorf(codes.Internal, "%v; the update cannot be called off, and is booted at the next restart: %v", err, undo)
		}
	default:
		err = errors.New("somebody else has called the update off meanwhile")
	}
	// Also when the caller has gone.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), undrainTime)
	defer cancel()
	if stay := cluster.Stay(ctx); stay != nil {
		s.log.Warn("the node takes no pods yet", "error", stay) // it does once the API server answers
	}
	message := fmt.Sprintf("%v; the update is called off, and the node goes on as it was", err)
	s.events.Publish(api.KindMachine, "update", "undone", message)
	return status.Error(codes.FailedPrecondition, message)
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
	err := m.CheckFor(version.Version, runtime.GOARCH, downgrade)
	switch {
	case err == nil:
		return nil
	case errors.Is(err, osbundle.ErrForeign):
		return status.Error(codes.InvalidArgument, err.Error())
	}
	return status.Error(codes.FailedPrecondition, err.Error())
}

// Rollback implements api.Upgrader.
func (s slotsView) Rollback(ctx context.Context, request *upgradeapi.RollbackRequest) (*upgradeapi.RollbackResponse, error) {
	slots := s.slots.Load()
	off, err := slots.Rollback()
	if err != nil {
		return nil, err
	}
	if off {
		answer := &upgradeapi.RollbackResponse{CalledOff: slots.Last().To, Restarts: s.Status().GetStage() == stopping}
		s.events.Publish(api.KindMachine, "update", "undone", answer.GetCalledOff()+" is called off before its first boot")
		return answer, nil
	}
	s.kexecOff.Store(true)
	s.events.Publish(api.KindMachine, "update", "undone", "the image in the other slot is booted next")
	return &upgradeapi.RollbackResponse{Restarts: true}, s.RequestStop(ctx, api.Stop{Kind: api.StopReboot, Force: request.GetForce(), By: "a rollback"})
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
	entries, next, err := s.slots.Load().Entries()
	if err != nil {
		return nil, err
	}
	response := &upgradeapi.SlotsResponse{Running: string(s.booted.Slot), Probation: s.slots.Load().OnProbation()}
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
	if last := s.slots.Load().Last(); last != nil {
		response.Last = &upgradeapi.Update{
			Slot: string(last.Slot), From: last.From, To: last.To, Written: timestamppb.New(last.Written),
			Outcome: outcomes[last.Outcome], Why: last.Why,
		}
	}
	return response, nil
}
