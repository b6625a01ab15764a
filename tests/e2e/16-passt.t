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
chmod 755 "$T"
mkdir -p "$T/u"
cp "$C" "$T/u/container"
cp "$IMAGES/demo.oci.tar" "$T/u/"
if [ "${TEST_KERNEL:-distro}" = own ]; then
	cp "$BUILD/kernel/vmlinux" "$T/u/vmlinux"
	kernel=("$T/u/vmlinux")
else
	read -r k m < <("$TOP/third_party/distro-kernel.sh" "$BUILD/kernel/distro")
	cp "$k" "$T/u/vmlinuz"
	cp -r "$m" "$T/u/modules"
	kernel=("$T/u/vmlinuz" --modules "$T/u/modules")
fi
chown -R $uid:$uid "$T/u"
use_roots "$T/u/s"
chown -R $uid:$uid "$T/u/s"
C="$T/u/container"
as_user=(setpriv --reuid $uid --regid $uid --clear-groups --no-new-privs env HOME="$T/u")

run_ok 'system start' "${as_user[@]}" "$C" system start
run_ok 'kernel' "${as_user[@]}" "$C" system kernel set --binary "${kernel[@]}"
run_ok 'image' "${as_user[@]}" "$C" image load -i "$T/u/demo.oci.tar"
run_ok 'a container' "${as_user[@]}" "$C" run -d --name net demo sleep 1000
is 'its helper is that user' "$(ps -o uid= -p "$(pgrep -f 'container-runtime-linux start --id net')" | tr -d ' ')" $uid
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
# Not installed: the error names the package.
mount --bind "$T/resolv.conf" "$(command -v passt)"
run_rc 1 'no passt' "${as_user[@]}" "$C" run --rm demo true
like 'is named' "$err" 'package passt'
done_testing
