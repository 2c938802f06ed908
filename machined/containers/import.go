package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"time"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	transferapi "github.com/containerd/containerd/api/services/transfer/v1"
	"github.com/containerd/containerd/api/types"
	transfertypes "github.com/containerd/containerd/api/types/transfer"
	streams "github.com/containerd/containerd/v2/core/streaming/proxy"
	"github.com/containerd/containerd/v2/core/transfer/streaming"
	"github.com/containerd/log"
	"github.com/keelson-os/keelson/pkg/api/image"
	"github.com/sirupsen/logrus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	// tagOnly completes the names of images to which an OCI layout gives only a
	// tag, as the format has it.
	tagOnly = "keelson.local/imported"
	// snapshotter unpacks images; the same as in containerd's configuration.
	snapshotter = "overlayfs"
	// cleanupTimeout bounds the removal of what a refused archive left.
	cleanupTimeout = time.Minute
	// leaseLife is when containerd gives an import up whose PID 1 is gone.
	leaseLife = 2 * time.Hour
)

// Import reads an image archive from the stream.
func (server *ImageServer) Import(stream image.ImageService_ImportServer) error {
	archive := &chunks{receive: stream.Recv}
	pin, err := archive.begin()
	if err != nil {
		return err
	}
	keep, err := keptFromClients(server.service.options.DataDir)
	if err != nil {
		return err
	}
	images, err := server.service.importArchive(stream.Context(), archive, importOptions{pin: pin, strange: true, keepFree: keep})
	if err != nil {
		return err
	}
	return stream.SendAndClose(&image.ImportResponse{Images: images})
}

// importOptions are how an archive is imported.
type importOptions struct {
	// pin the images that it names. Those that are pinned already stay so.
	pin bool
	// strange archives may not bring images of the OS.
	strange bool
	// keepFree is how many bytes of the disk are left to others.
	keepFree uint64
}

// importArchive has containerd read, verify and unpack an archive, and only
// then name its images; it returns those. containerd does all of it in its own
// process: PID 1 passes bytes on and parses nothing. Its errors are the API's.
func (s *Service) importArchive(ctx context.Context, archive io.Reader, options importOptions) (_ []*image.Image, err error) {
	// One at a time: that bounds memory, and makes the images that are new
	// afterwards this archive's.
	select {
	case s.importing <- struct{}{}:
		defer func() { <-s.importing }()
	case <-ctx.Done():
		return nil, status.FromContextError(ctx.Err()).Err()
	}
	before, err := s.records(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	lease, err := leasesapi.NewLeasesClient(s.conn).Create(ctx, &leasesapi.CreateRequest{Labels: map[string]string{
		"containerd.io/gc.expire": time.Now().Add(leaseLife).UTC().Format(time.RFC3339),
	}})
	if err != nil {
		return nil, explain(fmt.Errorf("make a lease: %w", err), s.options.DataDir)
	}
	// The lease holds what is read until an image refers to it. Its removal
	// takes everything else away, and waits for that.
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
		defer cancel()
		_, end := leasesapi.NewLeasesClient(s.conn).Delete(ctx, &leasesapi.DeleteRequest{ID: lease.GetLease().GetID(), Sync: true})
		if end != nil && err == nil {
			err = unavailable(fmt.Errorf("end the lease: %w", end))
		}
	}()
	if err := s.transfer(ctx, lease.GetLease().GetID(), archive, options); err != nil {
		return nil, explain(err, s.options.DataDir)
	}
	after, err := s.records(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	if after, err = s.awaitManaged(ctx, changed(before, after)); err != nil {
		return nil, unavailable(err)
	}
	imported := changed(named(before), named(after))
	if len(imported) == 0 {
		return nil, status.Error(codes.InvalidArgument, "the archive names no image: export the image by its name and tag, not by its ID")
	}
	if err := s.check(ctx, imported, options); err != nil {
		if failed := s.undo(ctx, before, after, imported); failed != nil {
			return nil, failed
		}
		return nil, err
	}
	// Its record was written anew, without the label.
	for i, record := range imported {
		if old := find(before, record.GetName()); old != nil && isPinned(old) && !isPinned(record) {
			if imported[i], err = s.setPinned(ctx, record, true); err != nil {
				return nil, err
			}
		}
	}
	return s.describe(ctx, imported), nil
}

// transfer sends the archive through containerd's transfer service.
func (s *Service) transfer(ctx context.Context, lease string, archive io.Reader, options importOptions) error {
	ctx, cancel := context.WithCancelCause(metadata.AppendToOutgoingContext(ctx, leaseHeader, lease))
	defer cancel(nil) // ends the sender and the watch too
	if err := enoughSpace(s.options.DataDir, options.keepFree); err != nil {
		return err
	}
	go watchSpace(ctx, s.options.DataDir, options.keepFree, cancel)
	stream, err := streams.NewStreamCreator(s.conn).Create(ctx, lease)
	if err != nil {
		return fmt.Errorf("open a stream to containerd: %w", err)
	}
	// The sender's own log would go past ours; what it says comes back as the
	// transfer's error.
	ctx = log.WithLogger(ctx, logrus.NewEntry(&logrus.Logger{Level: logrus.PanicLevel, Out: io.Discard, Formatter: &logrus.TextFormatter{}}))
	// A sender that fails half-way must not look like one that is done.
	source := readerFunc(func(p []byte) (int, error) {
		n, err := archive.Read(p)
		if err != nil && !errors.Is(err, io.EOF) {
			cancel(err)
		}
		return n, err
	})
	streaming.SendStream(ctx, source, stream)

	labels := map[string]string{}
	if options.pin {
		labels[pinnedLabel] = pinned
	}
	platform := &types.Platform{OS: "linux", Architecture: runtime.GOARCH}
	from, fromErr := pack(&transfertypes.ImageImportStream{Stream: lease})
	to, toErr := pack(&transfertypes.ImageStore{
		Labels:    labels,
		Platforms: []*types.Platform{platform},
		ExtraReferences: []*transfertypes.ImageReference{{
			Name: tagOnly, IsPrefix: true, AllowOverwrite: true,
		}},
		Unpacks: []*transfertypes.UnpackConfiguration{{Platform: platform, Snapshotter: snapshotter}},
	})
	if err := errors.Join(fromErr, toErr); err != nil {
		return err
	}
	_, err = transferapi.NewTransferClient(s.conn).Transfer(ctx, &transferapi.TransferRequest{Source: from, Destination: to})
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// pack wraps a message as containerd does: its type without a URL before it.
func pack(message proto.Message) (*anypb.Any, error) {
	value, err := proto.Marshal(message)
	if err != nil {
		return nil, fmt.Errorf("encode a message to containerd: %w", err)
	}
	return &anypb.Any{TypeUrl: string(proto.MessageName(message)), Value: value}, nil
}

// changed returns the records that are new, or were written since.
func changed(before, after []*imagesapi.Image) []*imagesapi.Image {
	var list []*imagesapi.Image
	for _, record := range after {
		old := find(before, record.GetName())
		if old == nil || !proto.Equal(old.GetUpdatedAt(), record.GetUpdatedAt()) {
			list = append(list, record)
		}
	}
	return list
}

type readerFunc func(p []byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }
