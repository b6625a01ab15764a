#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Unix sockets across the machine's border: the container's on the host (--publish-socket), the SSH agent in the container (--ssh).
. "$(dirname "$0")/../lib/system.sh"
. "$(dirname "$0")/../lib/leaks.sh"
gcc -O2 -static -o "$T/sock" "$TOP/tests/lib/sock.c" || bail 'sock compiles'
sock=$T/sock
ready_system

in_sk() # in the container, as root
{
	"$C" exec sk "$@"
}
# A server in the container, in the background. It says when it serves.
serve_in() # name arguments…
{
	local log=$T/$1.log
	shift
	rm -f "$log" # what an earlier one said
	"$C" exec sk /sock serve "$@" >"$log" 2>&1 </dev/null &
	wait_until 20 grep -q serving "$log" || bail "a server in the container ($(cat "$log"))"
}
host_serve() # path label [mode [backlog]]
{
	"$sock" serve "$@" >"$T/host.log" 2>&1 </dev/null &
	wait_until 10 grep -q serving "$T/host.log" || bail 'a server on the host'
}

# ---- what is wrong is said before anything is made ----
run_rc 1 'a container path that is not absolute' "$C" create --publish-socket "$T/x.sock:run/x" demo
like 'is refused' "$err" "invalid publish-socket '.*': the container path is not an absolute path of a file"
run_rc 1 'one word' "$C" create --publish-socket /run/x demo
like 'is refused with what is expected' "$err" "invalid publish-socket format '/run/x': host_path:container_path expected"
run_rc 1 'the same host path twice' "$C" create --publish-socket "$T/x:/a" --publish-socket "$T/x:/b" demo
like 'is refused as well' "$err" "host socket $T/x is published twice"

# ---- the SSH agent: real, with a key ----
mkdir "$T/ssh"
ssh-keygen -q -t ed25519 -N '' -C a-key-for-a-test -f "$T/ssh/key" </dev/null
agent() # socket
{
	ssh-agent -a "$1" >"$T/ssh/agent.out" || bail 'an SSH agent'
	SSH_AUTH_SOCK=$1 ssh-add -q "$T/ssh/key" || bail 'a key in the agent'
}
agent "$T/ssh/a"
kill_agent()
{
	kill "$(sed -n 's/^echo Agent pid \([0-9]*\);/\1/p' "$T/ssh/agent.out")"
}
# SSH_AGENTC_REQUEST_IDENTITIES, by hand; the answer has the keys' comments in it.
keys_in() # exec's options…
{
	"$C" exec "$@" sk sh -c 'printf "\0\0\0\1\13" | /sock raw "$SSH_AUTH_SOCK"' 2>&1 | tr -d '\0'
}

echo in-the-way >"$T/file"
run_rc 1 'a file at the host path' "$C" run --rm --publish-socket "$T/file:/run/in.sock" demo true
like 'is not replaced' "$err" "publish socket $T/file.*file exists and is not a socket"
is 'and is what it was' "$(cat "$T/file")" in-the-way
host_serve "$T/taken.sock" somebody
run_rc 1 'a socket at the host path that is in use' "$C" run --rm --publish-socket "$T/taken.sock:/run/in.sock" demo true
like 'is not either' "$err" "publish socket $T/taken.sock.*taken.sock is in use by another process"
is 'and serves' "$("$sock" who "$T/taken.sock")" somebody
# A socket that a dead program left is no obstacle.
mkdir "$T/p"
"$sock" serve "$T/p/stale.sock" dead >/dev/null & stale=$!
wait_until 10 test -S "$T/p/stale.sock"
kill -KILL $stale
wait $stale 2>/dev/null

"$sock" serve "$T/h1.sock" from-the-host 0766 1 >"$T/h1.log" &
"$sock" serve "$T/h2.sock" for-root 0600 >"$T/h2.log" & h2=$!
wait_until 10 test -S "$T/h2.sock"

export SSH_AUTH_SOCK=$T/ssh/a
cd "$T" || bail 'a directory'
run_ok 'a container that publishes sockets and has the SSH agent' "$C" run -d --name sk --ssh \
	--publish-socket "$T/p/new/dir/app.sock:/run/app.sock" --publish-socket p/stale.sock:/run/low.sock \
	--publish-socket "$T/p/link.sock:/run/link.sock" --publish-socket "$T/p/host.sock:$T/taken.sock" \
	--publish-socket "$T/p/proc.sock:/proc/1/root/run/app.sock" \
	-v "$T/h1.sock:/var/run/deep/h1.sock" -v ./h2.sock:/etc/passwd.sock:ro --mount "type=bind,source=$T/taken.sock,target=/etc/motd.d" \
	demo sleep 100000
