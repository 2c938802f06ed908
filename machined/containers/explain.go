package containers

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strings"

	"github.com/keelson-os/keelson/machined/host"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// complaints are what containerd says of archives it cannot use, and what that
// means to who sent one. containerd gives them no code of their own, hence the
// texts; the first that matches counts.
var complaints = []struct{ text, meaning string }{
	{"unrecognized image format", "it is no OCI or Docker image archive: export one with docker save, podman save or skopeo"},
	{"invalid tar header", "it is no tar archive, compressed or not: export one with docker save, podman save or skopeo"},
	{"unexpected EOF", "it ends in the middle: it is truncated, or no archive at all; copy or export it again"},
	{"unsupported OCI version", "its OCI layout is of a version that is not known"},
	{"missing index.json", "it has an OCI layout but no index.json: copy or export it again"},
	{"image might be filtered out", "it holds no image for linux/" + runtime.GOARCH},
	{"no unpack platform", "it holds no image for linux/" + runtime.GOARCH},
	{"wrong diff id", "a layer is not what the image's config says: it is damaged; copy or export it again"},
	{"failed to extract layer", "a layer cannot be unpacked: it is damaged; copy or export it again"},
	{"not found", "it lacks a part of its image, or the part is damaged: copy or export it again"},
	{"no target for symlink", "it lacks a part of its image: copy or export it again"},
	{"checksum error", "it is damaged: copy or export it again"},
	{"invalid checksum", "it is damaged: copy or export it again"},
	{"unexpected commit digest", "it is damaged: copy or export it again"},
	{"invalid character", "one of its JSON documents is damaged: copy or export it again"},
	{"unexpected end of JSON", "one of its JSON documents is damaged: copy or export it again"},
	{"cannot unmarshal", "one of its JSON documents is not as the format wants it: export it again"},
	{"invalid reference format", "it gives an image a name that is none"},
	{"corrupt", "it is damaged: copy or export it again"},
	{"magic number mismatch", "it is damaged: copy or export it again"},
	{"failed size validation", "it is damaged: copy or export it again"},
}

// explain turns the error of an import into the API's: whose fault it is and
// what to do about it.
func explain(err error, dataDir string) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return status.FromContextError(err).Err()
	}
	said := status.Convert(err)
	if strings.Contains(said.Message(), "no space left on device") || strings.Contains(said.Message(), "disk quota exceeded") {
		return status.Errorf(codes.ResourceExhausted, "no space left for the image: %s; remove images (osctl image rm) or unused data", room(dataDir))
	}
	if said.Code() == codes.Unavailable {
		return unavailable(err)
	}
	for _, complaint := range complaints {
		if strings.Contains(said.Message(), complaint.text) {
			return status.Errorf(codes.InvalidArgument, "the archive cannot be imported: %s (containerd: %s)", complaint.meaning, said.Message())
		}
	}
	if said.Code() == codes.Unknown {
		return status.Errorf(codes.Internal, "import the archive: %s", said.Message())
	}
	return status.Error(said.Code(), said.Message())
}

// room says how full the disk is that holds path.
func room(path string) string {
	disk, err := host.ReadDisk(path)
	if err != nil {
		return fmt.Sprintf("the disk of %s is full", path)
	}
	const mib = 1 << 20
	return fmt.Sprintf("%d MiB of %d MiB are free on the disk of %s", disk.Available/mib, disk.Total/mib, path)
}
