#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vmm-vsock.sh: what our vsock device carries: one stream each way, and STREAMS (1000) at once, of which none may starve. Nobody else has a user space
# device to compare with, so these figures are only printed. Rows go to $BENCH_TSV (appended; build/bench/vmm-vsock.tsv). RUNS=n (5),
# SECS=seconds of each (3), ENGINE=qemu|kvm (kvm: where /dev/kvm is real, or in the lab).
set -euo pipefail
cd "$(dirname "$0")/../.."
B=${BUILD:-build}
RUNS=${RUNS:-5} SECS=${SECS:-3} ENGINE=${ENGINE:-qemu} STREAMS=${STREAMS:-1000}
tsv=${BENCH_TSV:-$B/bench/vmm-vsock.tsv}
w=$(mktemp -d /tmp/bench-vsock.XXXXXX)
trap 'rm -rf "$w"' EXIT
mkdir -p "$B/bench" "$(dirname "$tsv")"
[ -s "$tsv" ] || printf 'row\tours\ttheirs\tunit\tratio\tbar\tverdict\n' >"$tsv"

[ -n "${LAB:-}" ] || make --no-print-directory -s B="$B" "$B"/bench/{vsock_host,vsockload}
# The guest: our own kernel where it was made, else the distribution's with the modules that vsock needs.
mkdir -p "$w/root/dev" "$w/root/proc" "$w/root/modules"
cp "$B/bench/vsockload" "$w/root/init"
if [ -s "$B/kernel/vmlinux" ]; then
	kernel=$B/kernel/vmlinux
else
	read -r kernel modules < <(third_party/distro-kernel.sh "$B/kernel/distro")
	n=0
	for m in virtio virtio_ring virtio_mmio vsock vmw_vsock_virtio_transport_common vmw_vsock_virtio_transport; do
		f=$(find "$modules" -name "$m.ko" | head -1)
		[ -z "$f" ] || cp "$f" "$w/root/modules/$((++n))-$m.ko"
	done
fi
(cd "$w/root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) >"$w/initrd"

# Medians of each column over the runs: MB/s, and one stream's least, middle and most bytes.
measure() # direction streams
{
	local i
	: >"$w/all"
	for i in $(seq "$RUNS"); do
		timeout 300 "$B/bench/vsock_host" -e "$ENGINE" -n "$2" -t "$SECS" -d "$1" "$kernel" "$w/initrd" 2>"$w/err" >>"$w/all" || cat "$w/err" >&2
	done
	awk '/^vsock / { n++; for (i = 2; i <= 5; i++) v[i, n] = $i }
	END {
		if (!n) exit 1
		for (i = 2; i <= 5; i++) {
			for (j = 1; j <= n; j++) for (k = j + 1; k <= n; k++) if (v[i, k] < v[i, j]) { t = v[i, j]; v[i, j] = v[i, k]; v[i, k] = t }
			printf "%s%s", v[i, int((n + 1) / 2)], i < 5 ? " " : "\n"
		}
	}' "$w/all"
}
row() # name value unit bar verdict
{
	printf '%s\t%s\t-\t%s\t-\t%s\t%s\n' "$@" >>"$tsv"
	printf '%-52s %10s %-6s %5s  %s\n' "$@"
}
printf '%-52s %10s %-6s %5s  %s\n' "vsock, $ENGINE engine" ours '' bar verdict
for d in up down; do
	case $d in up) way='guest to host' ;; down) way='host to guest' ;; esac
	if read -r mb _ < <(measure "$d" 1); then
		row "vsock, $ENGINE: one stream, $way" "$mb" MB/s - -
	fi
	if read -r mb least middle most < <(measure "$d" "$STREAMS"); then
		row "vsock, $ENGINE: $STREAMS streams, $way, all" "$mb" MB/s - -
		row "vsock, $ENGINE: $STREAMS streams, $way, the middle one" "$((middle / 1000))" kB - -
		row "vsock, $ENGINE: $STREAMS streams, $way, the slowest" "$((least / 1000))" kB '> 0' "$([ "$least" -gt 0 ] && echo ok || echo short)"
	fi
done
echo "# $tsv"
