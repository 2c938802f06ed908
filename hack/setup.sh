#!/bin/sh
# Installs the Debian packages that are missing, as root or through sudo, and
# needs neither when none is missing:
#
#	hack/setup.sh [build] [run] [verify] [ARCH]
#
# build: what "make image" needs; run: what starts clusters; verify: what
# generates code. Without a word: all of them. ARCH, which is amd64 or arm64: what
# builds images for that architecture and starts them, if this machine has another.
set -eu

# runc is linked with C; the others make the root image and read packages.
build="ca-certificates gcc libc6-dev libseccomp-dev pkg-config make squashfs-tools cryptsetup-bin kmod xz-utils binutils sbsigntool qemu-utils xorriso"
verify="git protobuf-compiler libprotobuf-dev"

# The kernel's package has its version in its name; this one leads to it.
host=$(dpkg --print-architecture)
kernel=linux-image-6.12-$host

# QEMU and UEFI for an architecture, and the compiler for it on another one.
machines() {
	case $1 in
	amd64) echo qemu-system-x86 ovmf ;;
	arm64) echo qemu-system-arm qemu-efi-aarch64 ;;
	esac
}
compiler() {
	case $1 in
	amd64) echo gcc-x86-64-linux-gnu ;;
	arm64) echo gcc-aarch64-linux-gnu ;;
	esac
}

packages=
for set in ${*:-build run verify}; do
	case $set in
	build) packages="$packages $build" ;;
	run) packages="$packages $(machines "$host")" ;;
	verify) packages="$packages $verify" ;;
	"$host") ;; # build and run are for it
	amd64 | arm64) packages="$packages $(compiler "$set") $(machines "$set")" ;;
	*) echo "setup.sh: there is no set \"$set\"; there are build, run, verify, amd64 and arm64" >&2; exit 2 ;;
	esac
done

as_root() {
	if [ "$(id -u)" = 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		echo "setup.sh: this needs root, and there is no sudo; run as root: $*" >&2
		exit 1
	fi
}

installed() { [ "$(dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null)" = installed ]; }
lists_kernel() { apt-cache depends "$kernel" 2>/dev/null | grep -q 'Depends: linux-image-6.12'; }
needs_lists() { case " $packages " in *" squashfs-tools "*) ! lists_kernel ;; *) false ;; esac; }

missing=
for package in $packages; do
	installed "$package" || missing="$missing $package"
done

if [ -n "$missing" ] || needs_lists; then
	[ -z "$missing" ] || echo "missing Debian packages:$missing"
	! needs_lists || echo "apt knows no $kernel yet; fetching its lists"
	as_root apt-get update -q
	if needs_lists; then
		echo "setup.sh: apt offers no $kernel; add bookworm-security (main) to /etc/apt/sources.list.d and run it again" >&2
		exit 1
	fi
fi
# shellcheck disable=SC2086 # one word per package
[ -z "$missing" ] || as_root env DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends $missing

command -v go >/dev/null || {
	echo "setup.sh: there is no Go; get Go 1.26 or newer from https://go.dev/dl" >&2
	exit 1
}
