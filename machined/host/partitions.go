package host

import (
	"fmt"
	"io/fs"
	"path"
	"strings"
)

// PartitionNode is the device node of the partition of that name, on a disk by
// the kernel's name of it: "/dev/vda2" for "ROOT-A" on "vda".
func PartitionNode(root fs.FS, disk, name string) (string, error) {
	files, _ := fs.Glob(root, path.Join("sys/block", disk, "*", "uevent")) // the pattern is good
	for _, file := range files {
		text, err := fs.ReadFile(root, file)
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			if strings.TrimSpace(line) == "PARTNAME="+name {
				return "/dev/" + path.Base(path.Dir(file)), nil
			}
		}
	}
	return "", fmt.Errorf("the disk %s has no partition %s", disk, name)
}
