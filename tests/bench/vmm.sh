#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# vmm.sh: how fast our VMM starts a machine and how small it is, beside QEMU's microvm; then the devices' benches (vmm-blk.sh, vmm-net.sh,
# vmm-vsock.sh, those that are there). A table for people, and build/bench/vmm.tsv (row ours theirs unit ratio bar verdict). Medians of RUNS
# (5), ours and theirs in turn. A missed bar is said, never an error. DEVICES="" leaves the devices out.
#
# Where KVM cannot run a kernel, what does runs in the lab (tests/lab): KVM is real there and the processor is not. Time in the lab is counted
# in instructions, 1 ns each, so a busy host does not blur it; compare what stands in one row. What comes before the guest's first
# instruction is also measured on this machine's own /dev/kvm, if it has one, whatever it can run.
#
# Ours is vmm_boot.c: the product's VMM, jail and filters included, with what each machine of ours has (console, entropy). QEMU has
# neither, no sandbox, no option ROMs, and the fastest of its machines.
. "$(dirname "$0")/../lib/system.sh"
set -e
RUNS=${RUNS:-5}
bench=$BUILD/bench
export TMPDIR=$T
tsv=${BENCH_TSV:-$bench/vmm.tsv}

median()
{
	sort -n | awk '{ v[NR] = $1 } END { if (!NR) exit 1; printf "%g\n", (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
say_row() # the fields of a row
{
	printf '%-52s %9s %9s %-4s %6s %5s  %s\n' "$@"
}
row() # name ours theirs|- unit bar|-: with theirs the bar is one for the ratio
{
	local ratio=- verdict=- value=$2
	if [ "$3" != - ]; then
		ratio=$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.2f", a / b }')
		value=$ratio
	fi
	[ "$5" = - ] || verdict=$(awk -v r="$value" -v b="$5" 'BEGIN { print (r <= b) ? "ok" : "short" }')
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$ratio" "$5" "$verdict" >>"$tsv"
	say_row "$1" "$2" "$3" "$4" "$ratio" "$5" "$verdict"
}
ms()
{
	awk '{ printf "%.2f\n", $1 / 1000 }'
}

# ---- what is measured, and with what ----

prepare()
{
	local k m w=
	mkdir -p "$bench"
	make -C "$TOP" --no-print-directory -s "$bench/vmm_boot" "$bench/race" "$bench/pid1" "$BUILD/guest/init" B="$BUILD"
	mkdir "$T/root"
	cp "$bench/pid1" "$T/root/init"
	(cd "$T/root" && echo init | cpio --quiet -o -H newc -R 0:0) >"$bench/pid1.cpio"
	cp "$BUILD/guest/init" "$T/root/init"
	(cd "$T/root" && echo init | cpio --quiet -o -H newc -R 0:0) >"$bench/init.cpio"
	read -r k m < <("$TOP/third_party/distro-kernel.sh" "$BUILD/kernel/distro")
	if [ "$bench/vmlinux-distro" -ot "$k" ]; then
		start_system
		run_quiet "$C" system kernel set --binary "$k" --modules "$m"
		cp "$CONTAINER_APP_ROOT/kernels/default/vmlinux" "$bench/vmlinux-distro"
		stop_system
	fi
	kernels=distro
	if [ -s "$BUILD/kernel/vmlinux" ]; then
		kernels="own distro"
		cp -u "$BUILD/kernel/vmlinux" "$bench/vmlinux-own"
	else
		echo '# no kernel of our own (make kernel): its rows are left out'
	fi
}
run_quiet()
{
	run "$@"
	[ $rc = 0 ] || bail "$*: $err"
}

# ---- KVM_CREATE_VM to the first guest instruction ----

first() # prefix bar: rows of vmm_boot -f, CPU time; and in starts of a program, which a slow machine has as slow
{
	local i
	: >"$T/first"
	: >"$T/echo"
	for i in $(seq "$RUNS"); do
		"$bench/vmm_boot" -f "$bench/vmlinux-${kernels%% *}" "$bench/init.cpio" >/dev/null 2>>"$T/first" || return 1
		"$bench/race" -t 30 x /bin/echo x >>"$T/echo"
	done
	sed -n 's/^stage [0-9.]* [0-9.]* //p' "$T/first" | awk '!seen[$0]++' | while read -r stage; do
		row "$1 ${stage}" "$(awk -v s="$stage" '$1 == "stage" { n = $3; sub(/^stage [^ ]* [^ ]* /, ""); if ($0 == s) print n }' "$T/first" | median | ms)" - ms -
	done
	row "$1 first instruction, our CPU time" "$(awk '$1 == "first" { print $3 }' "$T/first" | median | ms)" - ms "$2"
	row "$1 the same, by the clock" "$(awk '$1 == "first" { print $2 }' "$T/first" | median | ms)" - ms -
	row "$1 the same in starts of /bin/echo" "$(awk '$1 == "first" { print $2 }' "$T/first" | median)" \
		"$(awk '{ print $2 }' "$T/echo" | median)" us -
	row "$1 private memory beyond the guest's then, 1 CPU 128 MiB" "$(awk '$1 == "private" { print $2 / 1024 }' "$T/first" | median)" - MiB 3
}

# ---- start to PID 1, in the lab ----

words="console=ttyS0 quiet reboot=t panic=-1 pci=off i8042.noaux i8042.nomux i8042.dumbkbd 8250.nr_uarts=1 tsc=reliable no_timer_check \
cryptomgr.notests random.trust_cpu=on"
ours() # kernel
{
	"$bench/race" -t 30 PID1 "$bench/vmm_boot" "$bench/vmlinux-$1" "$bench/pid1.cpio" 2>"$T/ours.err"
}
theirs() # kernel
{
	"$bench/race" -t 30 PID1 qemu-system-x86_64 -nodefaults -no-user-config -display none -no-reboot \
		-M microvm,accel=kvm,acpi=on,x-option-roms=off,pit=off,pic=off,rtc=off,pcie=off,usb=off,ioapic2=off,isa-serial=on,auto-kernel-cmdline=off \
		-cpu host -smp 1 -m 128 -serial stdio -monitor none -kernel "$bench/vmlinux-$1" -initrd "$bench/pid1.cpio" -append "$words" \
		2>"$T/theirs.err" </dev/null
}
# A start that does not come up is said and not counted; twice in a row is a failure.
once() # ours|theirs kernel file
{
	for _ in 1 2; do
		"$1" "$2" >"$T/one" && { cat "$T/one" >>"$3"; echo "# $1, $2: $(cat "$T/one")"; return; }
		echo "# $1, $2: no PID 1: $(tail -1 "$T/$1.err")"
	done
	bail "$1, $2: it starts"
}
race() # kernel: leaves medians in $T/<kernel>.ours and .theirs (µs), and shares
{
	local k=$1
	once ours "$k" /dev/null # now the files are in memory
	once theirs "$k" /dev/null
	for _ in $(seq "$RUNS"); do
		once ours "$k" "$T/$k.ours.all"
		awk 'NR == FNR { wall = $2; guest = $4; next } $1 == "run" { print wall - $2, $2 - guest, guest }' "$T/one" "$T/ours.err" >>"$T/$k.shares"
		awk '$1 == "exit" { n += $2; t += $3 } END { print n, t }' "$T/ours.err" >>"$T/$k.exits"
		awk '$1 == "private" { print $2 / 1024 }' "$T/ours.err" >>"$T/$k.private"
		once theirs "$k" "$T/$k.theirs.all"
	done
	awk '{ print $2 }' "$T/$k.ours.all" | median >"$T/$k.ours"
	awk '{ print $2 }' "$T/$k.theirs.all" | median >"$T/$k.theirs"
}
share() # kernel column
{
	awk -v c="$2" '{ print $c }' "$T/$1.shares" | median | ms
}
name_of()
{
	[ "$1" = own ] && echo "our kernel" || echo "distribution's kernel"
}
start_rows()
{
	local k n
	for k in $kernels; do
		race "$k"
		n="lab: start to PID 1, $(name_of "$k")"
		row "$n" "$(ms <"$T/$k.ours")" "$(ms <"$T/$k.theirs")" ms 0.6
		row "$n: our VMM" "$(share "$k" 1)" - ms -
		row "$n: KVM" "$(share "$k" 2)" - ms -
		row "$n: guest" "$(share "$k" 3)" - ms -
		row "$n: exits to us" "$(awk '{ print $1 }' "$T/$k.exits" | median)" - '' -
		row "$n: private memory beyond the guest's, 1 CPU 128 MiB" "$(median <"$T/$k.private")" - MiB 3
	done
	[ ! -s "$T/own.ours" ] || row "lab: start to PID 1, our kernel : distribution's" "$(ms <"$T/own.ours")" "$(ms <"$T/distro.ours")" ms 0.4
}

# ---- memory ----

# KiB that only this process has, guest memory apart: what is mapped of it, and the pages of vmlinux that lie in it copy-on-write.
private_kib() # pid
{
	awk '/^[0-9a-f]+-[0-9a-f]+ / { guest = /guest-memory|vmlinux/ } /^Private_(Clean|Dirty):/ && !guest { n += $2 } END { print n + 0 }' "/proc/$1/smaps"
}
memory_rows()
{
	ready_system
	run_quiet "$C" run -d --name mem -c 1 -m 200m demo sleep 600 # the least there is
	sleep 2
	row "$1private memory beyond the guest's, 1 CPU 200 MiB" "$(private_kib "$(service_pid container.runtime.mem)" | awk '{ printf "%.2f", $1 / 1024 }')" - MiB 3
	run "$C" delete -f mem
	stop_system
}

# A device on KVM, in the lab: one machine at a time, as three of them are too much for it.
lab_device() # name
{
	"$TOP/tests/lab/run.sh" --timeout "${LAB_LIMIT:-2400}" --out "$T/lab-$1" --env ENGINE=kvm --env ALONE=3 --env RUNS=3 --env ROUNDS=3 --env SECS=0.3 \
		--env SECONDS_EACH=0.5 --env DISK_MIB=64 --env STREAMS=100 --env "BUILD=$BUILD" --env BENCH_TSV=/out/vmm.tsv -- bash "$TOP/tests/bench/vmm-$1.sh" \
		>"$T/lab-$1.log" 2>&1 || { tail -5 "$T/lab-$1.log" | sed 's/^/# /'; return; }
	echo '# in the lab:'
	grep -v '^row' "$T/lab-$1/vmm.tsv" >>"$tsv"
	grep -v '^#' "$T/lab-$1.log"
}

if [ -n "${LAB:-}" ]; then
	kernels=$KERNELS
	: >"$tsv"
	start_rows
	first 'lab:' -
	memory_rows 'lab: '
	exit 0
fi

mkdir -p "$(dirname "$tsv")"
printf 'row\tours\ttheirs\tunit\tratio\tbar\tverdict\n' >"$tsv"
prepare
demo_images
say_row row ours theirs '' ratio bar verdict
if [ -w /dev/kvm ]; then
	first 'here:' 5 || echo '# /dev/kvm is of no use here'
else
	echo '# no /dev/kvm here'
fi
in_lab=0
if CONTAINER_ENGINE=kvm "$C" system start >/dev/null 2>&1 && "$C" system status --format json | jq -e '.engine == "kvm"' >/dev/null; then
	stop_system
	start_rows
	memory_rows ''
else
	stop_system
	in_lab=1
	if "$TOP/tests/lab/run.sh" --count --timeout "${LAB_LIMIT:-2400}" --out "$T/lab" --env "RUNS=$RUNS" --env "BUILD=$BUILD" --env "KERNELS=$kernels" \
		--env BENCH_TSV=/out/vmm.tsv -- bash "$TOP/tests/bench/vmm.sh" >"$T/lab.log" 2>&1; then
		[ -z "${VERBOSE:-}" ] || grep '^#' "$T/lab.log"
		while IFS=$'\t' read -r -a f; do
			say_row "${f[@]}"
		done <"$T/lab/vmm.tsv"
		cat "$T/lab/vmm.tsv" >>"$tsv"
	else
		echo '# the lab:'
		tail -5 "$T/lab.log" | sed 's/^/# /'
	fi
fi
for d in ${DEVICES-blk net vsock}; do
	s=$TOP/tests/bench/vmm-$d.sh
	BENCH_TSV=$tsv TEST_NS='' bash "$s" || echo "# vmm-$d.sh failed"
	if [ $in_lab = 1 ]; then
		lab_device "$d"
	elif [ -w /dev/kvm ]; then
		BENCH_TSV=$tsv TEST_NS='' ENGINE=kvm bash "$s" || echo "# vmm-$d.sh on kvm failed"
	fi
done
echo "# $tsv"
