#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vmm-blk.sh: our disk device beside QEMU's own virtio-blk: same engine, same kernel, same initramfs (blkload.c is all of it), same file, same cache
# mode (the host's page cache, warm). Ours and QEMU's with each of its ways to do I/O run all the time and are measured in turn, a moment each: a busy
# host is as busy for all. The figures are medians; the ratio is the median of the rounds' ratios, to the better of QEMU's ways. Rows go to $BENCH_TSV
# (appended; build/bench/vmm-blk.tsv). RUNS=n rounds (15), SECS=seconds of each load (0.4), AIO="io_uring threads", ENGINE=qemu|kvm (kvm: both on
# /dev/kvm; only where that is real, or in the lab), ROWS="…", PRIO="chrt -f 10" on a busy machine: what all are started with. ALONE=n: one machine
# at a time does all its loads, and that n times: in the lab three of them are too many. DISK_MIB=n (256).
#
# On the qemu engine there is a third: qemu-storage-daemon, where it is installed, which serves the same file to the same QEMU over vhost-user as we do.
# What it lacks as well the transport costs: each request and each answer wakes somebody up. DAEMON= leaves it out; DAEMON_AIO=threads|io_uring.
set -euo pipefail
cd "$(dirname "$0")/../.."
B=${BUILD:-build}
RUNS=${RUNS:-15} SECS=${SECS:-0.4} AIO=${AIO:-io_uring threads} ENGINE=${ENGINE:-qemu}
ALONE=${ALONE:-0} DISK_MIB=${DISK_MIB:-256} DAEMON_AIO=${DAEMON_AIO:-io_uring}
[ "$ENGINE" = qemu ] && command -v qemu-storage-daemon >/dev/null && : "${DAEMON=daemon}" || DAEMON=
ROWS=${ROWS:-randread1 randread32 seqread writeflush write}
tsv=${BENCH_TSV:-$B/bench/vmm-blk.tsv}
w=${WORK:-$(mktemp -d /tmp/bench-blk.XXXXXX)}
finish()
{
	local p=$(jobs -p)
	[ -z "$p" ] || kill $p 2>/dev/null || true
	wait
	rm -rf "$w"
}
trap finish EXIT
mkdir -p "$B/bench" "$(dirname "$tsv")"
[ -s "$tsv" ] || printf 'row\tours\ttheirs\tunit\tratio\tbar\tverdict\n' >"$tsv"

[ -n "${LAB:-}" ] || make --no-print-directory -s B="$B" "$B"/bench/{vmboot,blkload,tsc}
# The guest: our own kernel where it was made, else the distribution's with the modules that a disk needs.
mkdir -p "$w/root/dev" "$w/root/proc" "$w/root/modules"
cp "$B/bench/blkload" "$w/root/init"
if [ -s "$B/kernel/vmlinux" ]; then
	kernel=$B/kernel/vmlinux
else
	read -r vmlinuz modules < <(third_party/distro-kernel.sh "$B/kernel/distro")
	kernel=$vmlinuz
	n=0
	for m in virtio virtio_ring virtio_mmio virtio_blk; do
		f=$(find "$modules" -name "$m.ko" | head -1)
		[ -z "$f" ] || cp "$f" "$w/root/modules/$((++n))-$m.ko"
	done
fi
(cd "$w/root" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) >"$w/initrd"
disk=$w/disk
head -c $((DISK_MIB << 20)) /dev/urandom >"$disk"
words="blkload=/dev/vda,/dev/vdb printk.devkmsg=on" # the kernel would drop lines that come fast

