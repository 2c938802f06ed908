package storage

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
	"testing/fstest"

	"github.com/google/go-cmp/cmp"

	"github.com/keelson-os/keelson/pkg/machineconfig"
)

// captured is what sysfs shows of a few disks.
func captured() fstest.MapFS {
	files := fstest.MapFS{}
	for name, content := range map[string]string{
		"vda/size": "16777216", "vda/serial": "data", "vda/ro": "0", "vda/queue/rotational": "1",
		"vdb/size": "244096", "vdb/ro": "1",
		"nvme0n1/size": "1953525168", "nvme0n1/device/model": "Samsung SSD 980 PRO 1TB                 ", "nvme0n1/device/serial": "S5GX  ",
		"nvme0n1/wwid": "eui.002538", "nvme0n1/queue/rotational": "0",
		"sda/size": "7814037168", "sda/device/model": "WDC WD40EFRX-68N", "sda/device/vpd_pg80": "\x00\x80\x00\x0cWD-WCC7K0AAA", "sda/device/wwid": "naa.50014ee2",
		"sda/queue/rotational": "1",
		"sdb/size":             "0", "sr0/size": "266000", "dm-0/size": "244096", "loop0/size": "8",
	} {
		files["sys/devices/"+name] = &fstest.MapFile{Data: []byte(content + "\n")}
		files["sys/block/"+name] = &fstest.MapFile{Data: []byte(content + "\n")}
	}
	return files
}

func TestListDisks(t *testing.T) {
	disks, err := ListDisks(captured(), "sdc")
	if err != nil {
		t.Fatal(err)
	}
	want := []machineconfig.Disk{
		{Path: "/dev/nvme0n1", Size: 1953525168 * 512, Model: "Samsung SSD 980 PRO 1TB", Serial: "S5GX", WWN: "eui.002538", Transport: "nvme"},
		{Path: "/dev/sda", Size: 7814037168 * 512, Model: "WDC WD40EFRX-68N", Serial: "WD-WCC7K0AAA", WWN: "naa.50014ee2", Rotational: true},
		{Path: "/dev/vda", Size: 8 << 30, Serial: "data", Transport: "virtio", Rotational: true},
	}
	if diff := cmp.Diff(want, disks); diff != "" {
		t.Error(diff)
	}
	if disks, err = ListDisks(captured(), "sda"); err != nil || len(disks) != 2 {
		t.Errorf("without the medium sda: %+v, %v", disks, err)
	}
	if _, err := ListDisks(fstest.MapFS{}, ""); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
}

func TestTransport(t *testing.T) {
	for place, want := range map[string]string{
		"../devices/pci0000:00/0000:00:1f.2/ata1/host0/target0:0:0/0:0:0:0/block/sda":                    "sata",
		"../devices/pci0000:00/0000:00:14.0/usb2/2-1/2-1:1.0/host6/target6:0:0/6:0:0:0/block/sda":        "usb",
		"../devices/pci0000:00/0000:03:00.0/host0/port-0:0/end_device-0:0/target0:0:0/0:0:0:0/block/sda": "sas",
		"../devices/pci0000:00/0000:00:05.0/virtio2/host2/target2:0:0/2:0:0:0/block/sda":                 "virtio",
		"../devices/LNXSYSTM:00/LNXSYBUS:00/ACPI0004:00/VMBUS:00/host0/target0:0:0/0:0:0:0/block/sda":    "scsi",
	} {
		root := fstest.MapFS{"sys/block/sda": {Data: []byte(place), Mode: fs.ModeSymlink}}
		if got := transport(root, "sda"); got != want {
			t.Errorf("%s: %q, want %q", place, got, want)
		}
	}
}

func TestChoose(t *testing.T) {
	disks, err := ListDisks(captured(), "sdc")
	if err != nil {
		t.Fatal(err)
	}
	for name, test := range map[string]struct {
		selector machineconfig.DiskSelector
		want     string // a path, or words of an error
	}{
		"by transport": {machineconfig.DiskSelector{Transport: "nvme"}, "/dev/nvme0n1"},
		"by size":      {machineconfig.DiskSelector{Size: "< 100GiB"}, "/dev/vda"},
		"by serial":    {machineconfig.DiskSelector{Serial: "WD-*"}, "/dev/sda"},
		"ambiguous":    {machineconfig.DiskSelector{Size: ">= 500GB"}, "fits 2 disks: /dev/nvme0n1 (953869 MiB, nvme, Samsung SSD 980 PRO 1TB, serial S5GX, WWN eui.002538); /dev/sda"},
		"none":         {machineconfig.DiskSelector{Model: "Intel*"}, `no disk fits machine.install.diskSelector: /dev/nvme0n1: its model is "Samsung SSD 980 PRO 1TB"; /dev/sda: its model`},
	} {
		got, err := choose(disks, &test.selector)
		if got.Path != test.want && (err == nil || !strings.Contains(err.Error(), test.want)) {
			t.Errorf("%s: %+v, %v, want %s", name, got, err, test.want)
		}
	}
	if _, err := choose(nil, &machineconfig.DiskSelector{Transport: "nvme"}); !errors.Is(err, errNoMatch) || !strings.Contains(err.Error(), "there is none") {
		t.Error(err)
	}
}
