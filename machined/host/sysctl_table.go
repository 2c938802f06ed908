package host

// kubernetesSysctls is what kubelet checks (it would refuse to start with
// --protect-kernel-defaults), what pod networking stands on, and limits that
// the kernel's defaults set for far fewer processes than a node's pods.
var kubernetesSysctls = []Sysctl{
	{"net.ipv4.ip_forward", "1"}, // pods are routed through the node
	{"net.ipv6.conf.all.forwarding", "1"},
	{"net.bridge.bridge-nf-call-iptables", "1"}, // a Service between two pods of one bridge
	{"net.bridge.bridge-nf-call-ip6tables", "1"},
	{"vm.overcommit_memory", "1"},           // kubelet: memory limits are cgroups' business
	{"vm.panic_on_oom", "0"},                // kubelet: the OOM killer decides, not a panic
	{"kernel.panic", "10"},                  // kubelet: reboot 10 s after a panic
	{"kernel.panic_on_oops", "1"},           // kubelet; also the KSPP's answer to an oops
	{"kernel.keys.root_maxkeys", "1000000"}, // kubelet: runc makes a session key for each container
	{"kernel.keys.root_maxbytes", "25000000"},
	{"fs.inotify.max_user_instances", "8192"}, // every container's log is watched
	{"fs.inotify.max_user_watches", "524288"},
	{"kernel.pid_max", "4194304"},                  // the 64-bit maximum; cgroups limit pids per pod
	{"net.ipv4.ping_group_range", "0 2147483647"},  // ping without CAP_NET_RAW
	{"net.ipv4.conf.all.rp_filter", "2"},           // loose: replies to pods may take another interface
	{"net.ipv4.conf.default.rp_filter", "2"},       // for interfaces made later
	{"net.ipv4.conf.all.promote_secondaries", "1"}, // removing one address of a subnet must not remove the others
	{"net.ipv4.conf.all.arp_announce", "2"},        // never announce the DNS link's address elsewhere
	{"net.ipv4.neigh.default.gc_thresh2", "4096"},
	{"net.ipv4.neigh.default.gc_thresh3", "8192"}, // one neighbour per pod and node
	{"net.netfilter.nf_conntrack_max", "262144"},  // kube-proxy asks for 32 Ki per core, at least 128 Ki
	{"vm.max_map_count", "262144"},                // databases in pods map many files
}

// hardeningSysctls is the Kernel Self Protection Project's list
// (https://kspp.github.io/Recommended_Settings#sysctls) with the usual network
// hardening. Left out, because Kubernetes or this OS needs them otherwise:
//   - kernel.modules_disabled: network and storage plugins load modules from privileged pods.
//   - kernel.yama.ptrace_scope=3: no debugging in pods at all; 2 asks CAP_SYS_PTRACE.
//   - user.max_user_namespaces=0: pods with hostUsers: false need them.
//   - kernel.warn_limit=1: one harmless warning would reboot a node.
var hardeningSysctls = []Sysctl{
	{"kernel.kptr_restrict", "2"},             // no kernel addresses, not even for root
	{"kernel.dmesg_restrict", "1"},            // the kernel log may hold addresses
	{"kernel.perf_event_paranoid", "3"},       // no profiling without CAP_PERFMON (Debian's patch; else like 2)
	{"kernel.kexec_load_disabled", "1"},       // a verified boot is not replaced by another kernel
	{"kernel.randomize_va_space", "2"},        // full address space randomization
	{"kernel.yama.ptrace_scope", "2"},         // attach only with CAP_SYS_PTRACE
	{"kernel.unprivileged_bpf_disabled", "1"}, // until the next reboot, unlike 2
	{"net.core.bpf_jit_harden", "2"},          // constant blinding, for root's programs too
	{"kernel.hardlockup_panic", "1"},          // a CPU that hangs is a panic, which ends; an update that does so is given up
	{"kernel.oops_limit", "1"},                // an oops is never survived (with panic_on_oops)
	{"kernel.sysrq", "0"},                     // nobody reboots by keyboard
	{"kernel.core_pattern", "|/bin/false"},    // no core files: they hold secrets and fill /var
	{"dev.tty.ldisc_autoload", "0"},           // line disciplines were a source of kernel bugs
	{"dev.tty.legacy_tiocsti", "0"},           // no injected key presses
	{"vm.unprivileged_userfaultfd", "0"},      // an exploit's favourite way to win races
	{"vm.mmap_min_addr", "65536"},             // null pointer dereferences fault
	{"vm.mmap_rnd_bits", "32"},                // the x86_64 and arm64 maximum
	{"vm.mmap_rnd_compat_bits", "16"},
	{"fs.protected_symlinks", "1"}, // no following of others' links in sticky directories
	{"fs.protected_hardlinks", "1"},
	{"fs.protected_fifos", "2"}, // nor writing to others' files there
	{"fs.protected_regular", "2"},
	{"fs.suid_dumpable", "0"}, // no core of a program that changed its user
	{"net.ipv4.tcp_syncookies", "1"},
	{"net.ipv4.tcp_rfc1337", "1"}, // a stray RST does not end TIME-WAIT
	{"net.ipv4.icmp_echo_ignore_broadcasts", "1"},
	{"net.ipv4.icmp_ignore_bogus_error_responses", "1"},
	{"net.ipv4.conf.all.accept_redirects", "0"}, // routes come from DHCP and the config only
	{"net.ipv4.conf.default.accept_redirects", "0"},
	{"net.ipv4.conf.all.secure_redirects", "0"},
	{"net.ipv4.conf.default.secure_redirects", "0"},
	{"net.ipv4.conf.all.send_redirects", "0"},
	{"net.ipv4.conf.default.send_redirects", "0"},
	{"net.ipv4.conf.all.accept_source_route", "0"},
	{"net.ipv4.conf.default.accept_source_route", "0"},
	{"net.ipv6.conf.all.accept_redirects", "0"},
	{"net.ipv6.conf.default.accept_redirects", "0"},
	{"net.ipv6.conf.all.accept_source_route", "0"},
	{"net.ipv6.conf.default.accept_source_route", "0"},
}
