#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# deps.sh [--print] <group>…: installs what is missing of the distribution's packages for the groups, or prints the packages.
# Groups: build, test, check, bench, fuzz, lab, quickstart, kernel. Packages that would change how the host runs or boots (a registry service, a
# kernel) are not among them: fetch-deb.sh unpacks those privately. podman's enables a socket unit where systemd runs, which waits for its users.
set -euo pipefail
print=0
[ "${1:-}" = --print ] && { print=1; shift; }
[ $# -gt 0 ] || { echo "usage: deps.sh [--print] build|test|check|bench|fuzz|lab|quickstart|kernel …" >&2; exit 64; }

build="gcc make nasm binutils dpkg-dev libc6-dev libjson-c-dev libzstd-dev libcap-dev libseccomp-dev libext2fs-dev
	liblz4-dev liblzma-dev libssl-dev libc-ares-dev libnghttp2-dev ca-certificates linux-libc-dev zstd git"
run="qemu-system-x86 busybox-static jq iproute2"
test="$run zlib1g-dev libcmocka-dev perl e2fsprogs erofs-utils skopeo umoci buildah podman oci-image-tool mmdebstrap nftables socat tmux tcpdump
	curl procps util-linux acpica-tools openssl openssh-client strace passt ethtool systemd"
check="clang-format clang-tidy cppcheck"
bench="$test podman"
fuzz="clang-14 libclang-rt-14-dev zlib1g-dev erofs-utils"
lab="$run cpio kmod perl e2fsprogs erofs-utils iproute2 nftables socat"
kernel="bc bison flex libelf-dev xz-utils"

want=$build
for g; do
	case $g in
	build) ;;
	test) want+=" $test" ;;
	check) want+=" $check" ;;
	bench) want+=" $bench" ;;
	fuzz) want+=" $fuzz" ;;
	lab) want+=" $lab" ;;
	quickstart) want+=" $run" ;;
	kernel) want+=" $kernel" ;;
	*) echo "deps.sh: no group $g" >&2; exit 64 ;;
	esac
done
mapfile -t want < <(tr -s ' \t\n' '\n\n\n' <<<"$want" | sed '/^$/d' | sort -u)
if [ $print = 1 ]; then
	printf '%s\n' "${want[@]}"
	exit 0
fi
if ! command -v apt-get >/dev/null; then
	echo "deps.sh: not a Debian-like host; install these by hand: ${want[*]}" >&2
	exit 0
fi
missing=()
for p in "${want[@]}"; do
	[ "$(dpkg-query -W -f '${db:Status-Abbrev}' "$p" 2>/dev/null | cut -c2)" = i ] || missing+=("$p")
done
[ ${#missing[@]} -gt 0 ] || exit 0
echo "deps.sh: installing ${missing[*]}" >&2
if [ "$(id -u)" != 0 ]; then
	echo "deps.sh: not root; run: apt-get install --no-install-recommends ${missing[*]}" >&2
	exit 1
fi
export DEBIAN_FRONTEND=noninteractive
opts=(-q -y --no-install-recommends -o Dpkg::Use-Pty=0 -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3)
apt-get "${opts[@]}" install "${missing[@]}" >&2 || {
	apt-get -q -o DPkg::Lock::Timeout=300 update >&2
	apt-get "${opts[@]}" install "${missing[@]}" >&2
}
