package main

import "slices"

// imageModules are the kernel modules of the root image, besides what these
// need and those of one architecture alone (arch.go). An entry is a module's
// name, or a pattern over paths below kernel/. Leaving a module out keeps its
// code, and its bugs, out of every node.
var imageModules = slices.Concat(bootModules, []string{
	// Hypervisors.
	"virtio_net", "virtio_balloon", "virtio_rng", "virtio_mmio", "vmw_vsock_virtio_transport",
	"qemu_fw_cfg", "vmxnet3",
	"hv_vmbus", "hv_netvsc", "hv_utils", "hv_balloon", "xen_netfront", "ena", "gve", "mana",

	// Network cards that work without firmware files, or well enough.
	"e1000", "e1000e", "igb", "igbvf", "igc", "ixgbe", "ixgbevf", "i40e", "iavf", "ice",
	"r8169", "realtek", "8139too", "8139cp", "tg3", "bnxt_en", "mlx4_en", "mlx5_core", "be2net",
	"atlantic", "alx", "atl1c", "sky2", "amd_xgbe",
	"usbnet", "cdc_ether", "cdc_ncm", "r8152", "ax88179_178a",

	// Disks. sd_mod and friends are among the boot modules.
	"sg", "ata_generic", "hpsa", "aacraid", "mptspi", "sdhci_pci", "sdhci_acpi",
	"dm_crypt", "dm_snapshot", "dm_thin_pool", "dm_multipath", "dm_mirror", "raid1",

	// File systems, and block devices that volume drivers bring.
	"ext4", "xfs", "erofs", "isofs", "efivarfs", "nls_utf8", "overlay", "nfsv3", "nfsv4",
	"ceph", "rbd", "nbd", "iscsi_tcp",

	// Links and tunnels that pod networks are made of.
	"bridge", "br_netfilter", "veth", "dummy", "tun", "tap", "macvlan", "macvtap", "ipvlan", "vrf", "ifb",
	"8021q", "bonding", "vxlan", "geneve", "wireguard", "ipip", "sit", "ip_gre", "ip6_tunnel", "ip6_gre",
	"tcp_bbr", "inet_diag", "tcp_diag", "udp_diag", "vhost_net",

	// nftables: kube-proxy, the CNI plugins, network policies.
	"nf_tables", "net/netfilter/nft_*", "net/ipv4/netfilter/nft_*", "net/ipv6/netfilter/nft_*",
	"nf_conntrack", "nf_conntrack_netlink", "nf_nat", "nf_flow_table_inet", "nf_log_syslog",
	"nfnetlink_log", "nfnetlink_queue",

	// iptables, for network plugins and meshes that bring their own.
	"iptable_filter", "iptable_nat", "iptable_mangle", "iptable_raw", "ipt_REJECT", "ipt_rpfilter",
	"ip6table_filter", "ip6table_nat", "ip6table_mangle", "ip6table_raw", "ip6t_REJECT", "ip6t_rpfilter",
	"xt_addrtype", "xt_bpf", "xt_cgroup", "xt_comment", "xt_connlimit", "xt_connmark", "xt_conntrack",
	"xt_CT", "xt_hashlimit", "xt_iprange", "xt_limit", "xt_LOG", "xt_mac", "xt_mark", "xt_MASQUERADE",
	"xt_multiport", "xt_nat", "xt_NETMAP", "xt_NFLOG", "xt_owner", "xt_physdev", "xt_pkttype", "xt_recent",
	"xt_REDIRECT", "xt_set", "xt_socket", "xt_state", "xt_statistic", "xt_string", "xt_tcpmss", "xt_TCPMSS",
	"xt_tcpudp", "xt_TPROXY", "xt_u32", "ip_set", "net/netfilter/ipset/ip_set_hash_*", "ip_set_list_set",

	// Traffic control: bandwidth limits, eBPF programs, faults in tests.
	"sch_fq", "sch_htb", "sch_tbf", "sch_ingress", "sch_netem", "sch_prio", "sch_sfq",
	"cls_bpf", "cls_matchall", "cls_u32", "cls_flower", "cls_fw", "act_bpf", "act_mirred", "act_police", "act_gact",

	// Ciphers and checksums that modules above ask for by name, and their fast forms.
	"xts", "essiv", "gcm", "ccm", "cmac", "authenc", "echainiv",

	// Watchdogs, management controllers, power.
	"i6300esb", "wdat_wdt", "softdog",
	"ipmi_si", "ipmi_devintf",
})

// bootModules are the modules of the initramfs: what may be needed to reach
// the root image on any medium and to verify it.
var bootModules = slices.Concat(bootLoad, []string{
	// Drivers of disks, for those devices that are there.
	"virtio_scsi", "nvme", "ahci", "ata_piix", "sd_mod", "sr_mod", "usb_storage", "uas", "xhci_pci", "ehci_pci",
	"mpt3sas", "mpi3mr", "megaraid_sas", "smartpqi", "hv_storvsc", "xen_blkfront",
	// A medium that is a file of the initramfs; the ESP, when an image is given up.
	"loop", "vfat", "nls_ascii", "nls_cp437",
	// ext4 and xfs ask for crc32c, which no dependency index says.
	"crc32c_generic",
})

// bootLoad are the modules that stage 1 always loads, by name.
var bootLoad = []string{"dm_mod", "dm_bufio", "reed_solomon", "dm_verity", "squashfs", "virtio_blk"}
