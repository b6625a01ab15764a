#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh [--copy FILE:PATH]… [--env K=V]… [--out DIR] [--mem SIZE] [--smp N] [--timeout S] [--count] [--] CMD [ARG…]
#
# Runs a command in the lab: an emulated machine with a /dev/kvm that is real. QEMU's TCG emulates AMD SVM, so the distribution's kernel
# loads kvm-amd in there and runs any guest, slowly: about 3 s to boot the lab, 5 s for a guest in it.
#
# The lab's root file system is this host's own, read-only, through virtio-fs, under a tmpfs overlay: every program, the checkout and its
# build directory are there under the same paths; what is written in there vanishes with it. /tmp, /run and /var/lib/container are fresh.
# The command runs as root in the caller's directory; its output comes out as ours, its exit status is ours (124: out of time).
#   --copy FILE:PATH  puts a file or directory of the host at PATH in the lab
#   --env K=V         sets a variable; CONTAINER_ENGINE=kvm is set already
#   --out DIR         afterwards, fetches what the command wrote to /out into DIR
#   --count           time in there is counted in instructions, 1 ns each, on one CPU: the same run takes the same time however busy
#                     this host is (what waits for nothing but the clock takes real time)
#   --console         shows the lab kernel's messages too
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
top=$(cd "$here/../.." && pwd)
lab=${LAB_DIR:-$top/build/lab}
copies=() envs=() out='' mem=4G smp=2 limit=600 console=0 count=()
while [ $# -gt 0 ]; do
	case $1 in
	--copy) copies+=("$2"); shift 2 ;;
	--env) envs+=("$2"); shift 2 ;;
	--out) out=$2; shift 2 ;;
	--mem) mem=$2; shift 2 ;;
	--smp) smp=$2; shift 2 ;;
	--timeout) limit=$2; shift 2 ;;
	--console) console=1; shift ;;
	--count) count=(-icount shift=0,sleep=on); shift ;;
	--) shift; break ;;
	-*) sed -n '3,/^set/s/^# \{0,1\}//p' "$0" | head -n -1 >&2; exit 64 ;;
	*) break ;;
	esac
