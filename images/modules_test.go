package main

import (
	"strings"
	"testing"
)

// depmodShow is an excerpt of what "depmod --show" prints.
const depmodShow = `kernel/lib/crc16.ko.xz:
kernel/fs/mbcache.ko.xz:
kernel/fs/jbd2/jbd2.ko.xz:
kernel/fs/ext4/ext4.ko.xz: kernel/lib/crc16.ko.xz kernel/fs/mbcache.ko.xz kernel/fs/jbd2/jbd2.ko.xz
kernel/drivers/md/dm-mod.ko.xz:
kernel/net/netfilter/nfnetlink.ko.xz:
kernel/net/netfilter/nf_tables.ko.xz: kernel/net/netfilter/nfnetlink.ko.xz
kernel/net/netfilter/nft_ct.ko.xz: kernel/net/netfilter/nf_tables.ko.xz kernel/net/netfilter/nfnetlink.ko.xz
kernel/net/netfilter/nft_nat.ko.xz: kernel/net/netfilter/nf_tables.ko.xz kernel/net/netfilter/nfnetlink.ko.xz
# Aliases extracted from modules themselves.
alias fs-ext4 ext4
alias pci:v00008086d*sv*sd*bc*sc*i* other
softdep ext4 pre: crypto-crc32c
`

func TestChooseModules(t *testing.T) {
	dependencies := parseDependencies(depmodShow)
	for _, c := range []struct{ wanted, want string }{
		{"ext4", "fs/ext4/ext4 fs/jbd2/jbd2 fs/mbcache lib/crc16"},
		{"dm_mod", "drivers/md/dm-mod"},
		{"dm-mod", "drivers/md/dm-mod"},
		{"net/netfilter/nft_*", "net/netfilter/nf_tables net/netfilter/nfnetlink net/netfilter/nft_ct net/netfilter/nft_nat"},
		{"crc16 mbcache", "fs/mbcache lib/crc16"},
	} {
		chosen, err := chooseModules(dependencies, strings.Fields(c.wanted))
		if err != nil {
			t.Errorf("%s: %v", c.wanted, err)
		}
		got := strings.NewReplacer("kernel/", "", ".ko.xz", "").Replace(strings.Join(chosen, " "))
		if got != c.want {
			t.Errorf("chooseModules(%s) = %s, expected %s", c.wanted, got, c.want)
		}
	}
	_, err := chooseModules(dependencies, []string{"ext4", "net/netfilter/xt_*", "gone"})
	if err == nil || !strings.Contains(err.Error(), "gone") || !strings.Contains(err.Error(), "xt_*") {
		t.Errorf("modules that are not there: error %v", err)
	}
}

func TestCutIndex(t *testing.T) {
	for _, c := range []struct{ index, want string }{
		{"kernel/a/x-y.ko: kernel/b/z.ko\nkernel/b/z.ko:\nkernel/c/gone.ko:\n", "kernel/a/x-y.ko: kernel/b/z.ko\nkernel/b/z.ko:\n"},
		{"# comment\nalias pci:v1* x_y\nalias pci:v2* gone\n", "# comment\nalias pci:v1* x_y\n"},
		{"softdep z pre: q\nsoftdep gone pre: z\n", "softdep z pre: q\n"},
		{"kernel/fs/fuse/fuse.ko\n", "kernel/fs/fuse/fuse.ko\n"}, // modules.builtin
	} {
		if got := cutIndex(c.index, map[string]bool{"x_y": true, "z": true}); got != c.want {
			t.Errorf("cutIndex(%q) = %q, expected %q", c.index, got, c.want)
		}
	}
}
