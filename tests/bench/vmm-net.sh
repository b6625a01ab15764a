#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vmm-net.sh: TCP through our network card and through QEMU's own, on taps, both on the same engine with the same kernel and initramfs. Both
# guests run all the time and are measured in turn: one stream each way, four streams each way; medians. Appends rows to $BENCH_TSV
# (build/bench/vmm-net.tsv). ROUNDS=n (7), SECONDS_EACH=s (1), ENGINE=qemu|kvm and ALONE=n as in vmm-blk.sh. Where /dev/vhost-net is, QEMU with
# vhost=on is printed as well.
#
# The kernel is that of `make kernel` when there, else the distribution's.
. "$(dirname "$0")/../lib/system.sh"
set -e
ROUNDS=${ROUNDS:-7}
SECONDS_EACH=${SECONDS_EACH:-1}
ENGINE=${ENGINE:-qemu} ALONE=${ALONE:-0}
tsv=${BENCH_TSV:-$BUILD/bench/vmm-net.tsv}
mkdir -p "$(dirname "$tsv")" "$BUILD/bench"
[ -n "${BENCH_TSV:-}" ] || printf 'row\tours\ttheirs\tunit\tratio\tbar\tverdict\n' >"$tsv"

[ -n "${LAB:-}" ] || make -C "$TOP" --no-print-directory -s B="$BUILD" "$BUILD"/bench/{vmboot,netload}
if [ -s "$BUILD/kernel/vmlinux" ]; then
	kernel=$BUILD/kernel/vmlinux
	modules=
else
	start_system
	set_kernel
	kernel=$CONTAINER_APP_ROOT/kernels/default/vmlinux
	modules=${kernel%/*}/modules.cpio
	stop_system
fi
mkdir "$T/root"
cp "$BUILD/bench/netload" "$T/root/init"
(cd "$T/root" && echo init | cpio --quiet -o -H newc) >"$T/init.cpio"
cat $modules "$T/init.cpio" >"$T/initramfs"

# The scheduler may weigh sessions against each other (autogroup): each side is one, and so is the load.
words()
{
	echo "nl_ip=10.9.$1.2 nl_peer=10.9.$1.1"
}
tap() # number
{
	ip tuntap add "t$1" mode tap vnet_hdr
	ip addr add "10.9.$1.1/24" dev "t$1"
	ip link set "t$1" up
}
case $ENGINE in
qemu) accel=tcg,thread=multi cpu=max pc=pit=off,pic=off, ;;
kvm) accel=kvm cpu=host pc= ;;
esac
ours() # number
{
	setsid timeout 1000 "$BUILD/bench/vmboot" -e "$ENGINE" -m 256 -t 1000 -n "t$1,10.9.$1.2" -a "$(words "$1")" "$kernel" "$T/initramfs" >"$T/ours.log" 2>&1 &
}
theirs() # number vhost
{
	tap "$1"
	setsid timeout 1000 qemu-system-x86_64 -M microvm,acpi=on,ioapic2=off,${pc}rtc=on,isa-serial=on,auto-kernel-cmdline=off \
		-nodefaults -no-user-config -nographic -display none -no-reboot -accel $accel -cpu $cpu -smp 1 -m 256 \
		-global virtio-mmio.force-legacy=false -kernel "$kernel" -initrd "$T/initramfs" -serial "file:$T/theirs$1.log" \
		-append "console=ttyS0 quiet reboot=t panic=-1 tsc=reliable tsc_early_khz=$("$BUILD/bench/netload" tsc) no_timer_check 8250.nr_uarts=1 cryptomgr.notests random.trust_cpu=on $(words "$1")" \
		-netdev "tap,id=n,ifname=t$1,script=no,downscript=no,vhost=$2" -device virtio-net-device,netdev=n,mac=f2:00:00:00:00:02,host_mtu=1500 \
		>"$T/qemu$1.log" 2>&1 &
}
boot() # who
{
	case $1 in
	ours)
		tap 1
		ours 1
		;;
	theirs) theirs 2 off ;;
	vhost) theirs 3 on ;;
	esac
}
declare -A address=([ours]=10.9.1.2 [theirs]=10.9.2.2 [vhost]=10.9.3.2)
loads() # who…: the numbers of all of them, measured in turn
{
	local who guests=()
	for who; do guests+=("$who=${address[$who]}"); done
	sleep 2
	[ "$(jobs -rp | wc -l)" = $# ] || bail "the machines run: $(tail -qn 1 "$T"/*.log)"
	setsid timeout 900 "$BUILD/bench/netload" "$ROUNDS" "$SECONDS_EACH" "${guests[@]}" >>"$T/numbers" || {
		diag "$(tail -5 "$T"/*.log)"
		exit 1
	}
}
all=(ours theirs)
if [ -w /dev/vhost-net ]; then
	all+=(vhost)
else
	echo '# no /dev/vhost-net here: QEMU with vhost=on is not measured'
fi
if [ "$ALONE" = 0 ]; then
	for who in "${all[@]}"; do boot "$who"; done
	loads "${all[@]}"
fi
for _ in $(seq "$ALONE"); do
	for who in "${all[@]}"; do
		boot "$who"
		loads "$who"
		kill $!
		wait $! || true
		ip link del "t${address[$who]:5:1}"
	done
done

median() # row name
{
	awk -v r="$1" -v n="$2" '$1 == r && $2 == n { print $3 }' "$T/numbers" | sort -n |
		awk '{ v[NR] = $1 } END { print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
row() # name key
{
	local o t
	o=$(median "$2" ours)
	t=$(median "$2" theirs)
	awk -v n="$1" -v o="$o" -v t="$t" 'BEGIN { r = o / t; printf "%s\t%s\t%s\tMbit/s\t%.2f\t1.0\t%s\n", n, o, t, r, (r >= 1) ? "ok" : "short" }' |
		tee -a "$tsv" | awk -F'\t' '{ printf "%-34s %9s %9s %-7s %6s %5s  %s\n", $1, $2, $3, $4, $5, $6, $7 }'
	[ ! -w /dev/vhost-net ] || printf '%-34s %9s %9s %s\n' "  QEMU with vhost=on" '' "$(median "$2" vhost)" Mbit/s
}
printf '%-34s %9s %9s %-7s %6s %5s  %s\n' "net, $ENGINE engine" ours theirs '' ratio bar verdict
row "net, $ENGINE: 1 TCP stream, guest sends" tx1
row "net, $ENGINE: 1 TCP stream, guest receives" rx1
row "net, $ENGINE: 4 TCP streams, guest sends" tx4
row "net, $ENGINE: 4 TCP streams, guest receives" rx4
