#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The default network: address, route, names; containers reach each other, the gateway and, through NAT, a world that is another namespace.
. "$(dirname "$0")/../lib/system.sh"

# No route leads back to containers: only NAT makes the world answer.
make_world
run_ok 'the world answers' bash -c 'ping -c 1 -W 5 203.0.113.2 2>/dev/null || busybox ping -c 1 -W 5 203.0.113.2'
echo 0 >/proc/sys/net/ipv4/ip_forward
ready_system
nsenter -t "$world" -n timeout 600 socat TCP-LISTEN:8080,fork,reuseaddr SYSTEM:'echo world; echo from \$SOCAT_PEERADDR' &
nsenter -t "$world" -n timeout 600 socat UDP-LISTEN:9090,fork,reuseaddr SYSTEM:'cat' &
in_world() # port: somebody listens there
{
	nsenter -t "$world" -n ss -Hltn "sport = :$1" | grep -q .
}
ok 'the world serves' wait_until 10 in_world 8080

run_ok 'a container' "$C" run -d --name net demo sh -c 'while :; do echo from-net | nc -l -p 7000; done'
run_ok 'inspect' "$C" inspect net
addr=$(jq -r '.[0].status.networks[0].ipv4Address' <<<"$out")
gw=$(jq -r '.[0].status.networks[0].ipv4Gateway' <<<"$out")
is 'network' "$(jq -r '.[0].status.networks[0].network' <<<"$out")" default
like 'address' "$addr" '^[0-9]+\.[0-9]+\.[0-9]+\.[0-9]+/24$'
is 'gateway is .1' "$gw" "${addr%.*}.1"
run_ok 'inside' "$C" exec net sh -c 'ip -4 -o addr show eth0; ip route; cat /etc/resolv.conf; cat /etc/hosts; cat /etc/hostname 2>/dev/null; cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address'
like 'has that address' "$out" "inet $addr"
like 'has the route' "$out" "default via $gw"
like 'has a nameserver' "$out" "nameserver [0-9]"
like 'has localhost' "$out" '127\.0\.0\.1.*localhost'
like 'has its own name' "$out" "${addr%/*}.*net"
mtu=$("$C" inspect net | jq -r '.[0].status.networks[0].mtu')
like 'MTU as inspect says' "$out" $'\n'"$mtu"$'\n'
is 'MAC address as inspect says' "$(grep -Eo '([0-9a-f]{2}:){5}[0-9a-f]{2}$' <<<"$out" | tail -1)" "$("$C" inspect net | jq -r '.[0].status.networks[0].macAddress')"
run_ok 'ping the gateway' "$C" exec net ping -c 2 -W 5 "$gw"
run_ok 'ping the world' "$C" exec net ping -c 2 -W 5 203.0.113.2
run_ok 'TCP to the world' "$C" exec net sh -c 'nc -w 20 203.0.113.2 8080 </dev/null'
like 'it answers' "$out" 'world'
like "by the host's address" "$out" '203\.0\.113\.1'
run_ok 'the host reaches the container' bash -c 'ping -c 1 -W 5 "$1" 2>/dev/null || busybox ping -c 1 -W 5 "$1"' - "${addr%/*}"
# Its nc serves one client after the other.
serves()
{
	"$C" exec net sh -c 'cat /proc/net/tcp /proc/net/tcp6 | grep -q ":1B58 [0-9A-F]*:0000 0A"'
}
ok 'the container listens' wait_until 20 serves
run_ok 'a TCP port of it' bash -c 'timeout 60 socat -u "TCP:$1:7000" -' - "${addr%/*}"
is 'answers' "$out" from-net
nsenter -t "$world" -n timeout 120 tcpdump -l -nn -i in -c 3 icmp >"$T/dump" 2>"$T/dump.err" &
dump=$!
wait_until 20 grep -q 'listening on' "$T/dump.err"
"$C" exec net ping -c 3 -W 5 203.0.113.2 >/dev/null 2>&1
wait $dump
like 'pings are seen outside' "$(cat "$T/dump")" '203\.0\.113\.1 > 203\.0\.113\.2: ICMP echo request'
unlike 'no container address is seen outside' "$(cat "$T/dump")" "${addr%/*}"

ok 'the first listens again' wait_until 20 serves
run_ok 'a second container reaches the first' "$C" run --rm --name two demo sh -c "nc -w 20 ${addr%/*} 7000 </dev/null; ip -4 -o addr show eth0"
like 'by TCP' "$out" 'from-net'
unlike 'with another address' "$out" "inet $addr"
nsenter -t "$world" -n timeout 120 socat -u OPEN:/dev/zero,readbytes=4000000 TCP-LISTEN:8081,reuseaddr &
wait_until 10 in_world 8081
run_ok 'a big download' "$C" exec net sh -c 'nc -w 20 203.0.113.2 8081 </dev/null | wc -c'
is 'is complete' "$(tr -dc 0-9 <<<"$out")" 4000000

run_ok '--network none' "$C" run --rm --network none demo sh -c 'ls /sys/class/net; ip route | wc -l'
unlike 'has no eth0' "$out" 'eth0'
run_rc 1 'an unknown network' "$C" run --rm --network nosuch demo true
like 'is named' "$err" 'nosuch'

# The helper dies; containers keep their addresses, and new ones get others.
old=$(service_pid container.network.default)
kill -KILL "$old"
back()
{
	local p
	p=$(service_pid container.network.default)
	[ "${p:-0}" -gt 0 ] && [ "$p" != "$old" ]
}
ok 'the network helper comes back' wait_until 20 back
run_ok 'the container still reaches the world' "$C" exec net ping -c 1 -W 5 203.0.113.2
run_ok 'a new one has another address' "$C" run --rm demo ip -4 -o addr show eth0
unlike 'another' "$out" "inet $addr"

# What it made it takes away.
br=$(ip -o link show type bridge | awk -F': ' '{print $2}')
like 'there is a bridge' "$br" '[a-z]'
like 'on which no guest decides who gets multicast' "$(ip -d link show dev "$br")" 'mcast_snooping 0'
like 'and a table' "$(nft list tables)" 'table'
run_ok 'delete' "$C" delete -f net
no_tap()
{
	[ -z "$(ip -o link show type tun)" ]
}
ok 'no tap is left' wait_until 10 no_tap
run_ok 'system stop' "$C" system stop
is 'no bridge is left' "$(ip -o link show type bridge | wc -l)" 0
is 'no table is left' "$(nft list tables)" ''
done_testing