ours()
{
	exec ${PRIO:-} "$B/bench/vmboot" -e "$ENGINE" -c 1 -m 256 -t 3600 -a "$words" -d "$disk" -d "$w/ours.orders" "$kernel" "$w/initrd" 2>/dev/null
}
case $ENGINE in
qemu) accel=tcg,thread=multi cpu=max machine=acpi=on,ioapic2=off,pit=off,pic=off,rtc=on ;;
kvm) accel=kvm cpu=host machine=acpi=on,ioapic2=off,rtc=on ;;
esac
drive() # id file aio
{
	echo "if=none,id=$1,driver=raw,cache=writeback,file.driver=file,file.filename=$2,file.aio=$3,file.locking=off"
}
# A QEMU with that for its disk, and the orders of that name on the other one.
theirs() # name word…
{
	local name=$1
	shift
	exec ${PRIO:-} timeout 3600 qemu-system-x86_64 -M "microvm,$machine,isa-serial=on,auto-kernel-cmdline=off,memory-backend=ram" -nodefaults -no-user-config -display none \
		-no-reboot -accel $accel -cpu $cpu -global virtio-mmio.force-legacy=false -smp 1 -m 256M -kernel "$kernel" -initrd "$w/initrd" \
		-append "console=ttyS0 quiet reboot=t panic=-1 tsc=reliable tsc_early_khz=$("$B/bench/tsc") no_timer_check 8250.nr_uarts=1 cryptomgr.notests random.trust_cpu=on $words" \
		-object memory-backend-memfd,id=ram,size=256M,share=on -serial stdio "$@" \
		-drive "$(drive o "$w/$name.orders" threads)" -device virtio-blk-device,drive=o,bus=virtio-mmio-bus.6 </dev/null
}
daemon() # the server; its QEMU is client(). It does not heed SIGTERM while that is there
{
	exec ${PRIO:-} timeout -k 1 3600 qemu-storage-daemon --object iothread,id=t --blockdev "driver=file,node-name=d,filename=$disk,aio=$DAEMON_AIO,locking=off" \
		--export "type=vhost-user-blk,id=e,node-name=d,writable=on,iothread=t,addr.type=unix,addr.path=$w/daemon.sock"
}
client()
{
	local i
	for i in $(seq 100); do
		[ ! -S "$w/daemon.sock" ] || break
		sleep 0.05
	done
	# Room for a second vCPU: without it TCG leaves out the barriers that a server in another process needs (vmm/qemu.c).
	theirs daemon -smp 1,maxcpus=2 -chardev "socket,id=c,path=$w/daemon.sock" -device vhost-user-blk,chardev=c,bus=virtio-mmio-bus.7,num-queues=1,queue-size=256,config-wce=off
}
order() # who number seconds row: waits until it is done
{
	local i
	printf '%-511s\n' "$2 $3 $4" | dd of="$w/$1.orders" conv=notrunc status=none
	for i in $(seq 1200); do
		! grep -qa "blkload done $2"$'\r*$' "$w/$1.out" || return 0
		! grep -qa 'blkload error' "$w/$1.out" || break
		sleep 0.05
	done
	echo "# $1: $4: $(tail -1 "$w/$1.out")"
	return 1
}
median()
{
	sort -n | awk '{ v[NR] = $1 } END { if (!NR) exit 1; print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
collect() # who…: the figures of what has run
{
	local r who
	for who; do
		for r in $ROWS; do
			tr -d '\r' <"$w/$who.out" | sed -n "s/.*blkload $r \([0-9.]*\)\$/\1/p" | tail -n +2 >>"$w/$who.$r" # the first one warms up
		done
	done
}

boot() # who
{
	head -c 4096 /dev/zero >"$w/$1.orders"
	[ "$1" != daemon ] || { rm -f "$w/daemon.sock"; daemon >"$w/daemon.log" 2>&1 & }
	case $1 in
	ours) ours ;;
	daemon) client ;;
	*) theirs "$1" -drive "$(drive d "$disk" "$1")" -device virtio-blk-device,drive=d,bus=virtio-mmio-bus.7 ;;
	esac >"$w/$1.out" &
}
loads() # who…: each load, and each of its rounds, of all of them in turn
{
	local n=0 r who
	for r in $ROWS; do
		for _ in $(seq 0 "$RUNS"); do
			n=$((n + 1))
			for who; do
				order "$who" $n "$SECS" "$r" || exit 1
			done
		done
	done
}
if [ "$ALONE" = 0 ]; then
	for who in ours $AIO $DAEMON; do boot "$who"; done
	loads ours $AIO $DAEMON
	collect ours $AIO $DAEMON
fi
for _ in $(seq "$ALONE"); do
	for who in ours $AIO $DAEMON; do
		boot "$who"
		loads "$who"
		kill $(jobs -p)
		wait
		collect "$who"
	done
done
declare -A name=([randread1]='4k random read, depth 1' [randread32]='4k random read, depth 32' [seqread]='128k sequential read' [writeflush]='4k write and flush'
	[write]='128k write') unit=([randread1]=IOPS [randread32]=IOPS [seqread]=MiB/s [writeflush]=IOPS [write]=MiB/s)
# A row: the figures' medians, and the median of the rounds' ratios.
row() # row theirs words note
{
	local q
	q=$(paste "$w/ours.$1" "$w/$2.$1" | awk '$2 { print $1 / $2 }' | median)
	awk -v n="blk, $ENGINE: ${name[$1]}$3" -v o="$(median <"$w/ours.$1")" -v t="$(median <"$w/$2.$1")" -v q="$q" -v u="${unit[$1]}" -v note="$4" -v f="$tsv" 'BEGIN {
		verdict = q >= 1 ? "ok" : "short"
		printf "%s\t%s\t%s\t%s\t%.2f\t>= 1\t%s\n", n, o, t, u, q, verdict >>f
		printf "%-56s %10s %10s %-6s %6.2f %5s  %s%s\n", substr(n, 6), o, t, u, q, ">= 1", verdict, note }'
}
printf '%-56s %10s %10s %-6s %6s %5s  %s\n' "disk, $ENGINE engine" ours theirs '' ratio bar verdict
for r in $ROWS; do
	best=0 best_aio=-
	for a in $AIO; do
		t=$(median <"$w/$a.$r")
		if awk -v a="$t" -v b="$best" 'BEGIN { exit !(a > b) }'; then best=$t best_aio=$a; fi
	done
	[ "$best_aio" = - ] || row "$r" "$best_aio" '' " (aio=$best_aio)"
	[ -z "$DAEMON" ] || row "$r" "$DAEMON" ', beside qemu-storage-daemon' ''
done
echo "# $tsv"
