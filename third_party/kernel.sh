#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# kernel.sh <outdir>: <outdir>/vmlinux, our own guest kernel: the distribution's linux-source package, tinyconfig and kernel.config.
# The binary package is unpacked, not installed. Kept with the recipe's hash; about four minutes on two cores. The same source package and
# compiler give the same file in any directory. KERNEL_CONFIG_ONLY=1: only <outdir>/obj/.config.
set -euo pipefail
export LC_ALL=C
out=${1:?usage: kernel.sh <outdir>}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$out"
out=$(cd "$out" && pwd)
pkg=${KERNEL_SOURCE:-linux-source-6.1}
recipe=$(cat "$here/kernel.sh" "$here/kernel.config" <(echo "$pkg") | sha256sum | cut -d' ' -f1)
exec 9>"$out/lock"
flock -w 1800 9
[ -s "$out/vmlinux" ] && [ "$(cat "$out/stamp" 2>/dev/null)" = "$recipe" ] && exit 0

echo "kernel.sh: fetching $pkg" >&2
"$here/fetch-deb.sh" "$pkg" "$out/deb"
if [ ! -e "$out/src/.unpacked" ]; then
	echo "kernel.sh: unpacking" >&2
	mkdir -p "$out/src"
	tar -C "$out/src" --strip-components=1 -xf "$out"/deb/usr/src/linux-source-*.tar.xz
	touch "$out/src/.unpacked"
fi
cd "$out/src"
mk=(make -s O="$out/obj" KBUILD_BUILD_USER=container KBUILD_BUILD_HOST=container KBUILD_BUILD_VERSION=1
	KBUILD_BUILD_TIMESTAMP="$(date -u -d @1700000000)")
mkdir -p "$out/obj"
"${mk[@]}" KCONFIG_ALLCONFIG="$here/kernel.config" tinyconfig >"$out/config.log" 2>&1 || { tail "$out/config.log" >&2; exit 1; }
# tinyconfig applies its own choices after ours: merge once more, then see that each of ours was taken.
scripts/kconfig/merge_config.sh -m -O "$out/obj" "$out/obj/.config" "$here/kernel.config" >>"$out/config.log" 2>&1
"${mk[@]}" olddefconfig >>"$out/config.log" 2>&1
lost=0
while IFS= read -r line; do
	case $line in
	CONFIG_*=n) grep -q "^${line%=n}=" "$out/obj/.config" && { echo "kernel.sh: not taken: $line" >&2; lost=1; } ;;
	CONFIG_*) grep -qxF "$line" "$out/obj/.config" || { echo "kernel.sh: not taken: $line" >&2; lost=1; } ;;
	esac
done <"$here/kernel.config"
[ $lost = 0 ] || exit 1
[ -z "${KERNEL_CONFIG_ONLY:-}" ] || exit 0
echo "kernel.sh: compiling (some minutes; the log is $out/build.log)" >&2
if ! ${NICE:+nice -n "$NICE"} "${mk[@]}" -j"$(nproc)" vmlinux >"$out/build.log" 2>&1; then
	tail -30 "$out/build.log" >&2
	exit 1
fi
strip --strip-debug -o "$out/vmlinux.tmp" "$out/obj/vmlinux"
mv "$out/vmlinux.tmp" "$out/vmlinux"
echo "$recipe" >"$out/stamp"
echo "kernel.sh: $out/vmlinux, $(($(stat -c %s "$out/vmlinux") / 1048576)) MB" >&2
