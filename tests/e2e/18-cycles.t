#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# R: containers run and stop again and again; afterwards taps, rules, leases, cgroups, files, descriptors and processes are what they
# were, and the services have not grown. CYCLES=n (12; `make cycles N=1000` for the long one), two side by side; CYCLE_LIMIT=s for a
# command (120). Every third container is stopped while it runs, every third is created, started and deleted, the others end by themselves.
# Cycles whose machine was reset because it hung (cmd/runtime.c) are counted by their time.
. "$(dirname "$0")/../lib/system.sh"
. "$TOP/tests/lib/leaks.sh"
CYCLES=${CYCLES:-12}
T_LIMIT=${CYCLE_LIMIT:-120}
ready_system
run_ok 'the first' "$C" run --rm demo true
ok 'it is gone' wait_until 30 quiet 0
services='container.apiserver container.images container.network.default'
kib() # pid
{
	awk '/^VmRSS:/ { print $2 }' "/proc/$1/status"
}
RESET_S=40
cycle() # n
{
	local t0=$SECONDS
	case $(($1 % 3)) in
	0)
		# With an init of its own it takes the signal from its first moment on.
		timeout -k 5 $T_LIMIT "$C" run -d --init --name "c$1" demo sleep 1000 >/dev/null &&
			timeout -k 5 $T_LIMIT "$C" stop -t 20 "c$1" >/dev/null && timeout -k 5 $T_LIMIT "$C" delete "c$1" >/dev/null
		;;
	1)
		timeout -k 5 $T_LIMIT "$C" create --name "c$1" demo sh -c 'exit 4' >/dev/null
		timeout -k 5 $T_LIMIT "$C" start -a "c$1" >/dev/null
		[ $? = 4 ] && timeout -k 5 $T_LIMIT "$C" delete "c$1" >/dev/null
		;;
	2) [ "$(timeout -k 5 $T_LIMIT "$C" run --rm --name "c$1" demo echo "said $1")" = "said $1" ] ;;
	esac || {
		echo "$1" >>"$T/bad"
		t_evidence
	}
	[ $((SECONDS - t0)) -lt $RESET_S ] || echo "$1" >>"$T/slow"
}
held >"$T/start"
declare -A fds rss
for s in $services; do
	fds[$s]=$(descriptors $s)
	rss[$s]=$(kib "$(service_pid $s)")
done
touch "$T/bad" "$T/slow"
for ((i = 0; i < CYCLES; i += 2)); do
	cycle $i 2>>"$T/said" &
	a=$!
	cycle $((i + 1)) 2>>"$T/said"
	wait $a
	[ $((i % 100)) != 98 ] || diag "$((i + 2)) cycles, $(wc -l <"$T/bad") bad, apiserver $(kib "$(service_pid container.apiserver)") KiB"
done
is "R: $CYCLES cycles, those that did not do what they should" "$(paste -sd' ' "$T/bad")" ''
diag "cycles of $RESET_S s and more: $(wc -l <"$T/slow")"
[ ! -s "$T/bad" ] || diag "$(tail -20 "$T/said")"
ok 'none is left' wait_until 60 quiet 0
ok 'processes, links, rules, mounts, cgroups, files and leases are what they were' wait_until 20 held_as "$T/start" || diag "$(diff "$T/start" "$T/now")"
for s in $services; do
	ok "$s: no more descriptors than at first (${fds[$s]})" wait_until 20 few_descriptors $s "${fds[$s]}" || diag "$(descriptors $s)"
	n=$(kib "$(service_pid $s)")
	# An allocator's slack of the first rounds, and not more than that for any number of them.
	ok "$s: $n KiB resident, ${rss[$s]} at first" test "$n" -le $((rss[$s] + 2048))
done
stop_system
done_testing
