#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A machine's memory as the host sees it: what the guest frees comes back, and more than lies below the PCI hole can be had, with many CPUs.
. "$(dirname "$0")/../lib/system.sh"
T_LIMIT=180
mb=120 cpus=8
# Memory is given back by 2 MiB; what is free in smaller pieces stays with the guest: with much less than 120 MiB that would count.
if [ "$CONTAINER_ENGINE" = kvm ]; then # in the lab a page costs a hundred times as much
	T_LIMIT=500 cpus=3
fi
ready_system

memfd() # pid: the descriptor of its guest's memory
{
	local f
	for f in /proc/"$1"/fd/*; do
		case $(readlink "$f") in
		*memfd:guest-memory*) echo "$f"; return ;;
		esac
	done
}
held() # in MiB
{
	echo $(($(stat -L -c %b "$fd") / 2048))
}
below()
{
	[ "$(held)" -le "$1" ]
}
above()
{
	[ "$(held)" -ge "$1" ]
}
settle() # the last of what was freed may still be on its way
{
	local before now=-1 i
	for ((i = 0; i < 30; i++)); do
		before=$now now=$(held)
		[ "$before" = "$now" ] && return
		sleep 1
	done
}

run_ok 'a container' "$C" run -d --name mem -m 512m demo sleep 1000
h=$(service_pid container.runtime.mem)
fd=$(memfd "$h")
ok "its memory is a memfd ($fd)" test -n "$fd"
run_ok 'the balloon is there' "$C" exec mem sh -c 'for i in $(seq 300); do ls /sys/bus/virtio/drivers/virtio_balloon | grep -q ^virtio && exit; sleep 0.2; done; exit 1'
base=$(held)
diag "after the start the host holds $base MiB"
# dd has read all of it when its first byte comes, and holds it until its reader goes, which is told to.
"$C" exec mem sh -c "mkfifo /go; dd if=/dev/zero bs=${mb}M count=1 2>/dev/null | (head -c 1 >/dev/null; echo full; read -r x </go)" >"$T/dd" &
job=$!
ok 'memory is used' wait_until 300 grep -q full "$T/dd"
ok 'and held' wait_until 10 above $((base + mb * 9 / 10))
run_ok 'let go' "$C" exec mem sh -c 'echo >/go'
wait $job
ok 'anonymous memory that was freed comes back' wait_until 60 below $((base + mb / 5))
settle
diag "now $(held) MiB"
base=$(held)
run_ok 'a file' "$C" exec mem dd if=/dev/zero of=/big bs=1M count=$mb
ok 'the page cache is held' wait_until 30 above $((base + mb * 9 / 10))
run_ok 'is removed' "$C" exec mem sh -c 'rm /big; sync'
ok 'its pages come back' wait_until 60 below $((base + mb / 5))
diag "now $(held) MiB"
run_ok 'and can be used again' "$C" exec mem dd if=/dev/zero of=/dev/null bs=${mb}M count=1
# A smaller container: its machine gives up the difference; a larger one: takes it again.
balloon() # which: pages so far
{
	"$C" exec mem sed -n "s/^balloon_$1 //p" /proc/vmstat
}
inflated()
{
	[ "$(($(balloon inflate) - $(balloon deflate)))" "$@" ]
}
run_ok 'update: less memory' "$C" update -m 440m mem
ok 'the balloon holds it' wait_until 120 inflated -ge $((70 * 256))
run_ok 'update: more again' "$C" update -m 512m mem
ok 'the balloon is empty' wait_until 120 inflated -eq 0
run_ok 'delete' "$C" delete -f mem

run_ok "six GiB and $cpus CPUs" "$C" run -d --name big -m 6g -c $cpus demo sleep 1000
fd=$(memfd "$(service_pid container.runtime.big)")
run_ok 'what the guest sees' "$C" exec big sh -c 'nproc; sed -n "s/^MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo; ls -d /sys/devices/system/cpu/cpu[0-9]* | wc -l'
set -- $out
is 'CPUs' "$1 $3" "$cpus $cpus"
ok "memory: $(($2 / 1024)) MiB" [ "$2" -gt $((6 * 1024 * 1024 - 200 * 1024)) ]
is 'its memory is sparse' "$(stat -L -c %s "$fd")" $(((6 * 1024 + 128) << 20))
ok "the host holds $(held) MiB of it" below 800
# Linux takes from the top first: behind 3 GiB in the file is what the guest has from 4 GiB on.
ok 'memory above 4 GiB is in use' perl -e 'open(my $f, "<", $ARGV[0]) or exit 1; exit(!(sysseek($f, 3 << 30, 3) // 0))' "$fd"
run_ok 'delete' "$C" delete -f big

# As much as the host has, down to the page: what is not touched costs nothing.
host=$(sed -n 's/^MemTotal: *\([0-9]*\).*/\1/p' /proc/meminfo)
host=$((host / 2048 * 2)) # MiB, an even number of them
run_ok "all that the host has: $host MiB" "$C" run -d --name all --privileged -m ${host}m demo sleep 1000
fd=$(memfd "$(service_pid container.runtime.all)")
size=$(stat -L -c %s "$fd")
is 'its memory is sparse' "$size" $(((host + 128) << 20))
# The guest keeps 64 bytes of each page's 4096, which is written once.
ok "the host holds $(held) MiB of it" below $((800 + host / 60))
run_ok 'what the guest sees' "$C" exec all sh -c 'sed -n "s/^MemTotal: *\([0-9]*\).*/\1/p" /proc/meminfo; cat /proc/iomem'
ok "memory: $((${out%%$'\n'*} / 1024)) MiB" [ $((${out%%$'\n'*} / 1024)) -gt $((host - 200 - host / 50)) ]
read -r ram hole < <(perl -ne 'BEGIN { $ram = $hole = 0 }
	next unless /^([0-9a-f]+)-([0-9a-f]+) : System RAM/;
	($a, $b) = (hex $1, hex $2);
	$ram += $b + 1 - $a; $hole++ if $a < 4 << 30 && $b >= 3 << 30;
	END { print "$ram $hole\n" }' <<<"$out")
ok 'all of it is RAM to the guest, but for a page or two below 1 MiB' [ "$ram" -gt $((size - (2 << 20))) ] && [ "$ram" -le "$size" ]
is 'none of it between 3 and 4 GiB, where devices are' "$hole" 0
run_ok 'delete' "$C" delete -f all
stop_system
done_testing
