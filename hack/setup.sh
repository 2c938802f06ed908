#!/bin/sh
# Installs the Debian packages that are missing, as root or through sudo, and
# needs neither when none is missing:
#
#	hack/setup.sh [build] [run] [verify]
#
# build: what "make image" needs; run: what starts clusters; verify: what
# generates code. Without a word: all of them.
set -eu

# runc is linked with C; the others make the root image and read packages.
build="ca-certificates gcc libc6-dev libseccomp-dev pkg-config make squashfs-tools cryptsetup-bin kmod xz-utils binutils sbsigntool qemu-utils xorriso"
run="qemu-system-x86 ovmf"
verify="git protobuf-compiler libprotobuf-dev"

# The kernel's package has its version in its name; this one leads to it.
kernel=linux-image-6.12-amd64

packages=
for set in ${*:-build run verify}; do
	case $set in
	build) packages="$packages $build" ;;
	run) packages="$packages $run" ;;
	verify) packages="$packages $verify" ;;
	*) echo "setup.sh: there is no set \"$set\"; there are build, run and verify" >&2; exit 2 ;;
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
