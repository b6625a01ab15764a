#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A machine and its streams: paused and resumed under load (class E), flooded on standard input, held up by a reader that does not read,
# escape bytes on their way to a terminal (class F); what the guest's drivers take of what the devices offer; a guest kernel that panics, or
# resets its machine; and a machine of 64 CPUs. Of those the lab can emulate one CPU alone: on two, starting them resets guests now and then,
# QEMU's own machines on that /dev/kvm as well.
# lab: --smp 1
. "$(dirname "$0")/../lib/system.sh"
T_LIMIT=150
ready_system

anon() # pid: kB of memory that is its own
{
	sed -n 's/^RssAnon:[[:space:]]*\([0-9]*\).*/\1/p' "/proc/$1/status"
}
run_ok 'a container' "$C" run -d --name one -c 2 demo sleep 10000
h=$(service_pid container.runtime.one)
base=$(anon "$h")

# What a real driver has agreed on with our devices: the features are a string of bits, the first one first.
run_ok 'its devices' "$C" exec one sh -c 'for d in /sys/class/net/eth0 /sys/block/vda /sys/block/vdb; do cat $d/device/features; done
	ls -d /sys/class/net/eth0/queues/rx-* | wc -l; ls -d /sys/class/net/eth0/queues/tx-* | wc -l; cat /sys/block/vdb/queue/write_zeroes_max_bytes'
read -rd '' nic ro rw rx tx zeroes <<<"$out"
taken() # name features bit…
{
	local name=$1 has=$2 b lacks=''
	shift 2
	for b; do
		[ "${has:b:1}" = 1 ] || lacks+=" $b"
	done
	is "$name" "$lacks" ''
}
taken 'rings: indirect descriptors, event index, version 1: of the card' "$nic" 28 29 32
taken 'and of a disk' "$rw" 28 29 32
taken 'net: checksums, either way' "$nic" 0 1
taken 'net: TCP segmentation, IPv4 and IPv6, either way' "$nic" 7 8 11 12
taken 'net: mergeable buffers' "$nic" 15
taken 'net: several queues' "$nic" 22
is 'net: a pair of queues in use for each CPU' "$rx $tx" '2 2'
taken 'disk: flush, several queues, discard, write zeroes' "$rw" 9 12 13 14
taken 'disk: read-only' "$ro" 5
ok 'disk: zeroes are written without their bytes' [ "${zeroes:-0}" -gt 0 ]
is 'every device has a driver' "$("$C" exec one sh -c 'for d in /sys/bus/virtio/devices/*; do [ -e "$d/driver" ] || cat "$d/device"; done; echo looked')" looked
like 'rng: the guest takes entropy from it' "$("$C" exec one cat /sys/class/misc/hw_random/rng_current)" '^virtio_rng'

# No legacy: neither PCI nor a keyboard controller, nor (where QEMU does not bring one) a clock chip; KVM's own clock tells the time.
legacy='/sys/bus/pci/devices /sys/bus/serio/devices'
if [ "$CONTAINER_ENGINE" = kvm ]; then
	legacy+=' /sys/class/rtc'
	like 'kvmclock' "$("$C" exec one cat /sys/devices/system/clocksource/clocksource0/available_clocksource)" '(^| )kvm-clock '
fi
run "$C" exec one sh -c "find $legacy -mindepth 1 2>/dev/null; echo looked"
is 'no legacy' "$out" looked

# The offloads at work: frames longer than any cable takes cross the tap whole, either way, and nothing is lost.
tap=$(ip -o link show type tun | sed -nE 's/^[0-9]+: ([^:@]+).*/\1/p')
addr=$("$C" inspect one | jq -r '.[0].status.networks[0].ipv4Address | split("/")[0]')
tcpdump -l -nn -i "$tap" 'tcp and greater 4000' >"$T/long" 2>"$T/long.err" &
dump=$!
ok 'somebody looks at the tap' wait_until 20 grep -q 'listening on' "$T/long.err"
timeout "$T_LIMIT" "$C" exec one sh -c 'nc -l -p 7000 </dev/null | wc -c; head -c 4000000 /dev/zero | nc -l -p 7001' >"$T/there" &
job=$!
listens() # port in hexadecimal digits
{
	"$C" exec one sh -c "cat /proc/net/tcp /proc/net/tcp6 | grep -q ':$1 [0-9A-F]*:0000 0A'"
}
ok 'the container listens' wait_until 20 listens 1B58
head -c 4000000 /dev/zero | timeout "$T_LIMIT" socat -u - "TCP:$addr:7000"
ok 'net: megabytes to the guest' wait_until 20 grep -qx 4000000 "$T/there"
ok 'the container listens again' wait_until 20 listens 1B59
is 'net: and from it' "$(timeout "$T_LIMIT" socat -u "TCP:$addr:7001" - | wc -c)" 4000000
wait $job
kill $dump
wait $dump 2>/dev/null
ok 'net: in frames that the host did not have to take apart' grep -qF " > $addr.7000:" "$T/long"
ok 'net: and that the guest did not' grep -qF "IP $addr.7001 >" "$T/long"

