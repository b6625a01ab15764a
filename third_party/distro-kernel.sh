#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# distro-kernel.sh <dir>: prints "<vmlinuz> <modules directory>" of the distribution's cloud kernel: the newest installed one, else the
# package unpacked into <dir> (nothing is installed, the host's boot loader never hears of it).
set -euo pipefail
dir=$1
here=$(cd "$(dirname "$0")" && pwd)
newest()
{
	local k r
	for k in $(ls -1v "$1"/boot/vmlinuz-*cloud* 2>/dev/null | tac); do
		r=${k#"$1"/boot/vmlinuz-}
		for m in "$1/lib/modules/$r" "$1/usr/lib/modules/$r"; do
			[ -d "$m/kernel" ] && [ -r "$k" ] && { echo "$k $m"; return 0; }
		done
	done
	return 1
}
newest "" && exit 0
if mkdir -p "$dir" 2>/dev/null && [ -w "$dir" ]; then
	exec 9>"$dir/.lock" # nobody takes one that is still being unpacked
	flock -w 600 9
fi
newest "$dir" && exit 0
arch=$(dpkg --print-architecture)
pkg=$(apt-cache depends --no-recommends "linux-image-cloud-$arch" 2>/dev/null | awk '/Depends: linux-image/ {print $2; exit}')
if [ -z "$pkg" ]; then
	apt-get -q update >&2
	pkg=$(apt-cache depends --no-recommends "linux-image-cloud-$arch" | awk '/Depends: linux-image/ {print $2; exit}')
fi
[ -n "$pkg" ] || { echo "distro-kernel.sh: the distribution has no linux-image-cloud-$arch" >&2; exit 1; }
mkdir -p "$dir"
bash "$here/fetch-deb.sh" "$pkg" "$dir"
newest "$dir"
