#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The apiserver is killed at any moment; containers go on, and the next one finds them.
. "$(dirname "$0")/../lib/system.sh"
ready_system
run_ok 'a container' "$C" run -d --name go --rm demo sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.5; done'
run_ok 'another' "$C" run -d --name stay demo sleep 1000
runtime=$(service_pid container.runtime.go)
old=$(service_pid container.apiserver)
address=$("$C" inspect go | jq -r '.[0].status.networks[0].ipv4Address')
kill -KILL "$old"
dead()
{
	! kill -0 "$old" 2>/dev/null || [ "$(sed -n 's/^State:.\(.\).*/\1/p' "/proc/$old/status")" = Z ]
}
ok 'the apiserver is dead' wait_until 10 dead
ok 'its runtime helper is not' kill -0 "$runtime"
run_rc 1 'commands say there is no system' "$C" list
run_ok 'system start' "$C" system start
is 'both containers run' "$("$C" list -q | sort | tr '\n' ' ')" 'go stay '
is 'with the same helper' "$(service_pid container.runtime.go)" "$runtime"
is 'and the same address' "$("$C" inspect go | jq -r '.[0].status.networks[0].ipv4Address')" "$address"
counts_on()
{
	[ "$("$C" logs -n 1 go)" -gt "${a:-0}" ]
}
ok 'it counts' wait_until 20 counts_on
a=$("$C" logs -n 1 go)
ok 'it counted on all the time' wait_until 20 counts_on
run_ok 'exec works' "$C" exec go sh -c 'ping -c 1 -W 5 $(ip route | sed -n "s/default via \([0-9.]*\).*/\1/p")'
run_ok 'stop' "$C" stop -t 1 go
ok '--rm still holds' wait_until 20 gone go
pid=$(service_pid container.runtime.stay)
old=$(service_pid container.apiserver)
kill -KILL "$old"
ok 'the apiserver is dead again' wait_until 10 dead
# It ends while nobody looks.
kill -KILL "$pid"
ok 'so is the other container' wait_until 10 test ! -e "/proc/$pid"
run_ok 'system start' "$C" system start
ok 'what ended meanwhile is stopped' wait_until 20 in_state stay stopped
run_ok 'and starts again' "$C" start stay
run_ok 'new containers start' "$C" run --rm demo true

# One that is paused stays so, and is known to be.
run_ok 'one that counts' "$C" run -d --name still -m 256m demo sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.2; done'
counted()
{
	local n
	n=$("$C" logs -n 1 still) && [ "${n:-0}" -gt "$1" ]
}
ok 'it counts' wait_until 20 counted 0
run_ok 'pause' "$C" pause still
runtime=$(service_pid container.runtime.still)
old=$(service_pid container.apiserver)
kill -KILL "$old"
ok 'the apiserver is dead a third time' wait_until 10 dead
run_ok 'system start' "$C" system start
is 'what was paused is paused' "$("$C" inspect still | jq -r '.[0].status.state')" paused
is 'in the list as well' "$("$C" list -a --format json | jq -r '.[] | select(.id == "still") | .status.state')" paused
is 'with the same helper' "$(service_pid container.runtime.still)" "$runtime"
a=$("$C" logs -n 1 still)
sleep 2
is 'it does not count' "$("$C" logs -n 1 still)" "$a"
run_rc 1 'exec is refused' "$C" exec still true
like 'for that reason' "$err" 'paused'
run_ok 'unpause' "$C" unpause still
is 'it runs' "$("$C" inspect still | jq -r '.[0].status.state')" running
ok 'it counts on' wait_until 20 counted "$a"
is 'from where it was' "$("$C" logs still | awk '$1 != NR' | head -1)" ''
run_ok 'exec works in it' "$C" exec still true
stop_system
done_testing
