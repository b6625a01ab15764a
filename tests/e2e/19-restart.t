#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Restart policies do what they say: how often, after which end, after a stop, and after the host or the services have restarted (R).
. "$(dirname "$0")/../lib/system.sh"
. "$TOP/tests/lib/leaks.sh"
ready_system
T_LIMIT=120

box() # name policy script: a small one
{
	run_ok "run --restart $2" "$C" run -d --name "$1" -m 200m -c 1 --network none --restart "$2" demo sh -c "$3"
}
status() # id
{
	"$C" inspect "$1" | jq -r '.[0].status | "\(.state) \(.exitCode) \(.restartCount)"'
}
is_status() # id want
{
	[ "$(status "$1")" = "$2" ]
}
starts() # id: how often its process began, by its log
{
	"$C" logs "$1" | grep -c '^up$'
}
restarted() # id n: at least
{
	[ "$("$C" inspect "$1" | jq '.[0].status.restartCount')" -ge "$2" ]
}

# By how it ends.
box twice on-failure:2 'echo up; exit 4'
box well on-failure 'echo up; exit 0'
box never no 'echo up; exit 4'
box often on-failure 'echo up; exit 4'
box unless unless-stopped 'echo up; exit 0'
box always always 'echo up; exit 0'
ok 'on-failure:2 gives up after two' wait_until 120 is_status twice 'stopped 4 2'
ok 'always also after success' wait_until 120 restarted always 2
ok 'on-failure without a number goes on' wait_until 240 restarted often 3
ok 'unless-stopped also after success' wait_until 120 restarted unless 2
ok 'on-failure ends' wait_until 120 is_status well 'stopped 0 null'
ok 'no ends' wait_until 120 is_status never 'stopped 4 null'
is 'on-failure:2: three starts in all, and none of them is cut off the log' "$(starts twice)" 3
is 'on-failure: success is an end' "$(status well) $(starts well)" 'stopped 0 null 1'
is 'no: a failure is one too' "$(status never) $(starts never)" 'stopped 4 null 1'
run_ok 'stop of one between two starts, or in one' "$C" stop -t 0 always
n=$(starts always)
run_ok 'meanwhile another runs' "$C" run --rm -m 200m --network none demo true
is 'what is stopped stays so' "$("$C" inspect always | jq -r '.[0].status.state') $(starts always)" "stopped $n"
run_ok 'delete of one that would start again' "$C" delete -f twice well never always often unless
ok 'is for good' wait_until 40 quiet 0

# The machine is lost under them: SIGKILL of the helper. That is no end of theirs, and no wish of their user.
for p in always on-failure; do
	box "lost-$p" $p 'echo up; exec sleep 1000'
	pid=$(service_pid "container.runtime.lost-$p")
	like 'its helper is there' "$pid" '^[0-9]+$'
	kill -KILL "$pid"
	again() # another helper: until its end is noticed, the one that was killed runs
	{
		[ "$(service_pid "container.runtime.lost-$p")" != "$pid" ] && [[ $(status "lost-$p") = 'running '* ]]
	}
	ok "R: $p: a lost machine is followed by another" wait_until 120 again
	is "R: $p: which is one restart" "$("$C" inspect "lost-$p" | jq -r '.[0].status | "\(.state) \(.restartCount)"')" 'running 1'
	run_ok 'and is well' "$C" exec "lost-$p" true
done
run_ok 'delete of both' "$C" delete -f lost-always lost-on-failure

# By whom: six that run on, two of them stopped by their user.
for b in 'u-ran unless-stopped' 'u-stopped unless-stopped' 'a-ran always' 'a-stopped always' 'f-ran on-failure' 'n-ran no'; do
	box $b 'echo up; exec sleep 1000'
done
run_ok 'one is to go when it ends' "$C" run -d --rm --name rm-ran -m 200m -c 1 --network none demo sleep 1000
run_ok 'one never ran' "$C" create --name a-new --restart always --network none demo true
run_ok 'two are stopped' "$C" stop -t 0 u-stopped a-stopped
state()
{
	"$C" list -a --format json | jq -r 'map("\(.id)=\(.status.state)") | sort | join(" ")'
}
host_restarts
run_ok 'R: the system starts after a restart of the host' "$C" system start
want='a-new=stopped a-ran=running a-stopped=running f-ran=running n-ran=stopped u-ran=running u-stopped=stopped'
settled()
{
	[ "$(state)" = "$want" ]
}
wait_until 120 settled # of rm-ran nothing is left: nobody was there when it ended
is 'always, unless-stopped and on-failure run again, but what its user stopped, unless it is always' "$(state)" "$want"
run_ok 'they are well' "$C" exec u-ran true
run_ok 'what was stopped starts by hand' "$C" start u-stopped
run_ok 'delete of most' "$C" delete -f a-ran a-stopped a-new f-ran n-ran

# The services alone. The last started is told first; the next when that has ended, or a moment later, as u-ran does not listen.
run_ok 'u-stopped is stopped again' "$C" stop -t 0 u-stopped
for b in late later; do
	box $b no 'trap "exit 0" TERM; while :; do sleep 0.1; done'
done
run_ok 'an older one is started anew' "$C" restart -t 0 u-ran
since=$(date +%s.%N)
run_ok 'system stop' "$C" system stop
run_ok 'system start' "$C" system start
is 'system stop: in the order of their starts, backwards' \
	"$("$C" events --since "$since" --until "$(date +%s.%N)" -f event=kill --format '{{.ID}}' | tr '\n' ' ')" 'u-ran later late '
want='late=stopped later=stopped u-ran=running u-stopped=stopped'
wait_until 120 settled
is 'system stop is no stop by the user' "$(state)" "$want"
run_ok 'update --restart' "$C" update --restart always u-stopped
kill -KILL "$(service_pid container.apiserver)"
run_ok 'system start' "$C" system start
want='late=stopped later=stopped u-ran=running u-stopped=running'
wait_until 120 settled
is 'another policy counts from then on' "$(state)" "$want"
run_ok 'all are deleted' "$C" delete --force --all
ok 'R: nothing is held any more' wait_until 40 quiet 0
ok 'R: no directory, mount or cgroup either' wait_until 20 none_held || diag "$(cat "$T/still-held")"
stop_system
done_testing