"$C" cp "$sock" sk:/sock || bail 'the tool is in the container'

# ---- the container's, on the host ----
serve_in app /run/app.sock from-inside 0600
app=$T/p/new/dir/app.sock
is 'parents were made, and the host reaches the container' "$("$sock" who "$app")" from-inside
is 'its owner alone may connect' "$(stat -c '%a %F' "$app")" '600 socket'
run_ok '8 MiB in, half-closed, the sum comes back' "$sock" sum "$app" 8388608
run_ok '8 MiB out' "$sock" gen "$app" 8388608
run_ok '8 MiB both ways at once' "$sock" echo "$app" 8388608
run_ok '100 clients at once' "$sock" many "$app" 100 20000
is 'all of them' "$out" '100 ok'
serve_in low /run/low.sock low-backlog 0600 1
run_ok '40 clients of a server that lets few wait' "$sock" many "$T/p/stale.sock" 40 1000
slow=()
for i in 1 2 3; do
	"$sock" hold "$app" >"$T/hold.$i" & slow+=($!)
	wait_until 10 grep -q held "$T/hold.$i"
done
run_ok 'clients that do not read do not hold up others' "$sock" gen "$app" 1048576
kill -KILL "${slow[@]}"
wait "${slow[@]}" 2>/dev/null
run_ok 'nor when they are killed' "$sock" echo "$app" 1048576
like 'nobody serves in the container: the client is told' "$("$sock" who "$T/p/link.sock" 2>&1)" 'Connection reset by peer|Broken pipe'

# Paths that lead elsewhere lead within the container.
in_sk ln -s /run/../../../run/app.sock /run/link.sock
is 'a link in the container is one within it' "$("$sock" who "$T/p/link.sock")" from-inside
in_sk ln -sf "$T/taken.sock" /run/link.sock
like 'one to a path of the host finds nothing there' "$("$sock" who "$T/p/link.sock" 2>&1)" 'Connection reset by peer|Broken pipe'
like 'nor does a path that exists on the host' "$("$sock" who "$T/p/host.sock" 2>&1)" 'Connection reset by peer|Broken pipe'
in_sk ln -sf /proc/1/root/run/app.sock /run/link.sock
like 'links of /proc are not followed' "$("$sock" who "$T/p/link.sock" 2>&1)" 'Connection reset by peer|Broken pipe'
like 'by a path neither' "$("$sock" who "$T/p/proc.sock" 2>&1)" 'Connection reset by peer|Broken pipe'
in_sk sh -c 'rm /run/link.sock; mkfifo /run/link.sock'
like 'nor is anything but a socket connected to' "$("$sock" who "$T/p/link.sock" 2>&1)" 'Connection reset by peer|Broken pipe'

# ---- the host's, in the container ----
h1=/var/run/deep/h1.sock
is 'testRunCommandUnixSocketMount: the mode is the host'\''s' "$(in_sk stat -c '%a %F' $h1 /etc/passwd.sock | paste -sd,)" '766 socket,600 socket'
is 'testRunCommandUnixSocketMount: connectable as a user' "$("$C" exec -u demo sk /sock who $h1)" from-the-host
run_ok '8 MiB out, half-closed, the sum comes back' "$C" exec -u demo sk /sock sum $h1 8388608
run_ok '8 MiB in' "$C" exec sk /sock gen $h1 8388608
run_ok '8 MiB both ways at once' "$C" exec sk /sock echo $h1 8388608
run_ok '100 clients at once of a server that lets few wait' "$C" exec sk /sock many $h1 100 20000
is 'all of them' "$out" '100 ok'
is 'a mode for root only is for root' "$(in_sk /sock who /etc/passwd.sock)" for-root
like 'and for nobody else' "$("$C" exec -u demo sk /sock who /etc/passwd.sock 2>&1)" 'Permission denied'
is 'by --mount as well' "$(in_sk /sock who /etc/motd.d)" somebody
in_sk sh -c "/sock hold $h1 & /sock hold $h1 & sleep 1; /sock gen $h1 1048576; echo \$?; kill -9 %1 %2" >"$T/hold.out" 2>&1
like 'clients that do not read do not hold up others' "$(cat "$T/hold.out")" 'ok
0'
kill -KILL "$h2"
wait "$h2" 2>/dev/null
# Its connection is made and then ends, before or after what it sends.
like 'nobody serves on the host any more: clients are told' "$(in_sk sh -c 'for i in 1 2 3 4 5 6 7 8 9 10; do timeout 20 /sock who /etc/passwd.sock >/dev/null 2>&1; echo $?; done' | paste -sd' ')" '^[01]( [01])*$'
run_ok 'and others are served' "$C" exec sk /sock who $h1

