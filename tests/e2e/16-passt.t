#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The whole system as a user without any right: containers get out through a passt of their own.
. "$(dirname "$0")/../lib/system.sh"
command -v passt >/dev/null || skip_all 'passt is not installed'

make_world
nsenter -t "$world" -n timeout 600 socat TCP-LISTEN:8080,fork,reuseaddr SYSTEM:'echo world; echo from \$SOCAT_PEERADDR' &
# A name server at the world's end: answers every question for an A record with 203.0.113.77.
nsenter -t "$world" -n timeout 600 socat UDP-RECVFROM:53,fork EXEC:"$TOP/tests/lib/dns.pl" &
wait_until 10 nsenter -t "$world" -n bash -c 'ss -Hltn "sport = :8080" | grep -q . && ss -Hlun "sport = :53" | grep -q .'
echo 'nameserver 203.0.113.2' >"$T/resolv.conf"
mount --bind "$T/resolv.conf" "$(readlink -f /etc/resolv.conf)"

# Nobody in particular, with a home of its own. What it needs of this tree is copied: it may not read everything.
uid=12345
demo_images
user_files
chown -R $uid:$uid "$T/u"
use_roots "$T/u/s"
chown -R $uid:$uid "$T/u/s"
C="$T/u/container"
as_user=(setpriv --reuid $uid --regid $uid --clear-groups --no-new-privs env HOME="$T/u")

run_ok 'system start' "${as_user[@]}" "$C" system start
run_ok 'kernel' "${as_user[@]}" "$C" system kernel set --binary "${kernel[@]}"
run_ok 'image' "${as_user[@]}" "$C" image load -i "$T/u/demo.oci.tar"
gcc -O2 -static -o "$T/u/udpecho" "$TOP/tests/lib/udpecho.c" || bail 'udpecho compiles'
run_ok 'a container' "${as_user[@]}" "$C" run -d --name net -p 127.0.0.1:18080:80 -p 18081-18082:9000-9001 -p 17002:7002/udp demo sh -c 'mkdir -p /w
	echo page >/w/index.html; for p in 80 9000; do httpd -p $p -h /w; done; httpd -p 127.0.0.1:9001 -h /w; exec sleep 1000'
