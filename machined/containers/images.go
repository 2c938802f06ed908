package containers

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	imagesapi "github.com/containerd/containerd/api/services/images/v1"
	"github.com/containerd/containerd/api/types"
	"github.com/keelson-os/keelson/pkg/api/image"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/fieldmaskpb"
)

// The label by which containerd's Kubernetes side keeps kubelet from
// collecting an image (containerd's internal/cri/labels).
const (
	pinnedLabel = "io.cri-containerd.pinned"
	pinned      = "pinned"
)

// idPrefix begins the records that containerd's Kubernetes side keeps beside
// an image's names, to find it by its config's digest.
const idPrefix = "sha256:"

// ImageServer serves keelson.image.v1.
type ImageServer struct {
	image.UnimplementedImageServiceServer
	service *Service
}

// ImageServer returns the API's view of the node's images.
func (s *Service) ImageServer() *ImageServer { return &ImageServer{service: s} }

// List returns the images by name.
func (server *ImageServer) List(ctx context.Context, _ *image.ListRequest) (*image.ListResponse, error) {
	records, err := server.service.records(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	return &image.ListResponse{Images: server.service.describe(ctx, named(records))}, nil
}

// Pin keeps kubelet from removing an image, or lets it again.
func (server *ImageServer) Pin(ctx context.Context, request *image.PinRequest) (*image.PinResponse, error) {
	record, err := server.ask(ctx, request.GetName())
	if err != nil {
		return nil, err
	}
	if isPinned(record) == request.GetPinned() {
		return &image.PinResponse{}, nil
	}
	if isSystem(record.GetName()) {
		return nil, status.Errorf(codes.FailedPrecondition, "image %s belongs to the OS and stays pinned", record.GetName())
	}
	if _, err := server.service.setPinned(ctx, record, request.GetPinned()); err != nil {
		return nil, err
	}
	return &image.PinResponse{}, nil
}

// setPinned writes the label, which containerd's Kubernetes side sees at once.
// The error is the API's.
func (s *Service) setPinned(ctx context.Context, record *imagesapi.Image, pin bool) (*imagesapi.Image, error) {
	labels := map[string]string{}
	if pin {
		labels[pinnedLabel] = pinned // none removes it
	}
	response, err := imagesapi.NewImagesClient(s.conn).Update(ctx, &imagesapi.UpdateImageRequest{
		// Without a target containerd 2.4 panics, though the mask leaves it alone.
		Image:      &imagesapi.Image{Name: record.GetName(), Target: record.GetTarget(), Labels: labels},
		UpdateMask: &fieldmaskpb.FieldMask{Paths: []string{"labels." + pinnedLabel}},
	})
	if err != nil {
		return nil, unavailable(fmt.Errorf("pin or unpin %s: %w", record.GetName(), err))
	}
	return response.GetImage(), nil
}

// ask returns the record of an image by its name. The error is the API's.
func (server *ImageServer) ask(ctx context.Context, name string) (*imagesapi.Image, error) {
	records, err := server.service.records(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	found := find(named(records), name)
	if found == nil {
		return nil, status.Errorf(codes.NotFound, "no image %q on this node; there are: %s",
			name, strings.Join(names(named(records)), ", "))
	}
	return found, nil
}

// Remove removes an image's name, and with the last name the image.
func (server *ImageServer) Remove(ctx context.Context, request *image.RemoveRequest) (*image.RemoveResponse, error) {
	records, err := server.service.records(ctx)
	if err != nil {
		return nil, unavailable(err)
	}
	found := find(named(records), request.GetName())
	if found == nil {
		return nil, status.Errorf(codes.NotFound, "no image %q on this node; there are: %s",
			request.GetName(), strings.Join(names(named(records)), ", "))
	}
	if isSystem(found.GetName()) {
		return nil, status.Errorf(codes.FailedPrecondition, "image %s belongs to the OS and cannot be removed", found.GetName())
	}
	client := imagesapi.NewImagesClient(server.service.conn)
	for _, name := range removals(records, found) {
		// The last removal waits for the content to be gone, so that the disk
		// space is there when the call returns.
		_, err := client.Delete(ctx, &imagesapi.DeleteImageRequest{Name: name, Sync: true})
		if err != nil && status.Code(err) != codes.NotFound {
			return nil, unavailable(err)
		}
	}
	return &image.RemoveResponse{}, nil
}

// removals lists the records to delete so that target is gone: itself, and the
// nameless ones once no other name holds the same content.
func removals(records []*imagesapi.Image, target *imagesapi.Image) []string {
	list := []string{target.GetName()}
	for _, record := range records {
		if record.GetTarget().GetDigest() != target.GetTarget().GetDigest() || record.GetName() == target.GetName() {
			continue
		}
		if !strings.HasPrefix(record.GetName(), idPrefix) {
			return list[:1]
		}
		list = append(list, record.GetName())
	}
	return list
}

// named leaves out the records that are no names of images.
func named(records []*imagesapi.Image) []*imagesapi.Image {
	return slices.DeleteFunc(slices.Clone(records), func(record *imagesapi.Image) bool {
		return strings.HasPrefix(record.GetName(), idPrefix)
	})
}

func names(records []*imagesapi.Image) []string {
	var list []string
	for _, record := range records {
		list = append(list, record.GetName())
	}
	slices.Sort(list)
	return list
}

func find(records []*imagesapi.Image, name string) *imagesapi.Image {
	i := slices.IndexFunc(records, func(record *imagesapi.Image) bool { return record.GetName() == name })
	if i < 0 {
		return nil
	}
	return records[i]
}

// isSystem tells the images that the OS needs.
func isSystem(name string) bool { return name == PauseImage }

func isPinned(record *imagesapi.Image) bool { return record.GetLabels()[pinnedLabel] == pinned }

// describe turns records into the API's form, ordered by name.
func (s *Service) describe(ctx context.Context, records []*imagesapi.Image) []*image.Image {
	var list []*image.Image
	for _, record := range records {
		list = append(list, &image.Image{
			Name:    record.GetName(),
			Digest:  record.GetTarget().GetDigest(),
			Size:    s.size(ctx, record.GetTarget(), map[string]bool{}),
			Created: record.GetCreatedAt(),
			Pinned:  isPinned(record),
			System:  isSystem(record.GetName()),
		})
	}
	slices.SortFunc(list, func(a, b *image.Image) int { return strings.Compare(a.GetName(), b.GetName()) })
	return list
}

// size sums up an image's stored content, in bytes, each part once. What cannot
// be read counts nothing: layers of other platforms are not there.
func (s *Service) size(ctx context.Context, target *types.Descriptor, seen map[string]bool) int64 {
	seen[target.GetDigest()] = true
	total := target.GetSize()
	text, err := s.document(ctx, target)
	if err != nil {
		return total
	}
	children, err := parseChildren(text)
	if err != nil {
		return total
	}
	for _, child := range children {
		switch {
		case seen[child.Digest.String()]:
		case isDocument(child.MediaType):
			total += s.size(ctx, &types.Descriptor{Digest: child.Digest.String(), Size: child.Size}, seen)
		default:
			seen[child.Digest.String()] = true
			total += child.Size
		}
	}
	return total
}

// parseChildren reads what an index or a manifest is made of.
func parseChildren(text []byte) ([]ocispec.Descriptor, error) {
	var document struct {
		Config    *ocispec.Descriptor  `json:"config"`
		Layers    []ocispec.Descriptor `json:"layers"`
		Manifests []ocispec.Descriptor `json:"manifests"`
	}
	if err := json.Unmarshal(text, &document); err != nil {
		return nil, err
	}
	children := append(document.Layers, document.Manifests...)
	if document.Config != nil {
		children = append(children, *document.Config)
	}
	return children, nil
}

// isDocument tells manifests and indexes, OCI's and Docker's, from content.
func isDocument(mediaType string) bool {
	return strings.HasSuffix(mediaType, ".manifest.v1+json") || strings.HasSuffix(mediaType, ".index.v1+json") ||
		strings.HasSuffix(mediaType, ".manifest.v2+json") || strings.HasSuffix(mediaType, ".manifest.list.v2+json")
}

// unavailable passes containerd's error on, and says so when there is no
// containerd to ask.
func unavailable(err error) error {
	if status.Code(err) == codes.Unavailable {
		return status.Errorf(codes.Unavailable, "containerd does not answer; see osctl services: %v", err)
	}
	return status.Error(status.Code(err), err.Error())
}
