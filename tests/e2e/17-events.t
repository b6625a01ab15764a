#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# events and health checks.
. "$(dirname "$0")/../lib/system.sh"
ready_system

timeout 600 "$C" events --format json >"$T/events" 2>"$T/events.err" &
watcher=$!
watched()
{
	"$C" image tag demo seen:1 && [ -s "$T/events" ]
}
ok 'a watcher' wait_until 20 watched
# Health: the file says how it is.
run_rc 1 'a check needs a command' "$C" create --health-interval 1s demo true
run_rc 1 'an interval that is none' "$C" create --health-cmd true --health-interval soon demo true
run_rc 1 'not both' "$C" create --no-healthcheck --health-cmd true demo true
run_ok 'run' "$C" run -d --name well -l team=a --health-cmd 'echo checked; test -e /well' --health-interval 1s --health-retries 2 \
	--health-timeout 20s demo sh -c 'sleep 1000'
like 'it has a health from the start' "$("$C" inspect well | jq -r '.[0].status.health.status')" '^(starting|unhealthy)$'
is 'its configuration' "$("$C" inspect well | jq -c '.[0].configuration.healthcheck')" \
	'{"interval":1000000000,"retries":2,"test":["CMD-SHELL","echo checked; test -e /well"],"timeout":20000000000}'
is_now() # health
{
	[ "$("$C" inspect well | jq -r '.[0].status.health.status')" = "$1" ]
}
ok 'it is starting, then unhealthy' wait_until 30 is_now unhealthy
run_ok 'inspect' "$C" inspect well
is 'what it said' "$(jq -r '.[0].status.health.log[0] | "\(.exitCode) \(.output)"' <<<"$out")" '1 checked'
ok 'how often it failed' jq -e '.[0].status.health.failingStreak >= 2' <<<"$out"
like 'when' "$(jq -r '.[0].status.health.log[0].start' <<<"$out")" '^20[0-9-]+T[0-9:.]+Z$'
like 'list has it' "$("$C" list)" 'running \(unhealthy\)'
is 'a template too' "$("$C" list --format '{{.Health}}')" unhealthy
like 'with the status' "$("$C" list --format '{{.Status}}')" '^Up .*\(unhealthy\)$'
is 'filter' "$("$C" list -q --filter health=unhealthy)" well
is 'filter: others' "$("$C" list -q --filter health=healthy)" ''
run_ok 'make it well' "$C" exec well touch /well
ok 'healthy' wait_until 30 is_now healthy
is 'no failures' "$("$C" inspect well | jq -r '.[0].status.health.failingStreak')" 0
ok 'five results are kept' wait_until 30 bash -c '[ "$("$1" inspect well | jq ".[0].status.health.log | length")" = 5 ]' - "$C"

# How often, and how long: each check leaves the time it was made at, and with /hang it begins what does not end, also in a process group of
# its own. What comes of it is looked at further down, when time has passed.
run_ok 'run' "$C" run -d --init --name pulse -m 200m -c 1 --network none --health-start-period 4s --health-start-interval 200ms --health-interval 2s \
	--health-retries 1 --health-timeout 4s \
	--health-cmd 'cut -d" " -f1 /proc/uptime >>/beats; [ ! -e /hang ] || { sh -mc "sleep 1233 & sleep 1234"; }; test -e /fine' demo sleep 1000

# One that is paused is not asked.
run_ok 'pause' "$C" pause well
sleep 2.5
is 'it is what it was' "$("$C" inspect well | jq -r '.[0].status.health.failingStreak')" 0
run_ok 'unpause' "$C" unpause well
run_rc 3 'exec' "$C" exec well sh -c 'rm /well; exit 3'
ok 'unhealthy again' wait_until 30 is_now unhealthy

# The next apiserver knows.
kill -KILL "$(service_pid container.apiserver)"
rc=0
wait $watcher || rc=$?
is 'the watcher is told' "$rc:$(grep -c 'connection' "$T/events.err")" 1:1
cp "$T/events" "$T/events.1"
ok 'json: an object a line' jq -se 'length > 10 and all(.type and .action and .actor.id and (.timeNano > 1e18))' "$T/events.1"
is 'events of the container' "$(jq -r 'select(.actor.id == "well") | .action' "$T/events.1" | grep -v '^exec\|: starting')" \
	$'create\nstart\nhealth_status: unhealthy\nhealth_status: healthy\npause\nunpause\nhealth_status: unhealthy'
