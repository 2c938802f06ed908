package containers

import (
	"context"
	"encoding/json"
	"fmt"
	"runtime"
	"slices"
	"time"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// maxNesting is how deep indexes may lie in indexes. Usual is one.
const maxNesting = 4

// check refuses what containerd has imported and the node must not keep: what
// an archive names, and for which machines its images are, is known only when
// it was read.
func (s *Service) check(ctx context.Context, imported []*imagesapi.Image, options importOptions) error {
	for _, record := range imported {
		if options.strange && isSystem(record.GetName()) {
			return status.Errorf(codes.FailedPrecondition, "%s is the name of the OS's own image: nothing of the archive was kept; give its image another name", record.GetName())
		}
		runs, err := s.runs(ctx, record.GetTarget(), maxNesting)
		if err != nil {
			return unavailable(fmt.Errorf("look what %s runs on: %w", record.GetName(), err))
		}
		if !runs {
			return status.Errorf(codes.InvalidArgument, "the archive cannot be imported: %s is no image for linux/%s", record.GetName(), runtime.GOARCH)
		}
	}
	return nil
}

// runs tells whether an image, or one of an index, is for this machine and was
// imported with all that describes it. containerd skips others without a word.
func (s *Service) runs(ctx context.Context, target *types.Descriptor, nesting int) (bool, error) {
	text, err := s.document(ctx, target)
	if status.Code(err) == codes.NotFound {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	if isConfig(target.GetMediaType()) {
		var config struct {
			OS           string `json:"os"`
			Architecture string `json:"architecture"`
		}
		err := json.Unmarshal(text, &config)
		return config.OS == "linux" && config.Architecture == runtime.GOARCH, err
	}
	children, err := parseChildren(text)
	if err != nil || nesting == 0 {
		return false, err
	}
	for _, child := range children {
		if !isDocument(child.MediaType) && !isConfig(child.MediaType) {
			continue
		}
		runs, err := s.runs(ctx, &types.Descriptor{MediaType: child.MediaType, Digest: child.Digest.String(), Size: child.Size}, nesting-1)
		if runs || err != nil {
			return runs, err
		}
	}
	return false, nil
}

// isConfig tells images' configs, OCI's and Docker's, from layers.
func isConfig(mediaType string) bool {
	return mediaType == "application/vnd.oci.image.config.v1+json" || mediaType == "application/vnd.docker.container.image.v1+json"
}

// undo takes the names of an archive's images back, and gives them to those that
// had them before. records are all there are now; the lease holds the content.
func (s *Service) undo(ctx context.Context, before, records, imported []*imagesapi.Image) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanupTimeout)
	defer cancel()
	client := imagesapi.NewImagesClient(s.conn)
	for _, record := range imported {
		if old := find(before, record.GetName()); old != nil {
			_, err := client.Update(ctx, &imagesapi.UpdateImageRequest{Image: old, UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"target", "labels"}}})
			if err != nil {
				return unavailable(fmt.Errorf("give %s back: %w", record.GetName(), err))
			}
			continue
		}
		for _, name := range removals(records, record) {
			_, err := client.Delete(ctx, &imagesapi.DeleteImageRequest{Name: name})
			if err != nil && status.Code(err) != codes.NotFound {
				return unavailable(fmt.Errorf("take %s back: %w", name, err))
			}
		}
		records = slices.DeleteFunc(records, func(each *imagesapi.Image) bool { return each.GetName() == record.GetName() })
	}
	return nil
}

const (
	// managedLabel is what containerd's Kubernetes side gives the records that it
	// has seen (containerd's internal/cri/labels).
	managedLabel = "io.cri-containerd.image"
	// manageTimeout is far longer than it takes for that.
	manageTimeout = 5 * time.Second
)

// awaitManaged returns all records once containerd's Kubernetes side, and so
// kubelet, has seen the new ones. It learns of one by an event, and then writes
// it: a record that was deleted before that comes back.
func (s *Service) awaitManaged(ctx context.Context, imported []*imagesapi.Image) ([]*imagesapi.Image, error) {
	late := time.NewTimer(manageTimeout)
	defer late.Stop()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		records, err := s.records(ctx)
		if err != nil || !slices.ContainsFunc(imported, func(record *imagesapi.Image) bool {
			now := find(records, record.GetName())
			return now != nil && now.GetLabels()[managedLabel] == ""
		}) {
			return records, err
		}
		select {
		case <-tick.C:
		case <-late.C:
			return records, nil
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}
