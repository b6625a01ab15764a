#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Attack class D with a real guest: frames from addresses that are not its own do not leave it. And what the card is to do for the guest:
# several queues, checksums and segmentation, so that every byte of a large transfer is right on a wire that has none of that.
. "$(dirname "$0")/../lib/system.sh"

make_world
# The kernel has to segment and sum what leaves for the world, and the world sums what comes.
ethtool -K out tx off tso off gso off >/dev/null
nsenter -t "$world" -n ethtool -K in tx off rx off tso off gso off gro off >/dev/null 2>&1
ready_system
gcc -O2 -static -o "$T/rawsend" "$TOP/tests/lib/rawsend.c" || bail 'rawsend compiles'

run_ok 'a container' "$C" run -d --cpus 2 --name evil demo sh -c 'while :; do nc -l -p 7000 >/dev/null; done'
run_ok 'another' "$C" run -d --cpus 1 --name victim demo sleep 1000
of() { "$C" inspect "$1" | jq -r ".[0].status.networks[0].$2"; }
hex4() { printf '%02x%02x%02x%02x' ${1//./ }; }
mac=$(of evil macAddress | tr -d :)
ip=$(of evil ipv4Address)
ip=$(hex4 "${ip%/*}")
vmac=$(of victim macAddress | tr -d :)
vip=$(of victim ipv4Address)
vip=$(hex4 "${vip%/*}")
gw=$(hex4 "$(of evil ipv4Gateway)")
run_ok 'queues' "$C" exec evil sh -c 'ls -d /sys/class/net/eth0/queues/rx-* | wc -l'
is 'one pair for each CPU' "$out" 2
run_ok 'queues of one CPU' "$C" exec victim sh -c 'ls -d /sys/class/net/eth0/queues/rx-* | wc -l'
is 'one pair' "$out" 1

# Frames by hand. All end in "SPOOF", but for the honest ones, which end in "GOODFRAME".
text() { printf %s "$1" | od -An -v -tx1 | tr -d ' \n'; }
bad=$(text SPOOF)
good() { text "GOODFRAME$1"; }
all=ffffffffffff
ip4() { echo "0800$(printf 4500%04x 40)00000000403d0000$1$2$(printf %040d 0)"; } # from, to, of a protocol nobody knows
arp() { echo "08060001080006040001$1$2000000000000$3"; }
ll=fe80000000000000$(printf %02x $((0x${mac:0:2} ^ 2)))${mac:2:4}fffe${mac:6}
vll=fe80000000000000$(printf %02x $((0x${vmac:0:2} ^ 2)))${vmac:2:4}fffe${vmac:6}
nodes=ff020000000000000000000000000001
ip6() { echo "86dd60000000$(printf %04x "$1")3aff$2$nodes"; } # length, from
spoofs=(
	"$all$vmac$(ip4 "$vip" "$gw")$bad"                                    # everything the victim's
	"$all$mac$(ip4 "$vip" "$gw")$bad"                                     # its IP address
	"$all$mac$(ip4 "$gw" "$vip")$bad"                                     # the gateway's
	"$all$mac$(arp "$mac" "$vip" "$gw")$bad"                              # I am the victim
	"$all$mac$(arp "$mac" "$gw" "$vip")$bad"                              # I am the gateway
	"$all$mac$(arp "$vmac" "$ip" "$gw")$bad"                              # the victim is me
	"$all${mac}81000001$(ip4 "$ip" "$gw")$bad"                            # in a VLAN
	"0180c2000000${mac}0026424203$bad"                                    # spanning tree
	"333300000001$mac$(ip6 24 "$vll")8800000020000000$vll$bad"            # the victim's IPv6 address
	"333300000001$mac$(ip6 32 "$ll")8800000020000000${vll}0201$mac$bad"   # its neighbour advertisement
	"333300000001$mac$(ip6 16 "$ll")86000000400007080000000000000000$bad" # a router's advertisement
	"$all$mac$(ip4 "$ip" ffffffff | sed 's/403d0000/40110000/; s/0\{40\}$/0043004400140000000000000000000000000000/')$bad" # DHCP server
)
honest=(
	"$all$mac$(ip4 "$ip" "$gw")$(good 1)"
	"$all$mac$(arp "$mac" "$ip" "$gw")$(good 2)"
	"333300000001$mac$(ip6 32 "$ll")8800000020000000${ll}0201$mac$(good 3)"
)
run_ok 'copy' "$C" cp "$T/rawsend" evil:/tmp/rawsend
br=$(ip -o link show type bridge | awk -F': ' '{print $2}')
timeout 120 tcpdump -i any -w "$T/dump" -U 2>"$T/tcpdump.err" &
dump=$!
wait_until 20 grep -q 'listening on' "$T/tcpdump.err"
run_ok 'frames by hand' "$C" exec evil /tmp/rawsend eth0 "${spoofs[@]}" "${honest[@]}"
seen()
{
	grep -aq GOODFRAME1 "$T/dump" && grep -aq GOODFRAME2 "$T/dump" && grep -aq GOODFRAME3 "$T/dump"
}
ok 'the honest ones are seen' wait_until 20 seen
kill "$dump"
wait "$dump" 2>/dev/null
is 'none of the others is' "$(grep -ao SPOOF "$T/dump" | wc -l)" 0
like 'the bridge' "$br" '^ct'
ok 'they are counted' wait_until 10 grep -q 'foreign IPv4 address' "$CONTAINER_LOG_ROOT/container.runtime.evil.log"
run_ok 'the container goes on' "$C" exec evil ping -c 1 -W 5 203.0.113.2

# Checksums: both ways, all queues.
head -c 8000000 /dev/urandom >"$T/bytes"
sum=$(sha256sum <"$T/bytes")
nsenter -t "$world" -n timeout 120 socat -u OPEN:"$T/bytes" TCP-LISTEN:8081,reuseaddr &
wait_until 10 nsenter -t "$world" -n bash -c 'ss -Hltn "sport = :8081" | grep -q .'
run_ok 'a big download' "$C" exec evil sh -c 'nc -w 20 203.0.113.2 8081 </dev/null >/tmp/d; sha256sum </tmp/d'
is 'comes whole' "$out" "$sum"
nsenter -t "$world" -n timeout 120 socat -u TCP-LISTEN:8082,reuseaddr OPEN:"$T/up",creat &
up=$!
wait_until 10 nsenter -t "$world" -n bash -c 'ss -Hltn "sport = :8082" | grep -q .'
run_ok 'a big upload' "$C" exec evil sh -c 'nc -w 20 203.0.113.2 8082 </tmp/d'
wait $up
is 'arrives whole' "$(sha256sum <"$T/up")" "$sum"
is 'with right sums' "$(nsenter -t "$world" -n awk '/^Tcp:/ { if (n++) print $c; else for (i = 1; i <= NF; i++) if ($i == "InCsumErrors") c = i }' /proc/net/snmp)" 0
run_ok 'delete' "$C" delete -f evil victim
done_testing
