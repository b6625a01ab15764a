#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Published ports: TCP, UDP, ranges, IPv6; whole and both ways; what is said when a port cannot be had; they outlive the helpers and end with the
# container. Without root: 16-passt.
. "$(dirname "$0")/../lib/system.sh"
for cmd in socat curl gcc; do
	command -v $cmd >/dev/null || skip_all "needs $cmd"
done
gcc -O2 -static -o "$T/udpecho" "$TOP/tests/lib/udpecho.c" || bail 'udpecho compiles'
ready_system

get() # url: what a web server there says
{
	curl -sS -m 60 --noproxy '*' "$1" 2>&1
}
echo_udp() # address port word
{
	timeout 60 bash -c 'exec 3<>"/dev/udp/$1/$2"; printf %s "$3" >&3; dd bs=2048 count=1 status=none <&3' - "$@"
}
listeners() # port: how many listen there
{
	ss -Hltn "sport = :$1" | wc -l
}
none_listens() # port
{
	[ "$(listeners "$1")" = 0 ]
}
forwarders()
{
	pgrep -f 'container-network-vmnet start --forward' | wc -l
}
no_forwarder()
{
	[ "$(forwarders)" = 0 ]
}

# What is refused before there is a container.
many=()
for i in $(seq 64); do many+=(-p "$((20000 + i)):$i"); done
run_ok 'testPublishPortParserMaxPorts' "$C" create --name many "${many[@]}" demo true
run_rc 1 'testPublishPortParserTooManyPorts' "$C" create --name toomany "${many[@]}" -p 30000:1 demo true
like 'says how many there may be' "$err" 'at most 64'
run_rc 1 'a port twice' "$C" create -p 8080:80 -p 127.0.0.1:8080:81 demo true
like 'names it' "$err" 'host port 127\.0\.0\.1:8080/tcp is published more than once'
run_rc 1 'ranges of different length' "$C" create -p 80-81:80 demo true
like 'shows it' "$err" "'80-81:80'"
is 'nothing was made of them' "$("$C" list -aq)" many
run_ok 'a published port with --network none' "$C" run --rm --network none -p 18080:80 demo ls /sys/class/net
unlike 'is nobody'"'"'s' "$out" eth

# An emulated machine's emulated machine takes minutes for what another does in a second.
bytes=$([ -n "${LAB:-}" ] && echo 4194304 || echo 67108864)
serve='mkdir -p /w; echo page >/w/index.html; httpd -p 80 -h /w
for p in $(seq 9000 9010); do mkdir -p /w$p; echo page $p >/w$p/index.html; httpd -p $p -h /w$p; done
[ -e /big ] || head -c '$bytes' /dev/urandom >/big
nc -ll -p 7000 -e md5sum &
nc -ll -p 7001 -e cat /big &
[ ! -x /udpecho ] || /udpecho 7002 &
echo ready; exec sleep 100000'
ready()
{
	"$C" logs web | grep -q ready # of this start: each has a log of its own
}
run_ok 'a container that publishes ports' "$C" run -d --name web -p 18080:80 -p 127.0.0.2:1:80/tcp -p 127.0.0.3:1:9000 -p 18081-18091:9000-9010 \
	-p '[::1]:18080:80' -p 127.0.0.1:17000-17001:7000-7001 -p 17002:7002/UDP -p '[::1]:17002:7002/udp' -p 16666:6666 -p 9010 demo sh -c "$serve"
ok 'serves' wait_until 60 ready
run_ok 'cp' "$C" cp "$T/udpecho" web:/udpecho
run_ok 'echo by UDP' "$C" exec -d web /udpecho 7002
is 'as inspect has them' "$("$C" inspect web | jq -c '.[0].configuration.publishedPorts | (.[0], .[3], .[7])' | paste -sd' ')" \
	'{"containerPort":80,"count":1,"hostAddress":"0.0.0.0","hostPort":18080,"proto":"tcp"} {"containerPort":9000,"count":11,"hostAddress":"0.0.0.0","hostPort":18081,"proto":"tcp"} {"containerPort":7002,"count":1,"hostAddress":"::1","hostPort":17002,"proto":"udp"}'
is 'port' "$("$C" port web 80 | paste -sd' ')" '0.0.0.0:18080 127.0.0.2:1 [::1]:18080'
is 'port: UDP' "$("$C" port web 7002/udp | paste -sd' ')" '0.0.0.0:17002 [::1]:17002'
like 'list' "$("$C" list --format '{{.Ports}}')" '^0\.0\.0\.0:18080->80/tcp, 127\.0\.0\.2:1->80/tcp, '
chosen=$("$C" port web 9010/tcp | grep -v :18091)
like 'a free port was chosen' "$chosen" '^0\.0\.0\.0:[0-9]{4,5}$'

