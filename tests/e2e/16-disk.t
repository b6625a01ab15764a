#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The disks as the guest sees them: a queue for each CPU, names, what is read-only; reads and writes in company; and what is deleted in the guest
# goes back to the host.
. "$(dirname "$0")/../lib/system.sh"
T_LIMIT=180
ready_system
run_ok 'a container of two CPUs' "$C" run -d --name box --privileged -c 2 -m 256m demo sleep 600
in_box()
{
	timeout "$T_LIMIT" "$C" exec box sh -c "$1" 2>&1
}
is 'a queue for each CPU' "$(in_box 'ls /sys/block/vda/mq /sys/block/vdb/mq | grep -c "^[0-9]"')" 4
is 'serial numbers' "$(in_box 'cat /sys/block/vda/serial; echo; cat /sys/block/vdb/serial')" "rootfs
upper"
is 'the image is read-only, the other is not' "$(in_box 'cat /sys/block/vda/ro /sys/block/vdb/ro | tr -d "\n"')" 10
ok 'the other discards and writes zeroes' test "$(in_box 'cat /sys/block/vdb/queue/discard_max_bytes')" -gt 0

# Many at once, from the disk and not the guest's page cache: after a restart what was written is what is read.
wrote=$(in_box 'for i in 1 2 3 4 5 6; do head -c 2000000 /dev/urandom >/big$i; done; cat /big? | sha256sum')
run_ok 'stop' "$C" stop -t 5 box
run_ok 'start' "$C" start box
in_box 'for i in 1 2 3 4 5 6; do cat /big$i >/dev/null & done; wait' >/dev/null
is 'read as written' "$(in_box 'cat /big? | sha256sum')" "$wrote"

disk=$CONTAINER_APP_ROOT/containers/box/upper.ext4
blocks()
{
	stat -c %b "$disk"
}
empty=$(blocks)
ok 'the disk is a sparse file' test "$((empty * 512))" -lt "$(stat -c %s "$disk")"
is 'a file in the guest' "$(in_box 'dd if=/dev/urandom of=/large bs=1M count=48 2>/dev/null; sync; echo done')" done
full=$(blocks)
ok 'takes space on the host' test "$full" -ge $((empty + 90000))
in_box 'rm /large; sync' >/dev/null
shrunk()
{
	in_box sync >/dev/null
	[ "$(blocks)" -lt $((empty + 8000)) ]
}
ok 'deleted, it gives it back' wait_until 60 shrunk
diag "512-byte blocks: $empty before, $full with the file, $(blocks) without"

# A guest's kernel clears parts of its disk in every way there is: as zeroes that stay allocated, as zeroes that need no room, as what nobody
# wants any more. What becomes of it on the host is looked at from outside.
if command -v gcc >/dev/null; then
	gcc -O1 -static -o "$T/blkclear" "$TOP/tests/lib/blkclear.c" || bail 'the program that clears is built'
	run_ok 'copy it in' "$C" cp "$T/blkclear" box:/blkclear
	h=$(service_pid container.runtime.box)
	strace -f -qq -e trace=fallocate -o "$T/clears" -p "$h" &
	looker=$!
	ok 'somebody looks' wait_until 20 grep -q '^TracerPid:.[1-9]' "/proc/$h/status"
	run_ok 'a guest that clears' "$C" exec box /blkclear /dev/vdb /
	kill $looker
	wait $looker 2>/dev/null
	is 'reads zeroes each time' "$(grep -c '^zeroes$' <<<"$out") $(grep -c '^data$' <<<"$out")" '3 0'
	for way in 'zeroout;ZERO_RANGE;write zeroes' 'punch;PUNCH_HOLE;write zeroes, unmap' 'discard;PUNCH_HOLE;discard'; do
		IFS=';' read -r name mode request <<<"$way"
		bad=''
		while read -r _ at len; do
			grep -qE "fallocate\([0-9]+, FALLOC_FL_KEEP_SIZE\|FALLOC_FL_$mode, $at, $len" "$T/clears" || bad+="no call for $at; "
			cmp -s -n "$len" -i "$at:0" "$disk" /dev/zero || bad+="no zeroes at $at; "
			# Where data begins next: behind it, when it is a hole.
			next=$(perl -e 'open(my $f, "<", $ARGV[0]) or die; print sysseek($f, $ARGV[1], 3) // "none"' "$disk" "$at")
			[ "$mode" = ZERO_RANGE ] || [ "$next" = none ] || [ "$next" -ge $((at + len)) ] || bad+="data at $next; "
		done < <(grep "^$name " <<<"$out")
		like "$request: from the guest" "$out" "(^|"$'\n'")$name [0-9]+ [0-9]+"
		is "$request: as such on the host, which has ${mode,,}" "$bad" ''
	done
