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

# Times in the middle, as --timestamps shows them: both ends belong to the span.
for n in 1 2 3 4 5; do
	ok "line $n" tell "echo n $n" "^n $n\$"
done
stamps=$("$C" logs -t log 2>/dev/null | grep -a ' n [1-5]$')
at() # n nanoseconds: when it was said, and so much later
{
	local t ns
	t=$(awk -v n="$1" '$3 == n { print $1 }' <<<"$stamps")
	ns=${t#*.}
	printf '%s.%09dZ' "${t%.*}" $((10#${ns%Z} + $2))
}
lines() # option…: what standard output has, on one line
{
	"$C" logs "$@" log 2>/dev/null | grep -a '^n ' | xargs
}
is 'each has a time of its own' "$(cut -d' ' -f1 <<<"$stamps" | sort -u | wc -l)" 5
is '--since the time of a line' "$("$C" logs --since "$(at 3 0)" log 2>&1)" $'n 3\nn 4\nn 5'
is 'is with it, and a moment later without' "$("$C" logs --since "$(at 3 1)" log 2>&1)" $'n 4\nn 5'
is '--until the time of a line' "$("$C" logs --until "$(at 3 0)" log 2>/dev/null | od -c)" "$("$C" logs log 2>/dev/null | sed '/^n 3$/q' | od -c)"
is 'is with it, and a moment earlier without' "$(lines --until "$(at 3 -1)")" 'n 1 n 2'
is 'both' "$("$C" logs --since "$(at 2 0)" --until "$(at 4 0)" log 2>&1)" $'n 2\nn 3\nn 4'
is 'of one line' "$("$C" logs --since "$(at 4 0)" --until "$(at 4 0)" log 2>&1)" 'n 4'
is 'the wrong way round' "$("$C" logs --since "$(at 4 0)" --until "$(at 2 0)" log 2>&1)" ''
is '-n of what is left' "$("$C" logs -n 2 --since "$(at 2 0)" --until "$(at 4 0)" log 2>&1)" $'n 3\nn 4'
is '-n of more than that' "$("$C" logs -n 9 --since "$(at 4 0)" log 2>&1)" $'n 4\nn 5'
is 'times are shown with them' "$("$C" logs -t --since "$(at 5 0)" log 2>&1)" "$(tail -n 1 <<<"$stamps")"
is 'Unix seconds' "$("$C" logs --since "$(date -d "$(at 4 0)" +%s.%N)" log 2>&1)" $'n 4\nn 5'
is 'another zone' "$("$C" logs --since "$(TZ=UTC-5 date -d "$(at 4 0)" +%Y-%m-%dT%H:%M:%S.%N+05:00)" log 2>&1)" $'n 4\nn 5'
# What was said until the second of them, two hours earlier: in place, and of the same length.
LC_ALL=C sed "2,/ F n 2\$/s/^[^ ]*/$(date -u -d '2 hours ago' +%Y-%m-%dT%H:%M:%S.%NZ)/" "$D/stdio.log" >"$T/aged" && cat "$T/aged" >"$D/stdio.log"
is '--since a duration' "$("$C" logs --since 90m log 2>&1)" $'n 3\nn 4\nn 5'
is 'a longer one' "$(lines --since 1h1000m)" 'n 1 n 2 n 3 n 4 n 5'
is '--until a duration' "$(lines --until 5400s)" 'n 1 n 2'
is 'both' "$(lines --since 3h --until 1.5h) $(lines --since 110m --until 30m)" 'n 1 n 2 '
is 'and -n' "$(lines --until 1h -n 1)" 'n 2'
# A line in two parts with one of the other stream in between: who does not get its beginning does not get its end.
ok 'half a line' tell 'printf half' 'half$'
ok 'another stream' tell 'echo between >&2' between
ok 'the other half' tell 'echo " a line"' '^ a line$'
is '-n cuts before it' "$("$C" logs -n 1 log 2>&1)" between
is 'or has it whole' "$("$C" logs -n 2 log 2>/dev/null) $("$C" logs -n 2 log 2>&1 >/dev/null)" 'half a line between'

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

# log.level: of the helper that runs a container, and of its guest's kernel.
helper_says() # container
{
	cat "$CONTAINER_LOG_ROOT/container.runtime.$1.log"
}
unlike 'a helper says little' "$(helper_says twice)" '"level":"debug"'
stop_system
echo '{"log": {"level": "debug"}}' >"$CONTAINER_CONFIG"
start_system
run_rc 7 'run with log.level debug' "$C" run --name loud demo sh -c 'cat /proc/cmdline; exit 7'
like 'its kernel is told to say all' "$out" ' debug( |$)'
like 'its helper says all' "$(helper_says loud)" '"level":"debug",[^}]*exited with 7'
stop_system
done_testing