is 'testForwardTCP' "$(get http://127.0.0.1:18080/)" page
all=
for p in $(seq 18081 18091); do all+="$(get http://127.0.0.1:$p/),"; done
is 'testForwardTCPPortRange' "$all" "$(printf 'page %d,' $(seq 9000 9010))"
is 'testForwardTCPv6' "$(get 'http://[::1]:18080/')" page
is 'port 1 of two addresses' "$(get http://127.0.0.2:1/) $(get http://127.0.0.3:1/)" 'page page 9000'
like 'and of no other' "$(get http://127.0.0.1:1/)" 'connect to server'
is 'the port that was chosen' "$(get "http://127.0.0.1:${chosen##*:}/")" 'page 9010'
like 'nobody listens inside' "$(get http://127.0.0.1:16666/)" 'reset by peer|connect to server'
gw=$("$C" inspect web | jq -r '.[0].status.networks[0].ipv4Gateway')
is 'UDP, from the gateway' "$(echo_udp 127.0.0.1 17002 four)" "four from $gw"
is 'another client' "$(echo_udp 127.0.0.1 17002 again)" "again from $gw"
is 'at another address, which answers' "$(echo_udp 127.0.0.9 17002 nine)" "nine from $gw"
is 'UDP by IPv6' "$(echo_udp ::1 17002 six)" "six from $gw"
# The end of what is sent goes on as an end: the checksum comes after it.
head -c $bytes /dev/urandom >"$T/up"
is '64 MiB in, 4 in the lab' "$(timeout 100 socat -t 90 - TCP4:127.0.0.1:17000 <"$T/up")" "$(md5sum <"$T/up")"
is 'and out' "$(timeout 100 socat -u TCP4:127.0.0.1:17001 - | md5sum)" "$("$C" exec web md5sum /big | sed 's,/big,-,')"

# Who does it has nothing but its sockets.
f=$(pgrep -f 'container-network-vmnet start --forward')
is 'one forwarder' "$(wc -w <<<"$f")" 1
state=$(cat "/proc/$f/status")
like 'has a user id of its own' "$state" $'Uid:\t18790'
is 'has no rights' "$(grep '^Cap' <<<"$state" | grep -vc '	0000000000000000$')" 0
like 'gets none' "$state" $'NoNewPrivs:\t1'
like 'few system calls' "$state" $'Seccomp:\t2'
is 'no file' "$(find "/proc/$f/root/" -mindepth 1 | wc -l)" 0
is 'nothing open but sockets, its pipe and its loop' "$(find "/proc/$f/fd" -type l -printf '%l\n' | grep -vcE '^(socket:|pipe:|anon_inode:|/dev/null$)')" 0
like 'no core files' "$(cat "/proc/$f/limits")" 'Max core file size +0 +0 '

# Ports that somebody has.
socat TCP4-LISTEN:18100,bind=127.0.0.1,fork,reuseaddr SYSTEM:'echo somebody' &
somebody=$!
ok 'somebody listens' wait_until 10 eval '[ "$(listeners 18100)" = 1 ]'
run_ok 'create' "$C" create --name two -p 18099-18101:80-82 demo sleep 1000
run_rc 1 'testStartPortBindFails' "$C" start two
like 'says which' "$err" 'publish port 0\.0\.0\.0:18100/tcp: Address already in use'
ok 'it is stopped' in_state two stopped
ok 'the others are free again' none_listens 18099
kill $somebody
wait $somebody 2>/dev/null
run_ok 'create' "$C" create --name three -p 127.0.0.1:18080:80 demo sleep 1000
run_rc 1 "another container's port" "$C" start three
like 'says whose' "$err" 'publish port 127\.0\.0\.1:18080/tcp: Address already in use by container web'
run_rc 1 'an address of nobody here' "$C" run --rm -p 203.0.113.99:8080:80 demo true
like 'is named' "$err" 'publish port 203\.0\.113\.99:8080/tcp: Cannot assign'
is 'and nothing is left' "$("$C" list -aq | sort | paste -sd' ')" 'many three two web'

# The helpers go; who forwards stays.
old=$(service_pid container.network.default)
kill -KILL "$old" "$(service_pid container.apiserver)"
ok 'the helper has ended' wait_until 20 eval '! kill -0 "$old" 2>/dev/null || grep -q "State:.Z" "/proc/$old/status"'
is 'forwards with the apiserver and the network helper killed' "$(get http://127.0.0.1:18080/)" page
run_ok 'system start' "$C" system start
is 'forwards' "$(get http://127.0.0.1:18081/)" 'page 9000'
run_rc 1 'it is known whose the port is' "$C" start three
like 'says whose' "$err" 'by container web'

# The end: the port is free at once for the next start, whoever remembers the last one's forwarder.
run_ok 'restart' "$C" restart -t 1 web
ok 'serves again' wait_until 60 ready
is 'forwards again' "$(get http://127.0.0.1:18080/) $(get 'http://[::1]:18080/')" 'page page'
is 'one forwarder' "$(forwarders)" 1
# It is slow to end: the next start of the port waits for it.
f=$(pgrep -f 'container-network-vmnet start --forward')
kill -STOP "$f"
kill -KILL "$(service_pid container.runtime.web)"
ok 'its machine was killed' wait_until 20 in_state web stopped
is 'the port is not free yet' "$(listeners 18080)" 2
(sleep 1; kill -CONT "$f") &
run_ok 'another waits for it' "$C" start three
ok 'the forwarder has ended' test ! -e "/proc/$f"
is 'listens' "$(listeners 18080)" 1
run_ok 'stop' "$C" stop -t 1 three
ok 'no forwarder is left' wait_until 20 no_forwarder
is 'no port either' "$(ss -Hltun 'sport >= 16000 and sport <= 20000' | wc -l)" 0
done_testing
