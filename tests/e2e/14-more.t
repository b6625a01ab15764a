#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docker's habits: ids by prefix, restart, wait, rename, attach, pause, top, port, filters, templates, exit codes 126 and 127.
. "$(dirname "$0")/../lib/system.sh"
ready_system

run_rc 127 'run of a program that is not there' "$C" run --rm demo no-such-program
like 'names it' "$err" 'no-such-program'
run_rc 1 '--pull never of an image that is not here' "$C" run --rm --pull never nothing-here true
run_rc 64 '--pull takes three words' "$C" run --pull sometimes demo true

# One container for the rest.
run_ok 'run -d -i' "$C" run -d -i --name more-web -l team=a -m 256m --pull never --stop-signal USR1 --stop-timeout 20 demo sh -c '
	echo ready; trap "echo usr1; exit 7" USR1; while read -r x; do echo "got $x"; [ "$x" != end ] || exit 3; done'
is 'stop signal in the configuration' "$("$C" inspect more-web | jq -c '.[0].configuration | [.stopSignal, .stopTimeout]')" '["USR1",20]'
run_ok 'create another' "$C" create --name more-db demo true
run_ok 'exec by prefix' "$C" exec more-w echo hi
is 'it' "$out" hi
run_rc 1 'an ambiguous prefix' "$C" inspect more
like 'names them' "$err" 'ambiguous: more-(web|db), more-(web|db)'
run_rc 127 'exec of nothing' "$C" exec more-web no-such-program
run_rc 126 'exec of what is no program' "$C" exec more-web /etc/passwd

# Lists.
is 'filter: status' "$("$C" list -q --filter status=running)" more-web
is 'filter: stopped ones without -a' "$("$C" list -q --filter status=exited)" more-db
is 'filter: name' "$("$C" list -aq -f name=db)" more-db
is 'filter: two names' "$("$C" list -aq -f name=db -f name=web | sort | tr '\n' ' ')" 'more-db more-web '
is 'filter: label' "$("$C" list -aq --filter label=team=a)" more-web
is 'filter: ancestor' "$("$C" list -aq --filter ancestor=demo --filter status=running)" more-web
is 'filter: nothing fits' "$("$C" list -aq --filter label=team=b)" ''
run_rc 1 'an unknown filter' "$C" list --filter color=blue
is 'template' "$("$C" list --format '{{.ID}}\t{{.Image}} {{.State}}')" "more-web	docker.io/library/demo:latest running"
like 'template table' "$("$C" ps -a --format 'table {{.ID}}\t{{.Status}}')" '^ID +STATUS'
is 'template json' "$("$C" list --format '{{json .}}' | jq -r .id)" more-web
run_rc 1 'an unknown field' "$C" list --format '{{.Color}}'
run_rc 64 'an unknown format' "$C" list --format xml
run_ok 'port' "$C" port more-web
is 'none published' "$out" ''

# What runs inside, and how much of it.
run_ok 'top' "$C" top more-w
like 'the init process' "$out" $'\n1 +root +00:00:0[0-9] +sh -c'
run_ok 'stats --no-stream' "$C" stats --no-stream
like 'header' "$out" '^Container ID +Cpu % +Memory Usage +Net Rx/Tx +Block I/O +Pids'
like 'row' "$out" 'more-web +[0-9.]+% +[0-9.]+ [KM]iB / 256\.00 MiB'
run_ok 'stats --format json' "$C" stats --format json more-web
is 'limit' "$(jq -r '.[0].memoryLimitBytes' <<<"$out")" 268435456
ok 'cpu time, processes' jq -e '.[0] | .cpuUsageUsec > 0 and .numProcesses >= 1 and .memoryUsageBytes > 0 and .blockReadBytes > 0' <<<"$out"

# Boot log: all of the kernel's words, not only the urgent ones.
ok 'logs --boot is complete' wait_until 20 bash -c '"$1" logs --boot more-web | grep -q "Linux version"' - "$C"
like 'as dmesg prints it' "$("$C" logs --boot more-web | grep 'Linux version')" '^\[ +[0-9]+\.[0-9]{6}\] Linux version'

# Attach: what is typed reaches the process, which outlives the client.
(echo one; sleep 2) | timeout 30 "$C" attach more-web >"$T/attach" 2>&1 &
att=$!
ok 'attach: the answer' wait_until 15 grep -q 'got one' "$T/attach"
run_rc 1 'a second client' "$C" attach more-web
like 'is refused' "$err" 'another client'
kill -KILL $(pgrep -f "^$C attach more-web" 2>/dev/null) 2>/dev/null
wait $att 2>/dev/null
is 'it still runs' "$("$C" list -q)" more-web

# Pause.
run_ok 'pause' "$C" pause more-web
is 'shown' "$("$C" list --format '{{.State}}')" paused
run_rc 1 'exec in a paused container' "$C" exec more-web true
like 'says so' "$err" 'paused'
run_ok 'unpause' "$C" unpause more-web
run_ok 'and it lives' "$C" exec more-web true
run_rc 1 'unpause again' "$C" unpause more-web

# Restart, stop by its own signal, wait, rename.
run_ok 'restart' "$C" restart more-web
ok 'runs again' wait_until 15 bash -c '"$1" logs more-web | grep -q ready' - "$C"
"$C" list -a >&2
timeout "$T_LIMIT" "$C" wait more-web >"$T/wait" 2>&1 &
waiter=$!
run_rc 1 'rename of a running one' "$C" rename more-web better
run_ok 'stop' "$C" stop more-web
wait $waiter
is 'wait prints the exit code' "$(cat "$T/wait")" 7
is 'logs has the word of the handler' "$("$C" logs more-web | tail -1)" usr1
is 'wait for a stopped one' "$("$C" wait more-web)" 7
run_ok 'rename' "$C" rename more-web better
is 'it is' "$("$C" list -aq --filter id=bett)" better
run_rc 1 'not the old name' "$C" inspect more-web
run_ok 'prune' "$C" prune
is 'both' "$(sort <<<"$out" | tr '\n' ' ')" 'better more-db '
like 'and how much' "$err" 'Reclaimed [0-9.]+ [KMG]B in disk space'
run_ok 'prune again' "$C" prune
is 'nothing' "$err" 'Reclaimed Zero KB in disk space'

# Restart policies: the machine's end starts it again, a stop does not.
run_rc 64 'not with --rm' "$C" run --rm --restart always demo true
run_rc 1 'an unknown policy' "$C" create --restart never demo true
run_ok 'run --restart on-failure:1' "$C" run -d --name flaky -m 256m --restart on-failure:1 demo sh -c 'exit 4'
restarted()
{
	[ "$("$C" inspect flaky | jq -r '.[0].status | "\(.state) \(.restartCount) \(.exitCode)"')" = 'stopped 1 4' ]
}
ok 'once again, then no more' wait_until 40 restarted
run_ok 'delete' "$C" delete flaky
stop_system
done_testing
