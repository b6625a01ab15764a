#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The services: start, status, version, logs, restart of helpers, two systems side by side, a stranger on the socket, stop.
. "$(dirname "$0")/../lib/system.sh"

run_ok 'system start' "$C" system start
run_ok 'system start again is fine' "$C" system start
run_ok 'system status (TestCLIStatus: defaultDisplaysTable)' "$C" system status
for w in status appRoot installRoot logRoot apiserver.version apiserver.commit apiserver.build apiserver.appName engine kernel; do
	like "status shows $w" "$out" "$w"
done
like 'status says running' "$out" 'running'
like 'the app root is ours' "$out" "$CONTAINER_APP_ROOT"
like 'the engine is the one asked for' "$out" "$CONTAINER_ENGINE"
for s in container.apiserver container.images container.network.default; do
	like "status lists $s" "$out" "$s"
done
is 'explicitTableFormat' "$("$C" system status --format table | awk '{ print $1 }')" "$(awk '{ print $1 }' <<<"$out")"
run_ok 'system status --format json (TestCLIStatus: jsonFormat, jsonOutputValidStructure)' "$C" system status --format json
is 'status in JSON' "$(jq -r .status <<<"$out")" running
is 'appRoot in JSON' "$(jq -r .appRoot <<<"$out")" "$CONTAINER_APP_ROOT"
like 'each service has a pid' "$(jq -r '.services[].pid' <<<"$out" | tr '\n' ' ')" '^[0-9]+ [0-9]+ [0-9]+ $'
for p in $(jq -r '.services[].pid' <<<"$out"); do
	ok "process $p runs" test -d "/proc/$p"
done
ok 'no_new_privs in each role' bash -c 'for p in '"$(jq -r '.services[].pid' <<<"$out" | tr '\n' ' ')"'; do
	grep -q "^NoNewPrivs:.1" /proc/$p/status || exit 1; done'

run_ok 'system version (TestCLIVersion: defaultDisplaysTable, explicitTableFormat)' "$C" system version --format table
is 'which is the default' "$("$C" system version)" "$out"
like 'a row for the CLI and one for the server' "$out" 'container .*container-apiserver|COMPONENT'
is 'two components (TestCLIVersion: jsonFormat)' "$("$C" system version --format json | jq length)" 2
like 'TestCLIVersion: yamlFormat' "$("$C" system version --format yaml)" $'^- appName: container\n'
is 'TestCLIVersion: buildTypeMatchesBinary' "$("$C" --version | sed -n 's/.*build: \([a-z]*\).*/\1/p')" "$("$C" system version --format json | jq -r '.[0].buildType')"
run_ok 'system logs' "$C" system logs
like 'logs have records' "$out" 'apiserver'
run_ok 'system logs --last 1h' "$C" system logs --last 1h
run "$C" system logs --last nonsense
ok 'a bad --last is refused' [ "$rc" != 0 ]
# A record of two hours ago, as the image helper would have written it.
echo '{"time":"'"$(date -u -d '2 hours ago' +%Y-%m-%dT%H:%M:%S.000000Z)"'","level":"info","service":"container.images","pid":7,"msg":"long ago"}' \
	>>"$CONTAINER_LOG_ROOT/container.images.log"
unlike 'it is not of the last hour' "$("$C" system logs --last 1h)" 'long ago'
like 'it is of the last three, and comes first' "$("$C" system logs --last 3h | head -1)" ' info +container\.images\[7\] long ago$'
unlike 'nor of the last minutes, which is what is shown unless told' "$("$C" system logs)" 'long ago'
like 'a number without a unit is seconds' "$("$C" system logs --last 10800)" 'long ago'
run_ok 'system logs of one service' "$C" system logs --last 3h container.images
is 'has only that' "$(awk '{ sub(/\[.*/, "", $3); print $3 }' <<<"$out" | sort -u)" container.images
like 'without a name there are others' "$("$C" system logs --last 3h)" ' container\.apiserver\['
run_ok 'system logs of a service that is none' "$C" system logs --last 3h container.nothing
is 'has nothing' "$out" ''

# The configuration.
documented=$(cat "$TOP"/man/container-system-property-list.1 "$TOP"/man/container-registry.1)
for key in $("$C" system property list | sed 1d | awk '{ print $1 }'); do
	grep -qF -- "$key" <<<"$documented" || echo "$key"
done >"$T/undocumented"
is 'every key of the configuration is documented' "$(cat "$T/undocumented")" ''
ok 'of which there are some' [ "$("$C" system property list | sed 1d | wc -l)" -gt 10 ]
echo '{"container": {"memory": "333m"}, /* a comment */ "registry.domain": "example.com"}' >"$CONTAINER_CONFIG"
is 'a configuration has an effect' "$("$C" system property list --format json | jq -r '.container.memory + " " + .registry.domain')" '333m example.com'
echo '{}' >"$CONTAINER_CONFIG"
is 'a configuration that is gone has no effect' "$("$C" system property list --format json | jq -r '.container.memory + " " + .registry.domain')" '1g docker.io'

