package install

import (
	"testing"
	"testing/fstest"

	"github.com/keelson-os/keelson/pkg/osdisk"
)

// sysfs makes the files of sysfs; a name that ends in a slash is a folder.
func sysfs(files map[string]string) fstest.MapFS {
	root := fstest.MapFS{}
	for name, content := range files {
		root[name] = &fstest.MapFile{Data: []byte(content + "\n")}
	}
	return root
}

func TestFind(t *testing.T) {
	verified := func(on string, more map[string]string) map[string]string {
		files := map[string]string{"sys/block/dm-0/dm/name": "root", "sys/block/dm-0/slaves/" + on + "/uevent": ""}
		for name, content := range more {
			files[name] = content
		}
		return files
	}
	partition := func(disk, name, label string) map[string]string {
		return map[string]string{
			"sys/class/block/" + name + "/uevent":           "DEVTYPE=partition\nPARTN=2\nPARTNAME=" + label,
			"sys/block/" + disk + "/" + name + "/partition": "2",
		}
	}
	for name, test := range map[string]struct {
		files map[string]string
		want  Source
	}{
		"QEMU gave the image":    {verified("vdb", map[string]string{"sys/class/block/vdb/uevent": "DEVTYPE=disk"}), Source{Kind: Given, Device: "vdb"}},
		"in the first slot":      {verified("vda2", partition("vda", "vda2", "ROOT-A")), Source{Kind: Installed, Device: "vda", Slot: osdisk.SlotA}},
		"in the second slot":     {verified("nvme0n1p3", partition("nvme0n1", "nvme0n1p3", "ROOT-B")), Source{Kind: Installed, Device: "nvme0n1", Slot: osdisk.SlotB}},
		"on a USB stick":         {verified("sdb3", partition("sdb", "sdb3", "Appended3")), Source{Kind: Medium, Device: "sdb"}},
		"on a partition unnamed": {verified("sdb3", map[string]string{"sys/class/block/sdb3/uevent": "PARTN=3", "sys/block/sdb/sdb3/partition": "3"}), Source{Kind: Medium, Device: "sdb"}},
		"on a CD, through a window": {map[string]string{
			"sys/block/dm-0/dm/name": "medium", "sys/block/dm-0/slaves/sr0/uevent": "",
			"sys/block/dm-1/dm/name": "root", "sys/block/dm-1/slaves/dm-0/uevent": "",
		}, Source{Kind: Medium, Device: "sr0"}},
	} {
		got, err := Find(sysfs(test.files))
		if err != nil || got != test.want {
			t.Errorf("%s: %+v, %v, want %+v", name, got, err, test.want)
		}
	}
	for name, files := range map[string]map[string]string{
		"no verified root": {"sys/block/vda/size": "1"},
		"two devices below": {
			"sys/block/dm-0/dm/name": "root", "sys/block/dm-0/slaves/vda2/uevent": "", "sys/block/dm-0/slaves/vdb2/uevent": "",
		},
	} {
		if got, err := Find(sysfs(files)); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}