# What a process reads and writes goes between the helper and the command: the apiserver has no part in it.
mkfifo "$T/ask"
timeout "$T_LIMIT" "$C" exec -i one cat <"$T/ask" >"$T/answer" &
job=$!
exec 7>"$T/ask"
echo before >&7
ok 'an exec that answers' wait_until 60 grep -qx before "$T/answer"
api=$(service_pid container.apiserver)
kill -STOP "$api"
echo meanwhile >&7
ok 'goes on while the apiserver is stopped' wait_until 20 grep -qx meanwhile "$T/answer"
kill -CONT "$api"
exec 7>&-
rc=0
wait $job || rc=$?
is 'to its end' "$rc" 0

# E, F: megabytes for a machine that sleeps: they wait on this side, and none is lost.
mkfifo "$T/in"
timeout 140 "$C" exec -i one wc -c <"$T/in" >"$T/wc" &
job=$!
exec 7>"$T/in"
head -c 1000000 /dev/zero >&7 # more than pipes hold: when it is gone, wc is reading
run_ok 'E: pause in the middle' "$C" pause one 7>&-
head -c 5000000 /dev/zero >&7 &
exec 7>&-
cpu()
{
	cut -d' ' -f14,15 "/proc/$1/stat"
}
q=$(pgrep -P "$h" | head -1)
still() # once what was on its way is where it waits
{
	local a
	a=$(cpu "${q:-$h}")
	sleep 2
	[ "$(cpu "${q:-$h}")" = "$a" ]
}
ok 'E: it takes no time' wait_until 20 still
ok "F: nor memory for what waits ($base kB, now $(anon "$h") kB)" [ "$(anon "$h")" -lt $((base + 4096)) ]
run_rc 1 'E: an exec is refused' "$C" exec one true
run_ok 'E: unpause' "$C" unpause one
wait $job
is 'E: no byte is lost' "$(tr -dc 0-9 <"$T/wc")" 6000000

# E: one client does not read; others do not notice, and what waits is bounded.
mkfifo "$T/stalled"
timeout 140 "$C" exec one sh -c 'head -c 30000000 /dev/zero; echo end >&2' >"$T/stalled" 2>"$T/stalled.err" &
job=$!
exec 7<"$T/stalled"
sleep 2
run_ok 'E: a reader that does not read holds up nobody else' "$C" exec one sh -c 'head -c 200000 /dev/zero | tr "\0" x'
is 'E: all of it' "${#out}" 200000
ok "E: what waits is bounded ($(anon "$h") kB)" [ "$(anon "$h")" -lt $((base + 4096)) ]
is 'E: and goes on when it is read' "$(wc -c <&7)" 30000000
exec 7<&-
wait $job
is 'E: to its end' "$(cat "$T/stalled.err")" end

# F: what the guest names is shown to people without what a terminal would obey. What a process writes goes through as it is.
esc=$(printf '\033]0;owned\007')
run_ok 'F: a process with an odd name' "$C" exec one sh -c "printf 'sleep 1000' >/tmp/\"\$1\"; sh /tmp/\"\$1\" >/dev/null 2>&1 & sleep 1" sh "$esc"
run_ok 'F: top' "$C" top one
like 'F: has it' "$out" 'owned'
unlike 'F: without its escapes' "$out" $'\033'
run_rc 127 'F: a program with such a name' "$C" exec one "/nothing$esc"
unlike 'F: in an error message' "$err" $'\033'
run_ok 'F: output' "$C" exec one printf '\033[31mred'
is 'F: is the process'"'s own" "$out" $'\033[31mred'

# A guest kernel that panics: said, and an exit status that no process would choose by itself.
# What was written before it has to be on its way: the word to panic is given when it is here.
mkfifo "$T/word"
timeout "$T_LIMIT" "$C" run --rm -i --cap-add ALL --name two demo sh -c 'mkdir /p; mount -t proc p /p; echo before; read -r x; echo c >/p/sysrq-trigger; sleep 100' \
	<"$T/word" >"$T/panic" 2>"$T/panic.err" &
job=$!
exec 7>"$T/word"
ok 'panic: what was written before it' wait_until "$T_LIMIT" grep -qx before "$T/panic"
echo now >&7
rc=0
wait $job || rc=$?
exec 7>&-
is 'panic: exit status' "$rc" 255
like 'panic: said' "$(cat "$T/panic.err")" '^Error: the machine of container two ended under it \(panic\)'
run_ok 'the other one runs on' "$C" exec one true
run "$C" run -d --cap-add ALL --name three demo sh -c 'mkdir /p; mount -t proc p /p; echo c >/p/sysrq-trigger; sleep 100'
ok 'panic of one in the background' wait_until 60 in_state three stopped
is 'inspect says so' "$("$C" inspect three | jq -r '.[0].status | "\(.exitCode) \(.machine)"')" '255 panic'
like 'the boot log has it' "$("$C" logs --boot three)" 'Kernel panic'
run_rc 255 'one that resets its machine' "$C" run --rm --cap-add ALL --name four demo sh -c 'mkdir /p; mount -t proc p /p; echo b >/p/sysrq-trigger; sleep 100'
like 'is said to have' "$err" '^Error: the machine of container four ended under it \(reset\)'
run_ok '64 CPUs' "$C" run --rm -c 64 demo sh -c 'nproc; cat /sys/devices/system/cpu/online; taskset -c 63 cut -d" " -f39 /proc/self/stat'
is 'are all there, and the last one works' "$out" '64
0-63
63'
run_rc 1 '65 are too many' "$C" run --rm -c 65 demo true
stop_system
done_testing