run_ok 'list is empty' "$C" list
like 'list has its header' "$out" '^ID +IMAGE +OS +ARCH +STATE +IP +CPUS +MEMORY +STARTED'
is 'list -q prints nothing' "$("$C" list -q)" ''
is 'list as JSON' "$("$C" list --format json)" '[]'

# A helper that dies comes back, and who follows the logs sees it.
"$C" system logs -f >"$T/followed" 2>&1 &
follower=$!
ok 'system logs -f begins with what there is' wait_until 20 grep -q 'long ago' "$T/followed"
for label in container.images container.network.default; do
	old=$(service_pid "$label")
	kill -KILL "$old"
	restarted()
	{
		local p
		p=$(service_pid "$label")
		[ -n "$p" ] && [ "$p" != null ] && [ "$p" != 0 ] && [ "$p" != "$old" ] && [ -d "/proc/$p" ]
	}
	ok "$label comes back after SIGKILL" wait_until 20 restarted
	ok 'system logs -f says so' wait_until 20 grep -q " container\.apiserver\[[0-9]*\] $label started, pid $(service_pid "$label")\$" "$T/followed"
done
ok 'and goes on' kill -0 $follower
is 'no record comes twice' "$(sort "$T/followed" | uniq -d)" ''
kill $follower
ok 'images answer again' wait_until 10 "$C" image list

# Garbage on the socket costs the stranger his connection and nobody else anything.
api=$(service_pid container.apiserver)
sock=$CONTAINER_RUN_ROOT/apiserver.sock
ok 'the socket is there' test -S "$sock"
is 'only its owner may connect' "$(stat -c %a "$sock")" 600
head -c 65536 /dev/urandom | timeout 5 socat -u - "UNIX-CONNECT:$sock" 2>/dev/null
printf 'GET / HTTP/1.1\r\n\r\n' | timeout 5 socat - "UNIX-CONNECT:$sock" >/dev/null 2>&1
printf '\377\377\377\377' | timeout 5 socat - "UNIX-CONNECT:$sock" >/dev/null 2>&1
printf '\000\000\000\002{' | timeout 5 socat - "UNIX-CONNECT:$sock" >/dev/null 2>&1
printf '\000\000\000\000' | timeout 5 socat - "UNIX-CONNECT:$sock" >/dev/null 2>&1
for _ in 1 2 3 4 5 6 7 8; do
	(head -c 3 /dev/urandom; sleep 1) | timeout 3 socat -u - "UNIX-CONNECT:$sock" 2>/dev/null &
done
run_ok 'the apiserver answers after garbage' "$C" list
is 'and is the same process' "$(service_pid container.apiserver)" "$api"
if command -v setpriv >/dev/null; then
	chmod 755 "$T" "$T/s" "$CONTAINER_RUN_ROOT" && chmod 666 "$sock"
	run setpriv --reuid 65534 --regid 65534 --clear-groups "$C" list
	ok "another user's connection is refused by its credentials" [ "$rc" != 0 ]
	chmod 600 "$sock"
fi

# Two systems share nothing.
one=$T/s two=$T/s2
use_roots "$two"
run_ok 'a second system starts' "$C" system start
is 'and has its own root' "$("$C" system status --format json | jq -r .appRoot)" "$two/app"
is 'and its own apiserver' "$([ "$(service_pid container.apiserver)" != "$api" ] && echo yes)" yes
run_ok 'it stops' "$C" system stop
use_roots "$one"
run_ok 'the first goes on' "$C" list

pids=$("$C" system status --format json | jq -r '.services[].pid')
run_ok 'system stop' "$C" system stop
all_gone()
{
	local p
	for p in $pids; do
		[ ! -d "/proc/$p" ] || return 1
	done
}
ok 'no service is left' wait_until 10 all_gone
run_rc 1 'status afterwards' "$C" system status
run "$C" system stop
ok 'stopping what is stopped ends quickly' [ "$rc" -lt 124 ]

# In the foreground, by hand.
"$C" apiserver start >"$T/fg.log" 2>&1 &
fg=$!
ok 'container apiserver start serves in the foreground' wait_until 20 "$C" list
ok 'and is still that process' kill -0 $fg
kill -TERM $fg
ends()
{
	! kill -0 $fg 2>/dev/null
}
ok 'SIGTERM ends it' wait_until 20 ends

# By socket activation, as the units do it.
if command -v systemd-socket-activate >/dev/null; then
	use_roots "$T/activated"
	mkdir -p "$CONTAINER_RUN_ROOT"
	ln -s "$C" "$T/container-apiserver"
	timeout 60 systemd-socket-activate -l "$CONTAINER_RUN_ROOT/apiserver.sock" -E CONTAINER_APP_ROOT -E CONTAINER_RUN_ROOT \
		-E CONTAINER_LOG_ROOT -E CONTAINER_CONFIG "$T/container-apiserver" start >"$T/act.log" 2>&1 &
	ok 'systemd listens' wait_until 20 test -S "$CONTAINER_RUN_ROOT/apiserver.sock"
	run_ok 'the first call starts the apiserver' "$C" system status
	run_ok 'it stops' "$C" system stop
