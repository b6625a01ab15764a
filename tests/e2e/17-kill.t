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

# A helper is there for some of it only.
states_of() # victim
{
	case $1 in
	container.runtime) echo start run exec stop delete ;;
	*) echo "${states[@]}" ;;
	esac
}
declare -A hits # victim/state: how many kills hit a process that lived
hit() # victim state
{
	hits[$1/$2]=$((${hits[$1/$2]:-0} + 1))
}
# How many of a victim's kills have to have hit, of each round: a service is there in every state; a command that executes something for
# 0.3 s, and the helper of what it executes that in, are there for sure in that one.
at_least() # victim
{
	case $1 in
	cli | container.runtime) echo "$KILLS" ;;
	*) states_of "$1" | wc -w | awk -v k="$KILLS" '{ print k * $1 }' ;;
	esac
}

# What is done while the victim dies; its output and status do not matter here, that it ends does. It is killed after that time.
LOOP='trap "exit 3" TERM; while :; do sleep 0.1; done'
act() # state seconds
{
	local c=(timeout --foreground -s KILL "$2" "$C")
	case $1 in
	create) "${c[@]}" create --name xx $SMALL demo sh -c "$LOOP" ;;
	start) "${c[@]}" start xx ;;
	run) "${c[@]}" run --name xx $SMALL demo sh -c 'echo hello; sleep 0.5' ;;
	exec) "${c[@]}" exec xx sleep 0.3 ;;
	stop) "${c[@]}" stop -t 1 xx ;;
	delete) "${c[@]}" delete --force xx ;;
	load) "${c[@]}" image load -i "$IMAGES/demo.oci.tar" ;;
	prune) "${c[@]}" prune ;;
	esac
}
before() # state: what has to be there for it
{
	case $1 in
	start | prune) "$C" create --name xx $SMALL demo sh -c "$LOOP" ;;
	exec | stop | delete) "$C" run -d --name xx $SMALL demo sh -c "$LOOP" ;;
	esac
}
victim_pid() # victim
{
	case $1 in
	container.runtime) pgrep -f '^[^ ]*container-runtime-linux' | grep -vx "$by" | head -1 ;;
	*) service_pid "$1" ;;
	esac
}
# Kills it, if there is something to kill: the state may be over before, or not have come so far.
kill_victim() # victim state pid
{
	case $(sed -n 's/^State:.\(.\).*/\1/p' "/proc/${3:-none}/status" 2>/dev/null) in
	'' | Z | X) ;;
	*) kill -KILL "$3" 2>/dev/null && hit "$1" "$2" ;;
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
	local v=$1 s=$2 delay cli pid='' n rc=0 began
	printf -v delay %d.%03d $(($3 / 1000)) $(($3 % 1000))
	before "$s" >/dev/null 2>&1 || { diag "$v/$s: cannot be prepared"; return 1; }
	timeout 90 "$C" list >/dev/null || return 1
	case $v in
	cli | container.runtime) ;;
	*) pid=$(victim_pid "$v") ;;
	esac
	n=$(count_of_by)
	if [ "$v" = cli ]; then
		act "$s" "$delay" >"$T/act" 2>&1 || rc=$?
		[ $rc != 137 ] || hit "$v" "$s"
	else
		began=$SECONDS
		act "$s" 80 >"$T/act" 2>&1 &
		cli=$!
		sleep "$delay"
		kill_victim "$v" "$s" "${pid:-$(victim_pid "$v")}"
		# The command ends by itself: answered, refused or cut off.
		wait $cli
		[ $((SECONDS - began)) -lt 80 ] || { diag "$v/$s/$3: the command does not end"; return 1; }
	fi
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
for ((round = 0; round < KILLS; round++)); do
	for v in "${victims[@]}"; do
		bad=0
		for s in $(states_of "$v"); do
			case $v/$s in
			*/start | */run) delay=$((1 + RANDOM % whole)) ;;
			cli/exec) delay=$((1 + RANDOM % 120)) ;;
			cli/* | container.runtime/*) delay=$((1 + RANDOM % 30)) ;; # they are as short as that
			*) delay=$((1 + RANDOM % 120)) ;;
			esac
			one "$v" "$s" "$delay" || bad=$((bad + 1))
		done
		is "R: $v killed in each of its states" "$bad" 0
	done
done
diag "a start takes $whole ms here; kills that hit:"
for v in "${victims[@]}"; do
	n=0 line=
	for s in $(states_of "$v"); do
		n=$((n + ${hits[$v/$s]:-0})) line+=" $s ${hits[$v/$s]:-0}"
	done
	diag "$v: $n:$line"
	ok "R: $v was there to be killed, $(at_least "$v") times at the least" [ "$n" -ge "$(at_least "$v")" ]
done
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
run_ok 'one that runs' "$C" run -d --name on $SMALL demo sh -c '[ -e /kept ] || echo kept >/kept; sync; echo synced; sleep 1000'
ok 'and has written' wait_until 30 eval '"$C" logs on | grep -q synced'
dd if=/dev/zero of="$T/full/ballast" bs=64k 2>/dev/null
run "$C" create --name during demo true
is 'R: a full disk refuses a new container' "$rc" 1
like 'and says why' "$err" 'No space left on device'
run_rc 1 'an image as well' "$C" image load -i "$IMAGES/demo.oci.tar"
like 'which says why, too' "$err" 'No space left on device'
run "$C" list -aq
is 'what was there is' "$(sort <<<"$out" | tr '\n' ' ')" 'before on '
is 'the image too' "$("$C" images -q)" demo:latest
# The guest's disk is a file with holes there, of which it needs more than there is room for.
run "$C" exec on dd if=/dev/urandom of=/more bs=1M count=30 conv=fsync
is 'R: what a guest writes beyond the disk fails' "$rc" 1
like 'with an error of its file system' "$err" 'I/O error|Input/output error|Read-only file system|No space left on device'
run_ok 'its machine goes on' "$C" exec on cat /kept
is 'with what it has' "$out" kept
is 'and is known to' "$("$C" inspect on | jq -r '.[0].status.state')" running
run_ok 'it stops' "$C" stop -t 1 on
ok 'and is stopped' wait_until 20 in_state on stopped
run_ok 'which can be seen' "$C" inspect on
is 'with how it ended' "$(jq '.[0].status.exitCode' <<<"$out")" 137
rm "$T/full/ballast"
run_ok 'with room again' "$C" create --name after $SMALL demo true
run_ok 'what was made before the disk was full starts' "$C" start -a before
run_ok 'what was made after too' "$C" start -a after
run_ok 'what ran while it was full starts again' "$C" start on
is 'with what was written before' "$("$C" exec on cat /kept)" kept
run_ok 'and writes' "$C" exec on sh -c 'dd if=/dev/urandom of=/more bs=1M count=5 conv=fsync 2>/dev/null && sha256sum /more >/sum && sync && sha256sum -c /sum'
stop_system
umount "$T/full"
done_testing
