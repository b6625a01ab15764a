#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# docker's habits: ids by prefix, restart, wait, rename, attach, pause, top, port, filters, templates, exit codes 126 and 127.
. "$(dirname "$0")/../lib/system.sh"
ready_system

run_rc 1 '--pull never of an image that is not here' "$C" run --rm --pull never nothing-here true
run_rc 64 '--pull takes three words' "$C" run --pull sometimes demo true

# One container for the rest.
run_ok 'run -d -i' "$C" run -d -i --name more-web -l team=a -c 2 -m 256m --pull never --stop-signal USR1 --stop-timeout 20 demo sh -c '
	trap "echo usr1; exit 7" USR1; echo ready; while read -r x; do echo "got $x"; [ "$x" != end ] || exit 3; done'
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
is 'filter: before' "$("$C" list -aq --filter before=more-db)" more-web
is 'filter: since' "$("$C" list -aq --filter since=more-web)" more-db
run_rc 1 'filter: before nobody' "$C" list -a --filter before=nobody
is 'filter: network' "$("$C" list -aq --filter network=default | wc -l)" 2
is 'filter: health' "$("$C" list -aq --filter health=none | wc -l)" 2
is 'list -n 1' "$("$C" list -qn 1)" more-db
is 'list -l' "$("$C" list -ql)" more-db
is 'list --no-trunc' "$("$C" list -q --no-trunc)" more-web
like 'list -s' "$("$C" list -as | tail -1)" '[0-9.]+[kMG]B *$'
like 'status as docker says it' "$("$C" list -a --format '{{.ID}} {{.Status}}' | tr '\n' ,)" '^more-web Up [A-Z0-9][a-z0-9 ]+,more-db Created,$'
is 'one label' "$("$C" list --format '{{.Label "team"}}')" a
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
like 'header' "$out" '^Container ID +Cpu % +Memory Usage +Net Rx/Tx +Block I/O +Pids +Host Memory'
like 'row' "$out" 'more-web +[0-9.]+% +[0-9.]+ [KM]iB / 256\.00 MiB .* [0-9.]+ MiB$'
like 'a template' "$("$C" stats --no-stream --format '{{.ID}}|{{.CPUPerc}}|{{.MemPerc}}|{{.PIDs}}|{{.MemHost}}')" '^more-web\|[0-9.]+%\|[0-9.]+%\|[0-9]+\|[0-9.]+ MiB$'
run_rc 1 'an unknown field' "$C" stats --no-stream --format '{{.Color}}'
like '--all has those that do not run' "$("$C" stats -a --no-stream)" 'more-db +-- +-- / --'
"$C" stats --format '{{.ID}} {{.CPUPerc}}' >"$T/stats" &
stream=$!
rounds() # at least
{
	[ "$(grep -c '^more-web [0-9.]*%' "$T/stats")" -ge "$1" ]
}
ok 'a stream goes on' wait_until 20 rounds 3
kill -INT $stream
ok 'until it is interrupted' wait $stream
run_ok 'stats --format json' "$C" stats --format json more-web
is 'limit' "$(jq -r '.[0].memoryLimitBytes' <<<"$out")" 268435456
ok 'cpu time, processes' jq -e '.[0] | .cpuUsageUsec > 0 and .numProcesses >= 1 and .memoryUsageBytes > 0 and .blockReadBytes > 0 and .memoryHostBytes > 10000000' <<<"$out"

# The counters count what it does: headers, acknowledgements and the journal come on top, and not much of them.
counted() # key
{
	"$C" stats --no-stream --format json more-web | jq ".[0].$1"
}
rises() # name key least most cmd…: by how much, while the command runs
{
	local name=$1 key=$2 least=$3 most=$4 before by
	shift 4
	before=$(counted "$key")
	run "$@" || true
	by=$(($(counted "$key") - before))
	ok "$name: $by" [ "$rc" = 0 -a "$by" -ge "$least" -a "$by" -le "$most" ] || t_said
}
MiB=1048576
rises '16 MiB are written' blockWriteBytes $((16 * MiB)) $((18 * MiB)) "$C" exec more-web dd if=/dev/zero of=/root/zero bs=1M count=16 conv=fsync
rises 'and read' blockReadBytes $((16 * MiB)) $((18 * MiB)) "$C" exec more-web dd if=/root/zero of=/dev/null bs=1M iflag=direct
rises 'what is in memory is not read from the disk' blockReadBytes 0 $MiB "$C" exec more-web head -c $((16 * MiB)) /dev/zero
gateway=$("$C" inspect more-web | jq -r '.[0].status.networks[0].ipv4Gateway')
free_port
socat -u "TCP-LISTEN:$T_PORT,bind=$gateway,reuseaddr" "OPEN:$T/sent,creat" &
ok 'somebody listens' wait_until 20 bash -c 'ss -ltnH "sport = :$1" | grep -q .' - "$T_PORT"
rises '4 MiB are sent' networkTxBytes $((4 * MiB)) $((5 * MiB)) "$C" exec more-web sh -c "head -c $((4 * MiB)) /dev/zero | nc $gateway $T_PORT"
is 'and arrive' "$(stat -c %s "$T/sent")" $((4 * MiB))
free_port
socat -u "OPEN:$T/sent" "TCP-LISTEN:$T_PORT,bind=$gateway,reuseaddr" &
ok 'somebody talks' wait_until 20 bash -c 'ss -ltnH "sport = :$1" | grep -q .' - "$T_PORT"
rises '4 MiB are received' networkRxBytes $((4 * MiB)) $((5 * MiB)) "$C" exec more-web sh -c "nc $gateway $T_PORT </dev/null | wc -c"
is 'all of it' "$out" $((4 * MiB))
rises 'lo is no network' networkRxBytes 0 100000 "$C" exec more-web ping -c 2 -i 0.1 -s 60000 127.0.0.1
processes() # count
{
	[ "$(counted numProcesses)" = "$1" ]
}
before=$(counted numProcesses)
run_ok 'a shell with three processes' "$C" exec -d more-web sh -c 'for i in 1 2 3; do sleep 1000 & done; wait'
ok 'are four more' wait_until 20 processes $((before + 4))
is 'which top has as well' "$("$C" top more-web | sed 1d | wc -l)" "$(counted numProcesses)"
run_ok 'the three end, and the shell with them' "$C" exec more-web killall sleep
ok 'are four less' wait_until 20 processes "$before"

