package localpath

import (
	"context"
	"io"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
)

// sweep removes folders that were begun for claims that went before there was a
// volume. Only empty ones: data without a volume are someone's who kept them. A
// claim that still waits has its folder made again, for which sweep must be over.
func (a *agent) sweep(ctx context.Context) {
	if _, err := a.disk.dir.Seek(0, io.SeekStart); err != nil {
		klog.ErrorS(err, "Cannot look for folders without a volume")
		return
	}
	names, err := a.disk.dir.Readdirnames(-1)
	if err != nil {
		klog.ErrorS(err, "Cannot look for folders without a volume")
		return
	}
	for _, name := range names {
		if a.watches.volume(name) != nil {
			continue
		}
		// The watch shows volumes with our label only, which can be taken off.
		if volume, err := a.volume(ctx, name); err != nil || volume != nil {
			continue
		}
		if unix.Unlinkat(int(a.disk.dir.Fd()), name, unix.AT_REMOVEDIR) == nil {
			klog.InfoS("Removed an empty folder without a volume", "folder", name)
		}
	}
}