# ---- the SSH agent in the container ----
is 'testSSHForwarding: the variable, and below /var as in Apple'\''s code' "$(in_sk sh -c 'echo $SSH_AUTH_SOCK')" /var/host-services/ssh-auth.sock
is 'testSSHForwarding: the socket is one' "$(in_sk stat -c '%a %F' /var/host-services/ssh-auth.sock)" '666 socket'
like 'the agent tells its keys' "$(keys_in)" a-key-for-a-test
like 'to users other than root too' "$(keys_in -u demo)" a-key-for-a-test
is 'inspect says what is published and forwarded' "$("$C" inspect sk | jq -c '.[0].configuration | [.ssh, .publishedSockets[1]]')" \
	"[true,{\"containerPath\":\"/run/low.sock\",\"hostPath\":\"$T/p/stale.sock\"}]"
kill_agent
ok 'an agent that has ended closes its clients' wait_until 20 bash -c "! '$C' exec skk sh -c 'printf \"\\0\\0\\0\\1\\13\" | /sock raw /var/host-services/ssh-auth.sock' 2>&1 | grep -q a-key"

# ---- the apiserver is killed ----
rm -f "$T/ssh/a"
agent "$T/ssh/a"
old=$(service_pid container.apiserver)
"$sock" hold "$app" >"$T/hold.4" & slow=$!
wait_until 10 grep -q held "$T/hold.4"
kill -KILL "$old"
is 'published sockets work without it' "$("$sock" who "$app")" from-inside
run_ok 'the system starts again' "$C" system start
is 'they work on' "$("$sock" who "$app")" from-inside
is 'the host'\''s too' "$("$C" exec -u demo sk /sock who $h1)" from-the-host
like 'the SSH agent too' "$(keys_in -u demo)" a-key-for-a-test
kill $slow

# ---- the end ----
run_ok 'stop' "$C" stop -t 0 sk
is 'takes the sockets off the host' "$(find "$T/p" -type s)" ''
kill_agent
rm -f "$T/ssh/a"
agent "$T/ssh/b"
export SSH_AUTH_SOCK=$T/ssh/b
run_ok 'the next start' "$C" start sk
is 'has them again' "$(find "$T/p" -type s | wc -l)" 5
serve_in app /run/app.sock again 0600
is 'and connected' "$("$sock" who "$app")" again
like 'and looks at the SSH agent again' "$(keys_in)" a-key-for-a-test
kill -KILL "$(service_pid container.runtime.sk)"
ok 'a helper that is killed leaves none either' wait_until 20 bash -c "[ -z \"\$(find '$T/p' -type s)\" ]"
ok 'its container is stopped' wait_until 20 in_state sk stopped
unset SSH_AUTH_SOCK
run_ok 'start without an agent' "$C" start sk
like 'says so' "$err" 'SSH_AUTH_SOCK is not set: no SSH agent is forwarded'
is 'there is no socket then' "$(in_sk sh -c 'test -S /var/host-services/ssh-auth.sock && echo one')" ''

# ---- everything is killed, and the system comes up again ----
host_restarts
is 'sockets are left' "$(find "$T/p" -type s | wc -l)" 5
start_system
run_ok 'they are in nobody'\''s way' "$C" start sk
is 'the container is reached' "$(serve_in app /run/app.sock third && "$sock" who "$app")" third
run_ok 'delete' "$C" delete -f sk
is 'leaves none' "$(find "$T/p" -type s)" ''
ok 'nothing is left of it all' wait_until 20 quiet 0
stop_system
done_testing
