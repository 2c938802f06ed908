package containers

import (
	"io"
	"slices"
	"testing"
	"time"

	"github.com/keelson-os/keelson/pkg/api/image"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

// kubeletPins waits until kubelet is told that an image is pinned, or that it is
// not: of those that are, it collects none. containerd tells itself by an event.
func kubeletPins(t *testing.T, s *Service, name string, want bool) {
	t.Helper()
	late := time.After(30 * time.Second)
	for {
		list, err := cri.NewImageServiceClient(s.conn).ListImages(t.Context(), &cri.ListImagesRequest{})
		i := slices.IndexFunc(list.GetImages(), func(each *cri.Image) bool { return slices.Contains(each.GetRepoTags(), name) })
		if i >= 0 && list.GetImages()[i].GetPinned() == want {
			return
		}
		select {
		case <-late:
			t.Errorf("%s: kubelet is told %v (%v), want pinned %t", name, list.GetImages(), err, want)
			return
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func pin(t *testing.T, s *Service, name string, pinned bool) error {
	t.Helper()
	_, err := s.ImageServer().Pin(t.Context(), &image.PinRequest{Name: name, Pinned: pinned})
	return err
}

func testPinnedImages(t *testing.T, s *Service) {
	const kept, other = "example.com/kept:1", "example.com/other:1"
	kubeletPins(t, s, PauseImage, true)
	if _, err := sendPinned(t, s, archive(t, kept)); err != nil {
		t.Fatal(err)
	}
	kubeletPins(t, s, kept, true)
	// Importing it again without a word about that leaves it as it is.
	response, err := send(t, s, archive(t, kept), io.EOF)
	if err != nil || !response.GetImages()[0].GetPinned() || response.GetImages()[0].GetSystem() {
		t.Errorf("imported again: %v, %v", response, err)
	}
	kubeletPins(t, s, kept, true)

	if _, err := send(t, s, archive(t, other), io.EOF); err != nil {
		t.Fatal(err)
	}
	kubeletPins(t, s, other, false)
	for _, pinned := range []bool{true, true, false} {
		if err := pin(t, s, other, pinned); err != nil {
			t.Error(err)
		}
		kubeletPins(t, s, other, pinned)
	}
	if err := pin(t, s, PauseImage, true); err != nil {
		t.Errorf("pinning what is pinned: %v", err)
	}
	if err := pin(t, s, PauseImage, false); status.Code(err) != codes.FailedPrecondition {
		t.Errorf("unpinning the OS's image: %v", err)
	}
	if err := pin(t, s, "example.com/missing:1", true); status.Code(err) != codes.NotFound {
		t.Errorf("pinning what is not there: %v", err)
	}
	for _, name := range []string{kept, other} {
		if _, err := s.ImageServer().Remove(t.Context(), &image.RemoveRequest{Name: name}); err != nil {
			t.Errorf("a pinned image can be removed by who asks for it: %v", err)
		}
	}
	if got := list(t, s); len(got) != 1 {
		t.Errorf("images %q are left", got)
	}
}
