package host

import (
	"testing"
	"testing/fstest"
)

func TestPartitionNode(t *testing.T) {
	root := fstest.MapFS{}
	for file, content := range map[string]string{
		"sys/block/vda/vda1/uevent":          "DEVNAME=vda1\nPARTNAME=ESP\n",
		"sys/block/vda/vda2/uevent":          "DEVNAME=vda2\nPARTNAME=ROOT-A\n",
		"sys/block/vda/device/uevent":        "DRIVER=virtio_blk\n",
		"sys/block/nvme0n1/nvme0n1p2/uevent": "PARTNAME=ROOT-A\n",
	} {
		root[file] = &fstest.MapFile{Data: []byte(content)}
	}
	for _, test := range []struct{ disk, name, want string }{
		{"vda", "ESP", "/dev/vda1"}, {"vda", "ROOT-A", "/dev/vda2"}, {"nvme0n1", "ROOT-A", "/dev/nvme0n1p2"},
		{"vda", "ROOT-B", ""}, {"vda", "ROOT", ""}, {"sda", "ESP", ""},
	} {
		got, err := PartitionNode(root, test.disk, test.name)
		if got != test.want || (err == nil) != (test.want != "") {
			t.Errorf("%s on %s: %q, %v", test.name, test.disk, got, err)
		}
	}
}
