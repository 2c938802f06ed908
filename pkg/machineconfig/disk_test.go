package machineconfig

import (
	"strings"
	"testing"
)

func TestDiskSelector(t *testing.T) {
	yes, no := true, false
	disk := Disk{Path: "/dev/sda", Size: 500 << 30, Model: "Samsung SSD 870", Serial: "S5RR", WWN: "naa.5002538f", Transport: "sata"}
	for want, list := range map[string][]DiskSelector{
		"": {
			{}, {Size: ">= 100GiB"}, {Size: "<1TiB"}, {Size: "500 GiB"}, {Size: "== 536870912000"}, {Size: "> 500GB"}, {Model: "samsung*"},
			{Model: "Samsung SSD ???"}, {Serial: "S5RR"}, {WWN: "naa.*"}, {Transport: "sata"}, {Rotational: &no},
			{Size: ">= 100GiB, < 2TB"}, {Model: "WDC*|samsung*"}, {Transport: "nvme | sata"},
			{Size: ">= 1B", Model: "*", Transport: "sata", Rotational: &no},
		},
		"its size is 536870912000 bytes":   {{Size: "> 500GiB"}, {Size: "<= 499GiB"}, {Size: "1TB"}, {Size: ">= 100GiB, < 400GiB"}, {Size: "> 1TB, < 2TB"}},
		`its model is "Samsung SSD 870"`:   {{Model: "Samsung"}, {Model: "WDC*|INTEL*"}, {Size: ">1B", Model: "WDC*"}},
		`its serial number is "S5RR"`:      {{Serial: "S5"}},
		`its WWN is "naa.5002538f"`:        {{WWN: "eui.*"}},
		`its transport is "sata"`:          {{Transport: "usb"}},
		"rotational is false":              {{Rotational: &yes}},
		`expected a size such as ">= 100G`: {{Size: "large"}},
	} {
		for _, selector := range list {
			if got := selector.Mismatch(disk); !strings.HasPrefix(got, want) || (want == "") != (got == "") {
				t.Errorf("%+v: %q, want %q", selector, got, want)
			}
		}
	}
	if (&DiskSelector{}).Given() || !(&DiskSelector{Rotational: &no}).Given() {
		t.Error("what is given is not known")
	}
}

func TestDiskSelectorsThatAreWrong(t *testing.T) {
	for _, selector := range []DiskSelector{
		{Size: "large"}, {Size: "=> 5GiB"}, {Size: "99999999999999PiB"}, {Size: "-1"}, {Model: "["}, {Transport: "floppy"},
		{Size: ">= 1GiB,"}, {Size: "1GiB < 2GiB"}, {Model: "a|[|["}, {Serial: "a|"}, {Transport: "nvme|floppy|tape"},
	} {
		var wrong []string
		selector.validate(func(field, _ string, _ ...any) { wrong = append(wrong, field) })
		if len(wrong) != 1 {
			t.Errorf("%+v: %v", selector, wrong)
		}
	}
}