is 'exec' "$(jq -r 'select(.action == "exec_start" and (.actor.attributes.execCommand | startswith("sh"))) | .actor.attributes.execCommand' "$T/events.1")" 'sh -c rm /well; exit 3'
ok 'its end' jq -se 'any(.[]; .action == "exec_die" and .actor.attributes.exitCode == "3")' "$T/events.1"
is 'attributes' "$(jq -r 'select(.action == "start" and .actor.id == "well") | .actor.attributes | "\(.image) \(.name) \(.team)"' "$T/events.1")" 'docker.io/library/demo:latest well a'
ok 'of the network' jq -se 'any(.[]; .type == "network" and .action == "connect" and .actor.attributes.container == "well")' "$T/events.1"
run_ok 'system start' "$C" system start
ok 'the state is there at once' is_now unhealthy
run_ok 'what happened before' "$C" events --since 10m --until "$(date +%s.%N)" -f container=well --format json
is 'is what the watcher saw' "$(jq -cS . <<<"$out")" \
	"$(jq -cS 'select(.actor.id == "well" or .actor.attributes.container == "well")' "$T/events.1")"
run_ok 'make it well' "$C" exec well touch /well
ok 'and goes on' wait_until 30 is_now healthy

# The beats of the other one: quick ones in its start period, of which its first check is a part, and slow ones behind it.
beats() # those that are too quick; quick, slow
{
	"$C" exec pulse cat /beats | awk '
		NR == 1 { first = $1 }
		NR > 1 { gap = $1 - last; early = last < first + 4; bad += gap < (early ? 0.19 : 1.9); quick += early && gap < 1.9; slow += !early }
		{ last = $1 }
		END { print bad + 0, quick + 0, slow + 0 }'
}
beaten()
{
	read -r bad quick slow < <(beats) && [ "$slow" -ge 1 ]
}
ok 'the start period of the other one is over' wait_until 30 beaten
ok "--health-start-interval, then --health-interval ($quick and $slow)" [ "$bad" = 0 -a "$quick" -ge 2 -a "$quick" -le 21 ]
ok 'then a failure counts' jq -e '.[0].status.health | .status == "unhealthy" and .failingStreak >= 1' <<<"$("$C" inspect pulse)"
run_ok 'make it well' "$C" exec pulse touch /fine
pulse_is() # health
{
	[ "$("$C" inspect pulse | jq -r '.[0].status.health.status')" = "$1" ]
}
ok 'healthy' wait_until 30 pulse_is healthy
run_ok 'its next check hangs' "$C" exec pulse touch /hang

# Images, ends, names, history.
run_ok 'tag' "$C" image tag demo other:1
run_ok 'delete an image' "$C" image delete other:1
run_ok 'stop' "$C" stop -t 0 well
is 'one that is stopped has no health' "$("$C" inspect well | jq -r '.[0].status.health')" null
run_ok 'rename' "$C" rename well fine
run_ok 'delete' "$C" delete fine
now=$(date +%s.%N)
run_ok 'events --since --until' "$C" events --since 10m --until "$now"
like 'text' "$out" '20[0-9-]+T[0-9:.]+Z image tag docker.io/library/other:1 \(name=docker.io/library/other:1\)'
like 'image delete' "$out" 'image delete docker.io/library/other:1'
like 'the end' "$out" 'container kill well .*container die well \(exitCode=[0-9]+, image=docker.io/library/demo:latest, name=well, team=a\).*container stop well'
like 'rename, destroy' "$out" 'container rename fine \([^)]*oldName=well[^)]*\).*container destroy fine'
is '--filter' "$("$C" events --since 10m --until "$now" -f event=rename -f event=destroy -f container=fine --format '{{.Action}} {{.ID}} {{.Actor.Attributes.team}}')" $'rename fine a\ndestroy fine a'
is '--filter label' "$("$C" events --since 10m --until "$now" -f label=team=b)" ''
run_ok '--until in the future ends' "$C" events --until "$(($(date +%s) + 2))"

# The check that hung: it failed, and nothing is left of it.
ok 'a check that takes too long is a failure' wait_until 30 pulse_is unhealthy
run_ok 'the next one is not to hang' "$C" exec pulse rm /hang
is 'which is told' "$("$C" inspect pulse | jq -c '[.[0].status.health.log[] | select(.exitCode == -1) | .output] | unique')" '["Health check exceeded timeout (4.000 s)"]'
ok 'and the next one succeeds' wait_until 30 pulse_is healthy
is 'it was killed, and its children with it' "$("$C" exec pulse ps | grep -c '[s]leep 123')" 0
is 'for who looks from outside too' "$("$C" top pulse | grep -c 'sleep 123\|\[sleep\]')" 0
like 'who sees the others' "$("$C" top pulse)" 'sleep 1000'
# On a host that is very busy a check may take too long by itself.
like 'each change was an event' "$("$C" events --since 10m --until "$(date +%s.%N)" -f container=pulse --format '{{.Action}}' | sed -n 's/health_status: //p' | grep -v starting | xargs)" \
	'^unhealthy healthy( unhealthy healthy)+$'
run_rc 1 'an unknown filter' "$C" events -f color=blue
run_rc 1 'an unknown field' "$C" events --format '{{.Color}}'
run_rc 64 'an unknown format' "$C" events --format xml
stop_system
done_testing
