#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# create, start, list, inspect, exec, logs, stop, kill, delete.
. "$(dirname "$0")/../lib/system.sh"
ready_system

run_ok 'create' "$C" create --name web -e X=1 -l team=a -c 1 -m 256m demo sh -c 'trap "echo bye; exit 3" TERM; echo hello; echo oops >&2; while :; do sleep 0.2; done'
is 'prints the id' "$out" web
is 'list shows running ones only' "$("$C" list -q)" ''
is 'list -a shows it' "$("$C" list -aq)" web
run_rc 1 'a second of that name' "$C" create --name web demo
like 'says it exists' "$err" 'exists'
run_rc 1 'exec in a stopped container' "$C" exec web true
like 'says so' "$err" 'not running'
run_ok 'start' "$C" start web
is 'prints the id' "$out" web
run_ok 'start again is fine' "$C" start web
run_ok 'list' "$C" list
like 'the row' "$out" 'web +docker.io/library/demo:latest +linux +amd64 +running +[0-9.]+/24 +1 +256 MB'
run_ok 'ls -q' "$C" ls -q
is 'ls' "$out" web
run_ok 'ps' "$C" ps -q
is 'ps' "$out" web
run_ok 'inspect' "$C" inspect web
is 'id' "$(jq -r '.[0].id' <<<"$out")" web
is 'state' "$(jq -r '.[0].status.state' <<<"$out")" running
is 'label' "$(jq -r '.[0].configuration.labels.team' <<<"$out")" a
is 'memory' "$(jq -r '.[0].configuration.resources.memoryInBytes' <<<"$out")" 268435456
is 'cpus' "$(jq -r '.[0].configuration.resources.cpus' <<<"$out")" 1
is 'image' "$(jq -r '.[0].configuration.image.reference' <<<"$out")" docker.io/library/demo:latest
like 'address' "$(jq -r '.[0].status.networks[0].ipv4Address' <<<"$out")" '^[0-9.]+/24$'
like 'start date' "$(jq -r '.[0].status.startedDate' <<<"$out")" '^20[0-9-]+T[0-9:]+Z$'
is 'list --format json is the same object' "$("$C" list --format json | jq -S '.[0]')" "$(jq -S '.[0]' <<<"$out")"
run_rc 1 'inspect of an unknown one' "$C" inspect web nothere
like 'names it' "$err" 'nothere'

# Several processes.
run_ok 'exec' "$C" exec web sh -c 'echo out; echo err >&2; echo $X; hostname'
is 'stdout' "$out" "out
1
web"
is 'stderr' "$err" err
run_rc 5 "exec's exit status" "$C" exec web sh -c 'exit 5'
run_rc 143 'exec ended by a signal' "$C" exec web sh -c 'kill -TERM $$'
run_rc 127 'exec of nothing' "$C" exec web no-such-program
like 'names it' "$err" 'no-such-program'
run_ok 'exec -e -w -u' "$C" exec -e Y=2 -w /var/www -u www-data web sh -c 'echo $X$Y; pwd; id -un'
is 'all of it' "$out" "12
/var/www
www-data"
rc=0
out=$(echo data | timeout "$T_LIMIT" "$C" exec -i web cat) || rc=$?
is 'exec -i' "$rc:$out" '0:data'
run_ok 'exec -d' "$C" exec -d web sh -c 'echo $$ >/tmp/d; sleep 600'
is 'prints the id' "$out" web
ok 'and it runs on' wait_until 10 "$C" exec web sh -c 'kill -0 $(cat /tmp/d)'
pids=()
for i in 1 2 3 4 5 6; do
	timeout "$T_LIMIT" "$C" exec web sh -c "sleep 1; echo $i" >"$T/e$i" 2>&1 &
	pids+=($!)
done
all=0
for p in "${pids[@]}"; do
	wait "$p" || all=1
