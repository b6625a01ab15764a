#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The streams of a process go from the command to the container's helper by descriptors: the apiserver hands them on and has no part in
# what flows. It is stopped (SIGSTOP) here while data goes both ways.
. "$(dirname "$0")/../lib/system.sh"
ready_system
api=$(service_pid container.apiserver)
pipes() # pid: inodes of its pipes
{
	readlink /proc/"$1"/fd/* 2>/dev/null | grep '^pipe:' | sort -u
}
stopped()
{
	[ "$(sed -n 's/^State:.\(.\).*/\1/p' "/proc/$api/status")" = T ]
}
head -c 3000000 /dev/urandom >"$T/blob"
holds() # file want
{
	cmp -s "$1" "$2"
}
(echo one; echo two; cat "$T/blob") >"$T/want"

both_ways() # name command…: cat with its input and output
{
	local name=$1 cli in=$T/in.$RANDOM
	shift
	mkfifo "$in"
	timeout 120 "$C" "$@" <"$in" >"$T/out" 2>"$T/err" 7>&- &
	cli=$!
	exec 7>"$in"
	echo one >&7
	ok "$name: runs" wait_until "$T_LIMIT" grep -q one "$T/out"
	cli_pid=$(pgrep -P $cli)
	ok "$name: the helper has the command's pipes" [ -n "$(comm -12 <(pipes "$cli_pid") <(pipes "$(service_pid container.runtime.box)"))" ]
	is "$name: the apiserver has none of them" "$(comm -12 <(pipes "$cli_pid") <(pipes "$api"))" ''
	kill -STOP "$api"
	ok "$name: the apiserver stands still" wait_until 10 stopped
	echo two >&7
	ok "$name: data flows both ways" wait_until 20 grep -q two "$T/out"
	cat "$T/blob" >&7
	exec 7>&-
	ok "$name: 3 MB too, to the last byte" wait_until 60 holds "$T/out" "$T/want"
	ok "$name: and the apiserver still stands" stopped
	run_rc 124 "$name: it would answer nobody" timeout 1 "$C" list
	kill -CONT "$api"
	ok "$name: the end comes through it" wait $cli
	is "$name: with nothing on standard error" "$(cat "$T/err")" ''
}
both_ways 'run -i' run --rm -i --name box -m 256m --network none demo cat
run_ok 'run -d' "$C" run -d --name box -m 256m --network none demo sleep 1000
both_ways 'exec -i' exec -i box cat
run_ok 'delete' "$C" delete -f box
run_ok 'create' "$C" create --name box -m 256m --network none demo cat
both_ways 'start -ai' start -ai box
is 'it is the same apiserver' "$(service_pid container.apiserver)" "$api"
# Anybody in a container may have a socket to the host, by a 32-bit call whose arguments no filter sees; a stream of somebody else's process is
# still not to be found there.
mkdir "$T/share"
gcc -O2 -static -o "$T/share/dial" "$TOP/tests/lib/vsockdial.c" || bail 'vsockdial compiles'
chmod 755 "$T/share"
run_ok 'run -d' "$C" run -d --name two -m 256m --network none -v "$T/share:/share" demo sleep 1000
log=$CONTAINER_LOG_ROOT/container.runtime.two.log
strays()
{
	[ "$(grep -c 'where nobody listens' "$log")" -ge 16 ]
}
if [[ $("$C" exec -u 7:7 two /share/dial 65536 1 1) == 'nothing in 1 tries' ]]; then
	"$C" exec -u 7:7 two /share/dial 65536 60 100000000 >"$T/dialled" 2>&1 &
	ok 'a user dials all that may come next' wait_until 120 strays # the 16th line is of the 32768th time
	for i in 1 2 3 4 5 6; do
		echo "words $i" | timeout 30 "$C" exec -i two cat
	done >"$T/said" 2>&1
	is 'everybody else has their own streams' "$(cat "$T/said")" "$(printf 'words %s\n' 1 2 3 4 5 6)"
	is 'and the log does not grow by it' "$(grep -c 'where nobody listens' "$log")" 16
	run_ok 'delete' "$C" delete -f two
	wait $!
	unlike 'no stream was anybody'"'"'s' "$(cat "$T/dialled")" 'is ours'
else
	skip 'vsock by socketcall' 'the guest'"'"'s kernel has no 32-bit calls'
fi
stop_system
done_testing
