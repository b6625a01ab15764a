#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# R: SIGKILL of each process while each thing is done. Whatever is killed whenever: every other container goes on, state is consistent,
# the next command works, and nothing is left of what was killed: no tap, rule, lease, descriptor, process or file.
# KILLS=n: rounds of the whole matrix (1).
. "$(dirname "$0")/../lib/system.sh"
. "$TOP/tests/lib/leaks.sh"
KILLS=${KILLS:-1}
victims=(container.apiserver container.images container.network.default container.runtime cli)
states=(create start run exec stop delete load prune)
SMALL='-c 1 -m 256m'
ready_system
run_ok 'a bystander' "$C" run -d --name by $SMALL demo sh -c 'i=0; while :; do i=$((i+1)); echo $i; sleep 0.3; done'
by=$(service_pid container.runtime.by)
run_ok 'one start and stop' "$C" run --rm $SMALL demo true
# The bystander's own things are in each snapshot; so is what the first use made (the bridge, the rules).
as_before()
{
	quiet 1 && held_as "$T/start"
}

# What is done while the victim dies; its output and status do not matter here, that it ends does.
LOOP='trap "exit 3" TERM; while :; do sleep 0.1; done'
act() # state
{
	case $1 in
	create) "$C" create --name xx $SMALL demo sh -c "$LOOP" ;;
	start) "$C" start xx ;;
	run) "$C" run --name xx $SMALL demo sh -c 'echo hello; sleep 0.5' ;;
	exec) "$C" exec xx sleep 0.3 ;;
	stop) "$C" stop -t 1 xx ;;
	delete) "$C" delete --force xx ;;
	load) "$C" image load -i "$IMAGES/demo.oci.tar" ;;
	prune) "$C" prune ;;
	esac
}
before() # state: what has to be there for it
{
	case $1 in
	start | prune | delete) "$C" create --name xx $SMALL demo sh -c "$LOOP" ;;
	exec | stop) "$C" run -d --name xx $SMALL demo sh -c "$LOOP" ;;
	esac
}
victim_pid() # victim pid-of-the-cli
{
	case $1 in
	cli) echo "$2" ;;
	container.runtime) pgrep -f '^[^ ]*container-runtime-linux' | grep -vx "$by" | head -1 ;;
	*) service_pid "$1" ;;
	esac
}
alive()
{
	[ "$(service_pid container.images)" -gt 0 ] && [ "$(service_pid container.network.default)" -gt 0 ] && "$C" image list
}
count_of_by()
{
	"$C" logs -n 1 by
}
goes_on() # count before
{
	[ "$(count_of_by)" -gt "$1" ]
}

one() # victim state delay-in-ms
{
	local v=$1 s=$2 cli pid n
	before "$s" >/dev/null 2>&1 || { diag "$v/$s: cannot be prepared"; return 1; }
	timeout 90 "$C" list >/dev/null || return 1
	[ "$v" = cli ] || pid=$(victim_pid "$v" '')
	n=$(count_of_by)
	T_ACT=1 act "$s" >"$T/act" 2>&1 &
	cli=$!
	sleep "$(awk -v ms="$3" 'BEGIN { print ms / 1000 }')"
	case $v in
	cli) pid=$(pgrep -P $cli | head -1); pid=${pid:-$cli} ;;
	container.runtime) pid=$(victim_pid "$v") ;;
	esac
	[ -z "$pid" ] || [ "$pid" = 0 ] || kill -KILL "$pid" 2>/dev/null
	# The command ends by itself: answered, refused or cut off.
	( exec >/dev/null 2>&1; sleep 80; kill -KILL $cli ) &
	local guard=$!
	disown $guard
	wait $cli 2>/dev/null
	kill $guard
	[ "$v" != container.apiserver ] || timeout 90 "$C" system start >/dev/null 2>"$T/said" ||
		{ diag "$v/$s/$3: no system start: $(cat "$T/said")" "$(tail -3 "$CONTAINER_LOG_ROOT/container.apiserver.log")"; return 1; }
	wait_until 30 alive || { diag "$v/$s/$3: the services are not back: $("$C" system status 2>&1)"; return 1; }
	[ "$(service_pid container.runtime.by)" = "$by" ] && wait_until 30 goes_on "${n:-0}" ||
		{ diag "$v/$s/$3: the bystander does not go on"; return 1; }
	"$C" delete --force xx >/dev/null 2>&1
	wait_until 60 as_before || { diag "$v/$s/$3: what is held has changed:" "$(diff "$T/start" "$T/now")" "$("$C" list -a)"; return 1; }
	no_more_descriptors
}
services='container.apiserver container.images container.network.default'
declare -A at_first
no_more_descriptors()
{
	local l
	for l in $services; do
		wait_until 20 few_descriptors $l "${at_first[$l]}" || { diag "$l has $(descriptors $l) descriptors, ${at_first[$l]} at first"; return 1; }
	done
}
ok 'only the bystander is left' wait_until 40 quiet 1
held >"$T/start"
for l in $services; do at_first[$l]=$(descriptors $l); done
grep -q 'process container-runtime-linux' "$T/start" || bail 'the snapshot sees processes'
[ "${at_first[container.apiserver]}" -gt 3 ] || bail 'descriptors are counted'

# A start takes so long here (ms): kills fall into all of it.
t0=${EPOCHREALTIME/./}
"$C" run --rm $SMALL demo true >/dev/null
whole=$(((${EPOCHREALTIME/./} - t0) / 1000))
kills=0
for ((round = 0; round < KILLS; round++)); do
	for v in "${victims[@]}"; do
		bad=0
		for s in "${states[@]}"; do
			case $s in
			start | run) delay=$((RANDOM % whole)) ;;
			*) delay=$((RANDOM % 120)) ;;
			esac
			one "$v" "$s" "$delay" || bad=$((bad + 1))
			kills=$((kills + 1))
		done
		is "R: $v killed in ${#states[@]} states" "$bad" 0
	done
done
diag "$kills kills; a start takes $whole ms here"
run_ok 'the system works as before' "$C" run --rm demo echo fine
is 'and says so' "$out" fine
is 'the bystander has seen nothing' "$(service_pid container.runtime.by)" "$by"

run_ok 'all are deleted' "$C" delete --force --all
ok 'nothing is held any more' wait_until 40 quiet 0
ok 'no directory, mount or cgroup either' wait_until 20 none_held || diag "$(cat "$T/still-held")"

# A full disk: what cannot be written is refused, what is there stays.
mkdir "$T/full"
mount -t tmpfs -o size=100m tmpfs "$T/full"
stop_system
use_roots "$T/full"
start_system
set_kernel
run_ok 'the image fits' "$C" image load -i "$IMAGES/demo.oci.tar"
run_ok 'a container' "$C" create --name before $SMALL demo true
dd if=/dev/zero of="$T/full/ballast" bs=64k 2>/dev/null
run "$C" create --name during demo true
is 'R: a full disk refuses a new container' "$rc" 1
like 'and says why' "$err" 'No space left on device'
run "$C" image load -i "$IMAGES/demo.oci.tar"
run "$C" list -aq
is 'what was there is' "$out" before
rm "$T/full/ballast"
run_ok 'with room again' "$C" create --name after $SMALL demo true
run_ok 'what was made before the disk was full starts' "$C" start -a before
run_ok 'what was made after too' "$C" start -a after
stop_system
umount "$T/full"
done_testing
