package containers

import (
	"context"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"time"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	leasesapi "github.com/containerd/containerd/api/services/leases/v1"
	transferapi "github.com/containerd/containerd/api/services/transfer/v1"
	"github.com/containerd/containerd/api/types"
	transfertypes "github.com/containerd/containerd/api/types/transfer"
	streams "github.com/containerd/containerd/v2/core/streaming/proxy"
	"github.com/containerd/containerd/v2/core/transfer/streaming"
	"github.com/containerd/log"
	"github.com/keelson-os/keelson/machined/host"
	"github.com/keelson-os/keelson/pkg/api/image"
	"github.com/sirupsen/logrus"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	// maxChunk is the API's limit of one message of an import, in bytes.
	maxChunk = 1 << 20
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
	archive := &spaced{Reader: &chunks{receive: stream.Recv}, dir: server.service.options.DataDir}
	images, err := server.service.importArchive(stream.Context(), archive, nil)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(images, func(each *image.Image) bool { return each.GetName() == PauseImage }) {
		return server.service.undo(stream.Context(), images)
	}
	return stream.SendAndClose(&image.ImportResponse{Images: images})
}

const (
	// spaceKept is what an import leaves of the disk, in bytes. containerd may
	// use the blocks that the file system keeps for etcd, and must not.
	spaceKept = 64 << 20
	// spaceStep is how many bytes are read between two looks at the disk.
	spaceStep = 8 << 20
)

// spaced ends an archive with ENOSPC before it fills the disk.
type spaced struct {
	io.Reader
	dir  string
	left int
}

func (s *spaced) Read(p []byte) (int, error) {
	if s.left <= 0 {
		disk, err := host.ReadDisk(s.dir)
		if err != nil {
			return 0, err
		}
		if disk.Available < spaceKept {
			return 0, unix.ENOSPC
		}
		s.left = spaceStep
	}
	n, err := s.Reader.Read(p)
	s.left -= n
	return n, err
}

// undo removes images of an archive that took the name of the OS's own, and
// brings that one back. What an archive names is known only when it was read.
// The error is the API's, also when all went well.
func (s *Service) undo(ctx context.Context, images []*image.Image) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	client := imagesapi.NewImagesClient(s.conn)
	for _, each := range images {
		_, err := client.Delete(ctx, &imagesapi.DeleteImageRequest{Name: each.GetName(), Sync: true})
		if err != nil && status.Code(err) != codes.NotFound {
			return unavailable(fmt.Errorf("remove %s again: %w", each.GetName(), err))
		}
	}
	s.mu.Lock()
	s.hasPause = false
	s.mu.Unlock()
	if err := s.EnsurePause(ctx); err != nil {
		return unavailable(err)
	}
	return status.Errorf(codes.FailedPrecondition, "%s is the name of the OS's own image: nothing of the archive was kept; give its image another name", PauseImage)
}

// importArchive has containerd read, verify and unpack an archive, and only
// then name its images; it returns those. containerd does all of it in its own
// process: PID 1 passes bytes on and parses nothing. Its errors are the API's.
func (s *Service) importArchive(ctx context.Context, archive io.Reader, labels map[string]string) (_ []*image.Image, err error) {
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
	if err := s.transfer(ctx, lease.GetLease().GetID(), archive, labels); err != nil {
		return nil, explain(err, s.options.DataDir)
	}
	after, err := s.records(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	imported := changed(named(before), named(after))
	if len(imported) == 0 {
		return nil, status.Error(codes.InvalidArgument, "the archive names no image: export the image by its name and tag, not by its ID")
	}
	return s.describe(ctx, imported), nil
}

// transfer sends the archive through containerd's transfer service.
func (s *Service) transfer(ctx context.Context, lease string, archive io.Reader, labels map[string]string) error {
	ctx, cancel := context.WithCancelCause(metadata.AppendToOutgoingContext(ctx, leaseHeader, lease))
	defer cancel(nil) // ends the sender too
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

// chunks reads the bytes of a stream of messages.
type chunks struct {
	receive func() (*image.ImportRequest, error)
	rest    []byte
}

func (c *chunks) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(c.rest) == 0 {
		message, err := c.receive()
		if err != nil {
			return 0, err // io.EOF when the client is done
		}
		if len(message.GetChunk()) > maxChunk {
			return 0, status.Errorf(codes.InvalidArgument, "a chunk of %d bytes; at most %d are allowed", len(message.GetChunk()), maxChunk)
		}
		c.rest = message.GetChunk()
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}