done
is 'six at once' "$all:$(cat "$T"/e? | tr '\n' ' ')" '0:1 2 3 4 5 6 '
out=$(timeout "$T_LIMIT" "$C" exec web head -c 2000000 /dev/zero | wc -c)
is '2 MB out of exec' "$out" 2000000
is 'a reader that takes its time gets all, though the process is long over' "$(timeout "$T_LIMIT" "$C" exec web seq 1 60000 | (sleep 6; wc -l))" 60000
run_ok 'the init process is still PID 1' "$C" exec web sh -c 'tr "\0" " " </proc/1/cmdline'
like 'and is the command' "$out" 'trap'

# Logs: stdout and stderr of the init process.
logs_are() # what both streams together have
{
	[ "$("$C" logs web 2>&1)" = "$1" ]
}
ok 'it has said its words' wait_until 20 logs_are $'hello\noops'
run_ok 'logs' "$C" logs web
is 'standard output' "$out" hello
is 'standard error' "$err" oops
is 'both streams in order' "$("$C" logs web 2>&1)" "hello
oops"
is 'logs -n 1' "$("$C" logs -n 1 web 2>&1)" oops
run_ok 'logs --boot' "$C" logs --boot web
like "has the kernel's words" "$out" '\[ +[0-9]+\.[0-9]+\] '
timeout 300 "$C" logs -f web >"$T/follow" 2>&1 &
follow=$!
ok 'logs -f shows what is there' wait_until 10 grep -q oops "$T/follow"

# Stop: the process's own handler runs; then what stopped can start again, with its files.
run_ok 'leave a file' "$C" exec web sh -c 'echo mine >/root/file; sync'
run_ok 'stop' "$C" stop web
is 'prints the id' "$out" web
ok 'logs -f shows the last word' wait_until 10 grep -q bye "$T/follow"
kill $follow 2>/dev/null
is 'stopped' "$("$C" list -a --format json | jq -r '.[0].status.state')" stopped
run_ok 'stop again is fine' "$C" stop web
run_rc 1 'stop of an unknown one' "$C" stop nothere
run_rc 1 'kill of a stopped one' "$C" kill web
run_ok 'start after stop' "$C" start web
run_ok 'files outlive the machine' "$C" exec web cat /root/file
is 'it' "$out" mine
# PID 1 that has no handler yet does not hear it.
ok 'the process is ready' wait_until 20 bash -c '"$1" logs web | grep -q hello' - "$C"
run_ok 'kill -s TERM' "$C" kill -s TERM web
ok 'ends it' wait_until 20 in_state web stopped
run_ok 'start' "$C" start web
run_rc 1 'delete of a running one' "$C" delete web
like 'says so' "$err" 'running|not.*stopped'
is 'and it still runs' "$("$C" list -q)" web
run_ok 'delete -f' "$C" delete -f web
is 'prints the id' "$out" web
is 'it is gone' "$("$C" list -aq)" ''
run_rc 1 'delete of an unknown one' "$C" rm nothere

# A process that does not hear SIGTERM.
run_ok 'run -d' "$C" run -d --stop-timeout 3600 --name deaf demo sh -c 'trap "" TERM; while :; do sleep 1; done'
is 'prints the id' "$out" deaf
# Its own grace period is an hour: the end of run says which one counted.
run_ok 'stop -t 1 waits as long as it says, not longer' "$C" stop -t 1 deaf
run_ok 'delete' "$C" delete deaf
# Its own grace period, which a bare stop honours: 5 s without one.
run_ok 'run -d --stop-timeout' "$C" run -d --stop-timeout 600 --name slow -m 200m -c 1 --network none demo \
	sh -c 'trap "sleep 8; exit 3" TERM; echo up; while :; do sleep 0.2; done'
said() # id line: it is in its log
{
	"$C" logs "$1" 2>/dev/null | grep -qx "$2"
}
ended() # id: state and exit code
{
	"$C" inspect "$1" | jq -r '.[0].status | "\(.state) \(.exitCode)"'
}
ok 'it is ready' wait_until 20 said slow up
run_ok 'a bare stop' "$C" stop slow
is 'waits for what takes 8 s, and does not kill' "$(ended slow)" 'stopped 3'
run_ok 'delete' "$C" delete slow