done
[ $# -gt 0 ] || { sed -n '3s/^# //p' "$0" >&2; exit 64; }
[ "$(id -u)" = 0 ] || { echo "lab: needs root (the lab sees this host's files as root does)" >&2; exit 1; }

find_program()
{
	local p
	for p in "$@"; do
		command -v "$p" && return 0
	done
	echo "lab: none of $* is here: run third_party/deps.sh lab" >&2
	return 1
}
qemu=$(find_program qemu-system-x86_64)
virtiofsd=$(find_program /usr/libexec/virtiofsd /usr/lib/qemu/virtiofsd virtiofsd)
busybox=$(find_program busybox)

mkdir -p "$lab"
read -r kernel modules < <("$top/third_party/distro-kernel.sh" "$lab/kernel")
release=$(basename "$modules")
[ -e "$modules/modules.dep" ] || depmod -b "${modules%/lib/modules/*}" "$release"

# What the lab boots from; made again when the kernel or this folder changes.
id=$(cat "$here"/run.sh "$here"/init.sh "$modules/modules.dep" | sha256sum | cut -c1-16)
initrd=$lab/initrd-$id
if [ ! -s "$initrd" ]; then
	t=$(mktemp -d)
	mkdir -p "$t"/{bin,lib/modules,proc,sys,dev,mnt,new}
	cp "$busybox" "$t/bin/busybox"
	cp "$here/init.sh" "$t/init"
	chmod 755 "$t/init"
	: >"$t/modules.list"
	for m in virtio_mmio virtio_console virtio_blk virtiofs overlay; do
		modprobe -S "$release" -d "${modules%/lib/modules/*}/" --show-depends "$m" | awk '$1 == "insmod" {print $2}' |
			while read -r ko; do
				grep -qx "$(basename "$ko")" "$t/modules.list" && continue
				cp "$ko" "$t/lib/modules/" && basename "$ko" >>"$t/modules.list"
			done
	done
	(cd "$t" && find . | LC_ALL=C sort | cpio -o -H newc -R 0:0 --quiet) >"$initrd.$$"
	mv "$initrd.$$" "$initrd"
	rm -rf "$t"
fi

[ "$lab/tsc" -nt "$here/tsc.c" ] || gcc -O2 -o "$lab/tsc" "$here/tsc.c"
khz=$("$lab/tsc")
if [ ${#count[@]} != 0 ]; then
	smp=1 khz=1000000
fi

w=$(mktemp -d "/tmp/lab.XXXXXX")
pids=()
finish()
{
	local p
	for p in "${pids[@]}"; do
		kill "$p" 2>/dev/null || true
	done
	rm -rf "$w"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# What to run and what to bring along, as a second initramfs.
mkdir -p "$w/job/job/copy"
{
	printf 'cd %q || exit 1\n' "$PWD"
	printf 'export %q\n' CONTAINER_ENGINE=kvm LAB=1 "PATH=$PATH" "HOME=/root" "LANG=C.UTF-8" "${envs[@]}"
	printf 'exec'
	printf ' %q' "$@"
	echo
} >"$w/job/job/cmd"
echo "$modules" >"$w/job/job/modules"
echo "$top" >"$w/job/job/top"
date +%s >"$w/job/job/now"
[ -z "$out" ] || echo "$out" >"$w/job/job/out"
for c in "${copies[@]}"; do
	to=$w/job/job/copy/${c#*:}
	mkdir -p "$(dirname "$to")"
	cp -a "${c%%:*}" "$to"
done
(cd "$w/job" && find . | cpio -o -H newc -R 0:0 --quiet) >"$w/job.cpio"
cat "$initrd" "$w/job.cpio" >"$w/initrd"
: >"$w/status"
truncate -s 512M "$w/out.tar"

# A mount namespace of its own, with / read-only, whatever the lab's kernel may be made to ask for.
unshare -m --propagation private bash -c 'mount -o bind "$1" "$1" && mount -t tmpfs run /run && mount -o remount,bind,ro /
	shift; exec "$@"' - "$w" "$virtiofsd" --socket-path="$w/fs" -o source=/ -o sandbox=chroot -o cache=always -o xattr \
	--thread-pool-size=4 >"$w/fs.log" 2>&1 &
pids+=($!)
for _ in $(seq 100); do
	[ -S "$w/fs" ] && break
	kill -0 "${pids[0]}" 2>/dev/null || { cat "$w/fs.log" >&2; exit 1; }
	sleep 0.05
done

# The command's output comes through a FIFO: QEMU's stdio would close the port at the end of our standard input.
mkfifo "$w/text"
cat "$w/text" &
pids+=($!)
timeout -k 5 "$limit" "$qemu" -nodefaults -no-user-config -display none -no-reboot \
	-M microvm,accel=tcg,acpi=on,pic=off,isa-serial=on -cpu max -smp "$smp" -m "$mem" "${count[@]}" \
	-object "memory-backend-memfd,id=ram,size=$mem,share=on" -numa node,memdev=ram -global virtio-mmio.force-legacy=false \
	-kernel "$kernel" -initrd "$w/initrd" -append "console=ttyS0 reboot=t panic=-1 quiet loglevel=4 rdinit=/init \
tsc=reliable tsc_early_khz=$khz no_timer_check random.trust_cpu=on cryptomgr.notests" \
	-chardev "file,id=con,path=$w/console.log" -serial chardev:con \
	-chardev "socket,id=fs,path=$w/fs" -device vhost-user-fs-device,chardev=fs,tag=host \
	-drive "if=none,id=out,file=$w/out.tar,format=raw,cache=unsafe" -device virtio-blk-device,drive=out \
	-device virtio-serial-device,max_ports=4 \
	-chardev "file,id=text,path=$w/text" -device virtserialport,chardev=text,name=out \
	-chardev "file,id=status,path=$w/status" -device virtserialport,chardev=status,name=status \
	</dev/null 2>"$w/qemu.log" &
pids+=($!)
rc=0
wait "${pids[2]}" || rc=$?
wait "${pids[1]}" || true
[ $console = 0 ] || cat "$w/console.log" >&2
if [ $rc = 124 ] || [ $rc = 137 ]; then
	echo "lab: not done after $limit s" >&2
	tail -20 "$w/console.log" >&2
	exit 124
fi
status=$(tr -dc 0-9 <"$w/status")
if [ -z "$status" ]; then
	echo "lab: the machine ended without an answer (qemu: $rc)" >&2
	cat "$w/qemu.log" >&2
	tail -40 "$w/console.log" >&2
	exit 125
fi
if [ -n "$out" ]; then
	mkdir -p "$out"
	tar -C "$out" -xf "$w/out.tar"
fi
exit "$status"