else
	skip 'socket activation' 'systemd-socket-activate is not here'
fi

# The units, as a package has them: installed below DESTDIR, moved to where they belong.
if ! command -v make >/dev/null; then
	skip 'the installed units' 'make is not here'
	done_testing
	exit
fi
mkdir "$T/b" && ln -s "$(readlink -f "$C")" "$T/b/container"
run_ok 'make install' env -u MAKEFLAGS -u MAKELEVEL make -s -C "$TOP" -o "$T/b/container" B="$T/b" DESTDIR="$T/dest" PREFIX="$T/inst" install
ok 'all of it is below DESTDIR' [ ! -e "$T/inst" -a -x "$T/dest$T/inst/bin/container" ]
mv "$T/dest$T/inst" "$T/inst"
units=$T/inst/lib/systemd/system
if command -v systemd-analyze >/dev/null && systemd-analyze verify --man=no sysinit.target >/dev/null 2>&1; then
	run_ok 'systemd-analyze verify' systemd-analyze verify --man=no "$units"/*
	is 'has nothing to say' "$out$err" ''
else
	skip 'systemd-analyze verify' 'it does not run here'
fi
ok 'the page they name is there' test -s "$T/inst/share/man/man1/$(sed -n 's/^Documentation=man:\(.*\)(1)$/\1/p' "$units/container-apiserver.service").1"
line() # key file: its value
{
	sed -n "s/^$1=//p" "$units/container-apiserver.$2"
}
is 'the service has its socket' "$(line Requires service)" container-apiserver.socket

# A host with them: the run root is the usual one, in a /run of our own.
mount -t tmpfs run /run
use_roots "$T/u"
export CONTAINER_RUN_ROOT
CONTAINER_RUN_ROOT=$(dirname "$(line ListenStream socket)")
C=$T/inst/bin/container
ready_system
run_ok 'one asks to be started' "$C" run -d --name asks -m 200m -c 1 --network none --restart always demo \
	sh -c 'trap "exit 0" TERM; echo up; while :; do sleep 0.2; done'
run_ok 'one does not' "$C" run -d --name not -m 200m -c 1 --network none demo sleep 1000
host_restarts
# As systemd does it: its socket listens before and stays, and is descriptor 3 of each start.
mkdir -p "$CONTAINER_RUN_ROOT"
mkfifo "$T/starts"
exec 6<>"$T/starts"
env -u CONTAINER_RUN_ROOT perl -MSocket -MPOSIX -e '
	$^F = 9;
	my ($s, $file, $path, @cmd) = (undef, @ARGV);
	socket($s, AF_UNIX, SOCK_STREAM, 0) && bind($s, sockaddr_un($path)) && listen($s, 64) && defined POSIX::dup2(fileno $s, 3) or die $!;
	for my $n (1, 2) {
		my $pid = fork;
		if (!$pid) {
			@ENV{qw(LISTEN_PID LISTEN_FDS)} = ($$, 1);
			exec @cmd or die $!;
		}
		waitpid $pid, 0;
		open my $f, ">", "$file.$n" or die $!;
		print $f $? >> 8, " ", $? & 127;
		close $f;
		<STDIN>;
	}' "$T/ended" "$(line ListenStream socket)" $(line ExecStart service) <&6 >"$T/unit.log" 2>&1 &
systemd=$!
parent() # pid
{
	awk '/^PPid/ { print $2 }' "/proc/$1/status"
}
ok 'ExecStart starts the system and what asks for it' wait_until 60 in_state asks running
unit=$(service_pid container.apiserver)
is 'the apiserver is the process that systemd knows' "$(parent "$unit")" $systemd
is 'and nothing else' "$("$C" list -q)" asks
run_ok 'the command finds it with no word on where' env -u CONTAINER_RUN_ROOT "$C" exec asks true
helper=$(service_pid container.runtime.asks)
like 'it has a helper' "$helper" '^[0-9]+$'
is 'to stop is SIGTERM to that process' "$(line ExecStop service)$(line KillMode service)" process
kill -TERM "$unit"
ok 'it ends' wait_until 60 test -s "$T/ended.1"
is 'without failure, after which Restart= does nothing' "$(cat "$T/ended.1") $(line Restart service)" '0 0 on-failure'
ok 'and no container is left behind' bash -c '! kill -0 "$1" 2>/dev/null' - "$helper"
ok 'the socket is still where it was' test -S "$(line ListenStream socket)"
echo >&6
ok 'the next start starts it again' wait_until 60 in_state asks running
starts() # count: by its log
{
	[ "$("$C" logs asks | grep -c '^up$')" = "$1" ]
}
ok 'for the third time' wait_until 20 starts 3
run_ok 'system stop' "$C" system stop
ok 'is an end' wait_until 60 test -s "$T/ended.2"
is 'without failure' "$(cat "$T/ended.2")" '0 0'
exec 6>&-
kill $systemd
done_testing