# All that run; what does not is neither signalled nor started.
run_ok 'one is left stopped' "$C" create --name all-0 -m 200m -c 1 --network none demo sh -c 'echo up; sleep 600'
for i in 1 2; do
	run_ok 'one more runs' "$C" run -d --name all-$i -m 200m -c 1 --network none --stop-timeout 600 demo \
		sh -c 'trap "echo usr1" USR1; trap "exit 6" TERM; echo up; while :; do sleep 0.2; done'
	ok 'it is ready' wait_until 20 said all-$i up
done
run_ok 'kill --all -s USR1' "$C" kill --all -s USR1
is 'prints the ids of those that run' "$(sort <<<"$out" | xargs)" 'all-1 all-2'
ok 'the first got it' wait_until 20 said all-1 usr1
ok 'the second got it' wait_until 20 said all-2 usr1
is 'and both run on' "$("$C" list -q | sort | xargs)" 'all-1 all-2'
machine() # id: what its kernel calls itself since it began
{
	"$C" exec "$1" cat /proc/sys/kernel/random/boot_id
}
was="$(machine all-1) $(machine all-2)"
run_ok 'restart --all' "$C" restart --all
is 'prints the ids of those that ran' "$(sort <<<"$out" | xargs)" 'all-1 all-2'
is 'they run' "$("$C" list -q | sort | xargs)" 'all-1 all-2'
read -r was1 was2 <<<"$was"
read -r now1 now2 <<<"$(machine all-1) $(machine all-2)"
ok 'in machines that are new' [ -n "$now1" -a -n "$now2" -a "$now1" != "$was1" -a "$now2" != "$was2" ]
for i in 1 2; do
	ok 'it is ready' wait_until 20 said all-$i up
done
run_ok 'stop --all' "$C" stop --all
like 'prints the ids' "$(sort <<<"$out" | xargs)" '(^| )all-1 all-2$'
is 'nothing runs' "$("$C" list -q)" ''
is 'they ended by themselves' "$(ended all-1) $(ended all-2)" 'stopped 6 stopped 6'
is 'what was stopped is as it was' "$(ended all-0)" 'stopped null'
run_ok 'kill --all with nothing to kill' "$C" kill --all
is 'is silent' "$out" ''
run_ok 'delete' "$C" delete all-0 all-1 all-2

run_ok 'create' "$C" create --name att demo sh -c 'cat; exit 9'
run_stdin "$C" start -ai att < <(echo fed)
is 'start -ai' "$rc:$out" '9:fed'
run_ok 'a generated id' "$C" create demo true
like 'is a UUID' "$out" '^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$'
run_ok 'rm of two' "$C" rm "$out" att

# -d --rm goes away by itself.
run_ok 'run -d --rm' "$C" run -d --rm --name brief demo true
ok 'and it is gone afterwards' wait_until 20 gone brief

# The machine dies under a container.
run_ok 'run -d' "$C" run -d --name crash demo sleep 600
pid=$(service_pid container.runtime.crash)
like 'its helper is listed' "$pid" '^[0-9]+$'
kill -KILL "$pid"
ok 'a killed helper: the container is stopped' wait_until 20 in_state crash stopped
run_ok 'and can start again' "$C" start crash
run_ok 'run -d --stop-signal' "$C" run -d --name polite --stop-signal USR1 -m 200m -c 1 --network none demo \
	sh -c 'trap "exit 9" TERM; trap "echo bye; exit 3" USR1; echo up; while :; do sleep 0.2; done'
ok 'it is ready' wait_until 20 said polite up
run_ok 'system stop with two containers running' "$C" system stop
run_ok 'system start' "$C" system start
is 'it is stopped, not lost' "$("$C" inspect crash | jq -r '.[0].id + ":" + .[0].status.state')" crash:stopped
is 'one with a stop signal of its own got that one, and time to end' "$(ended polite)" 'stopped 3'
ok 'and said its last word' said polite bye
run_ok 'delete' "$C" delete crash polite
stop_system
done_testing