else
	skip 'a guest that clears' 'no compiler'
fi

# What was written last is there in the end, however slow the host's disk is: here each write takes 0.6 s.
in_box 'dd if=/dev/urandom of=/one bs=1M count=8 2>/dev/null; sync; for i in 1 2 3; do cat /one; done >/late' >/dev/null
strace -f -qq -e trace=pwritev,pwrite64 -e inject=pwritev,pwrite64:delay_enter=600000 -o "$T/writes" -p "$(service_pid container.runtime.box)" &
slow=$!
ok 'the disk is slow' wait_until 20 grep -q '^TracerPid:.[1-9]' "/proc/$(service_pid container.runtime.box)/status"
run_ok 'stop' "$C" stop -t 5 box
kill $slow 2>/dev/null
diag "writes after the stop: $(wc -l <"$T/writes")"
like 'the guest went by itself' "$(tail -1 "$CONTAINER_LOG_ROOT/container.runtime.box.log")" 'machine stopped: power-off'
if command -v e2fsck >/dev/null; then
	ok 'the file system is clean' e2fsck -fn "$disk"
else
	skip 'the file system is clean' 'needs e2fsck'
fi
run_ok 'start' "$C" start box
is 'the last is there' "$(in_box 'for i in 0 1 2; do dd if=/late bs=8M skip=$i count=1 2>/dev/null | cmp - /one && echo $i; done' | paste -sd' ')" '0 1 2'

# A host without io_uring: the same disk, read and written one after the other.
rings() # which its helper has open
{
	find "/proc/$(service_pid container.runtime.box)/fd" -lname 'anon_inode:\[io_uring\]' 2>/dev/null | wc -l
}
if [ "$(rings)" = 0 ]; then
	skip 'without io_uring' 'the host has none, so that is what all of the above shows'
elif ! command -v gcc >/dev/null; then
	skip 'without io_uring' 'no compiler'
else
	gcc -O1 -o "$T/without" "$TOP/tests/lib/without.c" || bail 'the program that takes a call away is built'
	stop_system
	run_ok 'a system on a host without io_uring' "$T/without" "$(printf '#include <sys/syscall.h>\nSYS_io_uring_setup\n' | gcc -E -P - | tail -1)" "$C" system start
	run_ok 'start' "$C" start box
	is 'has no ring' "$(rings)" 0
	like 'the log says so' "$(cat "$CONTAINER_LOG_ROOT/container.runtime.box.log")" 'io_uring: Function not implemented; disks do without'
	in_box 'for i in 1 2 3 4 5 6; do cat /big$i >/dev/null & done; wait' >/dev/null
	is 'read in company' "$(in_box 'cat /big? | sha256sum')" "$wrote"
	wrote=$(in_box 'for i in 1 2 3 4 5 6; do (head -c 2000000 /dev/urandom >/big$i; sync) & done; wait; cat /big? | sha256sum')
	run_ok 'stop' "$C" stop -t 5 box
	run_ok 'start' "$C" start box
	is 'written and synced in company' "$(in_box 'cat /big? | sha256sum')" "$wrote"
fi
stop_system
done_testing