is 'its helper is that user' "$(ps -o uid= -p "$(pgrep -f 'container-runtime-linux start --id net')" | tr -d ' ')" $uid
q=$(pgrep -P "$(pgrep -f 'container-runtime-linux start --id net')" qemu-system)
if [ -n "$q" ]; then
	k=
	for f in /proc/"$q"/fd/*; do
		[ "$f" -ef "$CONTAINER_APP_ROOT/kernels/default/vmlinux" ] && k=$f
	done
	like 'its QEMU cannot write to the kernel, though it is its user'"'"'s' "$({ : >>"${k:-/nowhere/at/all}"; } 2>&1)" 'Read-only file system'
	is 'and can name no process of that user' "$(sed -n 's/^NSpid:.*\t//p' "/proc/$q/status")" 1
else
	skip 'qemu' 'the kvm engine has no child'
fi
run_ok 'inspect' "${as_user[@]}" "$C" inspect net
is 'MTU' "$(jq -r '.[0].status.networks[0].mtu' <<<"$out")" 65520
gw=$(jq -r '.[0].status.networks[0].ipv4Gateway' <<<"$out")
run_ok 'inside' "${as_user[@]}" "$C" exec net sh -c 'ip -4 -o addr show eth0; ip route; cat /etc/resolv.conf; cat /sys/class/net/eth0/mtu /sys/class/net/eth0/carrier'
like 'has the route' "$out" "default via $gw"
like 'the gateway is its name server' "$out" "nameserver $gw"
like 'the link is up' "$out" $'65520\n1$'
# nc's input stays open here: Debian 12's passt may forget the other direction of a connection that is half closed.
run_ok 'TCP to the world' "${as_user[@]}" "$C" exec net sh -c 'mkfifo /tmp/f; exec 3<>/tmp/f; nc -w 20 203.0.113.2 8080 <&3'
like 'it answers' "$out" 'world'
like "by the host's address" "$out" '203\.0\.113\.1'
run_ok 'DNS' "${as_user[@]}" "$C" exec net nslookup some.name.example
like 'answers' "$out" '203\.0\.113\.77'
# Both ways, more than any buffer holds, with the bytes compared.
head -c 6000000 /dev/urandom >"$T/bytes"
sum=$(sha256sum <"$T/bytes")
nsenter -t "$world" -n timeout 120 socat -u OPEN:"$T/bytes" TCP-LISTEN:8081,reuseaddr &
wait_until 10 nsenter -t "$world" -n bash -c 'ss -Hltn "sport = :8081" | grep -q .'
run_ok 'a big download' "${as_user[@]}" "$C" exec net sh -c 'exec 3<>/tmp/f; nc -w 20 203.0.113.2 8081 <&3 | sha256sum'
is 'comes whole' "$out" "$sum"
nsenter -t "$world" -n timeout 120 socat -u TCP-LISTEN:8082,reuseaddr OPEN:"$T/up",creat &
up=$!
wait_until 10 nsenter -t "$world" -n bash -c 'ss -Hltn "sport = :8082" | grep -q .'
run_ok 'a big upload' "${as_user[@]}" "$C" exec net sh -c 'head -c 6000000 /dev/urandom >/tmp/u; sha256sum </tmp/u; nc -w 20 203.0.113.2 8082 </tmp/u'
sent=$out
wait $up
is 'arrives whole' "$(sha256sum <"$T/up")" "$sent"
timeout 600 socat TCP-LISTEN:8083,bind=127.0.0.1,fork,reuseaddr SYSTEM:'echo loopback' &
ok 'somebody listens here' wait_until 10 bash -c 'ss -Hltn "sport = :8083" | grep -q .'
run "${as_user[@]}" "$C" exec net sh -c "nc -w 2 $gw 8083 </dev/null"
unlike "the host's loopback is not reachable" "$out" loopback

# Published ports are passt's own.
get() # url
{
	curl -sS -m 60 --noproxy '*' "$1" 2>&1
}
ok 'a published port' wait_until 20 eval '[ "$(get http://127.0.0.1:18080/)" = page ]'
is 'of a range, from elsewhere' "$(nsenter -t "$world" -n curl -sS -m 60 http://203.0.113.1:18081/)" page
like 'who listens on loopback inside is not reached' "$(get http://127.0.0.1:18082/)" 'curl: '
like 'nor is one that is for loopback from elsewhere' "$(nsenter -t "$world" -n curl -sS -m 60 http://203.0.113.1:18080/ 2>&1)" 'connect to server'
run_ok 'cp' "${as_user[@]}" "$C" cp "$T/u/udpecho" net:/udpecho
run_ok 'echo by UDP' "${as_user[@]}" "$C" exec -d net /udpecho 7002
# Not from loopback: of those datagrams Debian 12's passt sends no answer back, as it does not map the gateway to loopback.
echo_udp='exec 3<>/dev/udp/203.0.113.1/17002; printf hello >&3; timeout 2 dd bs=2048 count=1 status=none <&3'
ok 'UDP from elsewhere' wait_until 20 eval '[ "$(nsenter -t "$world" -n bash -c "$echo_udp")" = "hello from 203.0.113.2" ]'
ok 'UDP from here' wait_until 20 eval '[ "$(bash -c "$echo_udp")" = "hello from 203.0.113.1" ]'
run_rc 1 'testPrivilegedPortError' "${as_user[@]}" "$C" run --rm -p 80:80 demo true
like 'testPrivilegedPortError: says which, and what is missing' "$err" 'host port 80 \(0\.0\.0\.0:80/tcp\).*root privileges'
run_rc 1 'a port that somebody has' "${as_user[@]}" "$C" run --rm -p 127.0.0.1:8083:80 demo true
like 'is named' "$err" 'publish port 127\.0\.0\.1:8083/tcp: Address already in use'
run_rc 1 "another container's" "${as_user[@]}" "$C" run --rm -p 18082:80 demo true
like 'says whose' "$err" 'publish port 0\.0\.0\.0:18082/tcp: Address already in use by container net'
run_rc 1 'IPv6' "${as_user[@]}" "$C" run --rm -p '[::1]:18080:80' demo true
like 'needs root' "$err" 'publish port \[::1\]:18080/tcp: without root'

# passt goes: the guest sees its cable pulled, and lives on.
kill "$(pgrep '^passt')"
run_ok 'without passt' "${as_user[@]}" "$C" exec net sh -c 'i=0; while [ "$(cat /sys/class/net/eth0/carrier)" = 1 ] && [ $i -lt 600 ]; do i=$((i+1)); sleep 0.1; done; cat /sys/class/net/eth0/carrier'
is 'the link is down' "$out" 0
run_ok 'delete' "${as_user[@]}" "$C" delete -f net
run_ok 'run' "${as_user[@]}" "$C" run --rm demo echo hello
is 'says' "$out" hello
gone_passt()
{
	! pgrep '^passt'
}
ok 'no passt is left' wait_until 10 gone_passt
is 'no port either' "$(ss -Hltun 'sport >= 17000 and sport <= 19000' | wc -l)" 0
# Not installed: the error names the package.
mount --bind "$T/resolv.conf" "$(command -v passt)"
run_rc 1 'no passt' "${as_user[@]}" "$C" run --rm demo true
like 'is named' "$err" 'package passt'
done_testing