# Other limits for what runs, within its machine.
run_ok 'update' "$C" update --cpus 1 -m 210m --pids-limit 50 --cpu-shares 512 --memory-reservation 64m --restart on-failure:2 more-web
is 'prints the id' "$out" more-web
run_ok 'inside' "$C" exec more-web sh -c 'cd /sys/fs/cgroup; cat memory.max cpu.max pids.max memory.low cpu.weight'
is 'are the new ones' "$(tr '\n' ' ' <<<"$out")" '220200960 100000 100000 50 67108864 20 '
# Two loops for three seconds on its two CPUs: what they got of one, in percent, by the guest's own clock.
load=$("$C" exec more-web sh -c '
	used() { sed -n "s/^usage_usec //p" /sys/fs/cgroup/cpu.stat; }
	now() { sed "s/\([0-9]*\)[.]\([0-9]*\) .*/\1\2/" /proc/uptime; }
	u=$(used); t=$(now)
	for i in 1 2; do timeout 3 sh -c "while :; do :; done" & done; wait
	echo $((($(used) - u) / 100 / ($(now) - t))) $(grep -c ^processor /proc/cpuinfo) $(sed -n "s/^nr_throttled //p" /sys/fs/cgroup/cpu.stat)')
read -r percent cpus throttled <<<"$load"
ok "a limit of one CPU is kept ($percent % of $cpus, held back $throttled times)" [ "${percent:-999}" -le 120 -a "${percent:-0}" -ge 40 -a "${cpus:-0}" -ge 2 -a "${throttled:-0}" -ge 5 ]
is 'in the configuration' "$("$C" inspect more-web | jq -c '.[0].configuration | [.resources.memoryInBytes, .resources.pids, .restartPolicy.name, .restartPolicy.maximumRetryCount]')" '[220200960,50,"on-failure",2]'
is 'in stats' "$("$C" stats --format json more-web | jq '.[0].memoryLimitBytes')" 220200960
run_rc 1 'not more than the machine has' "$C" update -m 1g more-web
like 'says so' "$err" 'started with a memory of 268435456: stop'
is 'and nothing changed' "$("$C" inspect more-web | jq '.[0].configuration.resources.memoryInBytes')" 220200960
run_ok 'no limit' "$C" update --pids-limit -1 --restart no more-web
is 'there is none' "$("$C" exec more-web cat /sys/fs/cgroup/pids.max)" max
run_ok 'of one that does not run' "$C" update -m 300m --restart always more-db
is 'its configuration' "$("$C" inspect more-db | jq -c '.[0].configuration | [.resources.memoryInBytes, .restartPolicy.name]')" '[314572800,"always"]'
run_ok 'and back' "$C" update --restart no more-db
run_rc 64 'update of nothing' "$C" update more-db
run_rc 1 'a value that is none' "$C" update --cpus many more-db
run_rc 1 'of nobody' "$C" update --cpus 1 nobody

# Boot log: all of the kernel's words, not only the urgent ones.
ok 'logs --boot is complete' wait_until 20 bash -c '"$1" logs --boot more-web | grep -q "Linux version"' - "$C"
like 'as dmesg prints it' "$("$C" logs --boot more-web | grep 'Linux version')" '^\[ +[0-9]+\.[0-9]{6}\] Linux version'

# Attach: what is typed reaches the process, which outlives the client.
(echo one; sleep 2) | timeout 200 "$C" attach more-web >"$T/attach" 2>&1 &
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
