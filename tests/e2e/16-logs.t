#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# logs: two streams with times, the last lines, spans of time, rotation with a bound (class F), following over rotation, restarts and an
# apiserver that is killed.
. "$(dirname "$0")/../lib/system.sh"
ready_system

run_rc 1 'a log needs a size' "$C" create --log-opt max-size=1k demo true
run_rc 1 'and files' "$C" create --log-opt max-file=99 demo true
run_rc 1 'and nothing else' "$C" create --log-opt color=blue demo true
# It does what it is told through a FIFO.
run_ok 'run' "$C" run -d --name log --log-opt max-size=100k --log-opt max-file=3 demo sh -c '
	mkfifo /say; echo start; echo bad >&2; printf "no end"; while :; do read -r x </say; eval "$x"; done'
is 'its bounds' "$("$C" inspect log | jq -c '.[0].configuration.log')" '{"maxFiles":3,"maxSizeInBytes":102400}'
D=$CONTAINER_APP_ROOT/containers/log
said()
{
	"$C" logs log 2>&1 | grep -aq "$1"
}
tell() # script words: of each stream the last that it says
{
	local word
	run "$C" exec log sh -c 'echo "$1" >/say' - "$1"
	for word in "${@:2}"; do
		wait_until 20 said "$word" || return
	done
}
# The two streams come each on its own way.
ok 'it speaks' wait_until 20 said 'no end'
ok 'on both streams' wait_until 20 said bad
run_ok 'logs' "$C" logs log
is 'standard output, as it was written' "$out" $'start\nno end'
is 'standard error' "$err" bad
is 'without an end of line where there was none' "$("$C" logs log 2>/dev/null | tail -c 3)" end
mid=$(date -u +%Y-%m-%dT%H:%M:%S.%NZ)
ok 'more' tell 'echo; echo later; echo later still >&2; printf "\001\377\n"' "$(printf '\377$')" 'later still'
run_ok '--timestamps' "$C" logs -t log
like 'each line has one' "$out" $'^20[0-9-]+T[0-9:]+\\.[0-9]{9}Z start\n20[0-9-]+T[0-9:.]+Z no end\n20[0-9-]+T[0-9:.]+Z later\n'
like 'of standard error too' "$err" $'^20[0-9-]+T[0-9:.]+Z bad\n20[0-9-]+T[0-9:.]+Z later still$'
is 'bytes pass' "$("$C" logs log 2>/dev/null | tail -n 1 | od -An -tx1 | tr -d ' \n')" 01ff0a
is '--tail 4' "$("$C" logs --tail 4 log 2>&1 | wc -l)" 4
is '-n 0' "$("$C" logs -n 0 log 2>&1)" ''
is '--until' "$("$C" logs --until "$mid" log 2>/dev/null)" $'start\nno end'
is '--since a duration' "$("$C" logs --since 1h log 2>/dev/null | head -1)" start
is '--until long ago' "$("$C" logs --until 1h log 2>&1)" ''
is '--since tomorrow' "$("$C" logs --since 2100-01-01 log 2>&1)" ''
run_rc 1 'a time that is none' "$C" logs --since yesterday log
run_rc 64 'a boot log has no times' "$C" logs --boot --since 1h log
run_rc 64 'a number that is none' "$C" logs -n x log
run_ok 'logs -f --until ends' "$C" logs -f --until "$(date -u -d '+1 second' +%Y-%m-%dT%H:%M:%SZ)" log

# Rotation. A follower sees every line; the files stay within their bound.
timeout 300 "$C" logs -f log >"$T/follow" 2>"$T/follow.err" &
follow=$!
ok 'a follower' wait_until 10 grep -aq later "$T/follow"
follows() # count: the follower has so many lines
{
	[ "$(grep -c '^line [0-9]* of many$' "$T/follow")" = "$1" ]
}
# The writer waits for nobody; what it writes at a time is less than two files, so that it does not come round to where the follower is.
lost=0
for n in 2000 4000 6000 8000 10000 12000; do
	tell "while [ \${i:=0} -lt $n ]; do echo \"line \$i of many\"; i=\$((i+1)); done" "^line $((n - 1)) of many" && wait_until 60 follows $n || lost=1
done
is 'more than the log holds, and the follower sees all of it' $lost 0
ok 'to its end' tell 'echo over' over
ok 'the follower has the last' wait_until 60 grep -q over "$T/follow"
is 'and all in between' "$(grep -c '^line [0-9]* of many$' "$T/follow")" 12000
ok 'F: the log is bounded' [ "$(cat "$D"/stdio.log* | wc -c)" -le 307200 ]
is 'of three files' "$(cd "$D" && echo stdio.log*)" 'stdio.log stdio.log.1 stdio.log.2'
ok 'the newest is there' [ "$("$C" logs log | grep -c ^line)" -gt 1000 ]
is 'and in order' "$("$C" logs -n 3 log)" $'line 11998 of many\nline 11999 of many\nover'

# The follower outlives the apiserver and the container's restarts, and ends when it is deleted.
old=$(service_pid container.apiserver)
kill -KILL "$old"
sleep 0.5
run_ok 'the next apiserver' "$C" system start
run_ok 'restart' "$C" restart -t 0 log
ok 'begins the log anew' wait_until 20 said 'no end'
is 'and that is all' "$("$C" logs log 2>/dev/null)" $'start\nno end'
ok 'the follower goes along' wait_until 10 bash -c '[ "$(tail -2 "$1")" = "start
no end" ]' - "$T/follow"
ends_with() # file line
{
	[ "$(tail -1 "$1")" = "$2" ]
}
ok 'on both streams' wait_until 10 ends_with "$T/follow.err" bad
run_ok 'delete' "$C" delete -f log
ended()
{
	! kill -0 $follow 2>/dev/null
}
ok 'the follower ends' wait_until 10 ended
wait $follow
is 'well' $? 0

# A restart policy keeps what was said.
run_ok 'run --restart on-failure:1' "$C" run -d --name twice --restart on-failure:1 demo sh -c 'echo again; exit 1'
ok 'runs twice' wait_until 40 bash -c '[ "$("$1" logs twice | grep -c again)" = 2 ]' - "$C"
stop_system
done_testing
