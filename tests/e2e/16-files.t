#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The files of a container that does not run: copy and export boot its disks without it, and it is stopped for everyone else.
. "$(dirname "$0")/../lib/system.sh"
ready_system
cd "$T" && mkdir -p src/sub && echo one >src/a && echo two >src/sub/b && head -c 2000000 /dev/urandom >big
state()
{
	"$C" list -a --format json | jq -r --arg i "$1" '.[] | select(.id == $i) | .status.state'
}
helpers() # of stopped containers' files
{
	pgrep -fc -- '--files \.box'
}
# Bytes that all our processes have in memory of their own, and KiB in files that they have open and du does not see: a guest's memory is neither.
anonymous()
{
	cat $(pgrep -f '^[^ ]*(container|qemu-system)' | sed 's,.*,/proc/&/status,') 2>/dev/null | awk '/^RssAnon/ { n += $2 } END { print n * 1024 }'
}
opened()
{
	{
		find "$T" -xdev -type f -printf '%D:%i\n'
		find -L /dev/null $(find /proc/[0-9]*/fd -lname '*guest-memory*') -printf '%D:%i\n'
		find -L /proc/[0-9]*/fd -mindepth 1 -maxdepth 1 -type f -printf '%D:%i %k\n'
	} 2>/dev/null | awk '!($1 in seen) { n += $2 } { seen[$1] = 1 } END { print n + 0 }'
}
MiB=1048576
# An export whose reader stops after 1 MiB, and goes on later; /root/big has 64.
slow_export() # name
{
	local disk written=0 pid files memory
	files=$(opened) memory=$(anonymous) disk=$(du -sk "$T" | cut -f1)
	rm -f slow.tar
	mkfifo slow.tar
	"$C" export -o slow.tar box &
	pid=$!
	exec 7<>slow.tar 8<slow.tar # so that nothing hangs when nobody opens it
	timeout "$T_LIMIT" dd bs=64k count=16 iflag=fullblock <&8 >first 2>/dev/null
	exec 7>&-
	is "$1: 1 MiB is there at once" "$(stat -c %s first)" $MiB
	ok "$1: with entries" [ "$(tar -tf first 2>/dev/null | wc -l)" -ge 1 ]
	stands()
	{
		local n
		n=$(sed -n 's/^wchar: //p' "/proc/$pid/io")
		[ "$n" = "$written" ] || { written=$n; sleep 0.5; false; }
	}
	ok "$1: then it waits for its reader" wait_until 20 stands
	ok "$1: and has not read ahead ($written bytes)" [ "$written" -ge $MiB -a "$written" -lt $((2 * MiB)) ]
	ok "$1: nor has anybody in memory" [ $(($(anonymous) - memory)) -lt $((12 * MiB)) ]
	ok "$1: nor in a file" [ $(($(opened) - files)) -lt 8192 ]
	ok "$1: nor in one that is closed" [ $(($(du -sk "$T" | cut -f1) - disk)) -lt 8192 ]
	is "$1: all of it comes in the end" "$(cat first - <&8 | tar -xOf - root/big | sha256sum)" "$(head -c $((64 * MiB)) /dev/zero | sha256sum)"
	exec 8<&-
	ok "$1: and the export ends well" wait $pid
	ok "$1: the FIFO is still one" test -p slow.tar
}

# One that never ran.
run_ok 'create' "$C" create --name box --network none -m 256m demo sh -c 'cat /root/a /root/tree/sub/b; sleep 600'
run_ok 'a file into it (testCopyToNonRunningContainerFails: not here)' "$C" cp src/a box:/root/a
is 'it is still stopped' "$(state box)" stopped
run_ok 'a directory into it' "$C" cp src box:/root/tree
is 'by the same helper' "$(helpers)" 1
run_ok 'out again' "$C" cp box:/root/tree back
ok 'the same' diff -r src back
run_rc 1 'a file that is not there' "$C" cp box:/root/none .
like 'names it' "$err" 'none'
run_rc 1 'exec' "$C" exec box true
like 'says that it does not run' "$err" 'not running'
is 'no boot log of that' "$("$C" logs --boot box | wc -c)" 0
run_ok 'start, with the helper still there' "$C" start box
ok 'what was copied is there' wait_until 10 bash -c '[ "$("$1" logs box | tr "\n" " ")" = "one two " ]' - "$C"
is 'the helper is gone' "$(helpers)" 0

# One that ran.
run_ok 'written while it runs' "$C" exec box sh -c 'echo three >/root/c; sync; ln /root/c /root/c2'
run_ok 'testExportCommandRunningContainerAndOverwrite' "$C" export -o live.tar box
run_ok 'onto the same file' "$C" export -o live.tar box
run_ok 'stop' "$C" stop -t 0 box
exit_before=$("$C" inspect box | jq -c '.[0].status')
run_ok 'testExportCommand' "$C" export -o dead.tar box
# Which of the two names is the link depends on the order in the directory.
is 'with the file' "$(tar -xOf dead.tar root/c root/c2)" three
list()
{
	tar -tvf "$1" | awk '{print $1, $2, $3, $6, $7, $8}' | sort
}
is 'the same tree' "$(diff <(list live.tar) <(list dead.tar))" ''
is 'hard links are links' "$(tar -tvf dead.tar | grep -c 'link to root/c')" 1
is 'its exit record is as it was' "$("$C" inspect box | jq -c '.[0].status')" "$exit_before"
run_ok 'to standard output' bash -c '"$1" export box | tar -tf - | grep -c "^root/tree/sub/b"' - "$C"
ok 'the helper goes by itself' wait_until 20 bash -c '! pgrep -f -- "--files \.box" >/dev/null'

# While tasks are at work: a start waits, a delete does not happen, a deletion by force does.
mkfifo slow
head -c 1000000 /dev/zero >pad # more than pipes hold: when it is gone, the task is reading
"$C" cp - box:/root <slow >cp.out 2>&1 &
cp=$!
exec 7>slow
tar -cf - src pad >&7
ok 'a task is at work' wait_until 20 bash -c 'pgrep -f -- "--files \.box" >/dev/null'
sleep 3
run_rc 1 'delete meanwhile' "$C" delete box
like 'says why' "$err" 'being copied'
"$C" start box >start.out 2>&1 7>&- &
start=$!
sleep 1
is 'a start waits' "$(state box) $(kill -0 $start && echo waits)" 'stopped waits'
exec 7>&-
ok 'the task ends well' wait $cp || diag "$(cat cp.out)"
ok 'and then the start' wait $start
is 'what the task wrote' "$("$C" exec box cat /root/src/sub/b)" two
run_ok 'so many zeros' "$C" exec box dd if=/dev/zero of=/root/big bs=1M count=64 conv=fsync
slow_export 'export of one that runs'
run_ok 'stop again' "$C" stop -t 0 box

# The apiserver is killed: its helper goes, and the next one has no trouble.
"$C" cp - box:/root <slow >cp.out 2>&1 &
cp=$!
exec 7>slow
tar -cf - src pad >&7
ok 'a task is at work again' wait_until 20 bash -c 'pgrep -f -- "--files \.box" >/dev/null'
sleep 2
kill -KILL "$(service_pid container.apiserver)"
exec 7>&-
wait $cp
ok 'the helper goes with the apiserver' wait_until 20 bash -c '! pgrep -f -- "--files \.box" >/dev/null'
run_ok 'system start' "$C" system start
is 'no container was taken over' "$(state box)" stopped
is 'nothing is left in the run directory' "$(find "$CONTAINER_RUN_ROOT/c" -name '.*' -mindepth 1 | wc -l)" 0
mkfifo held # what keeps the helper there, so that it does not count
"$C" cp - box:/root <held >cp.out 2>&1 &
cp=$!
exec 9>held
run_ok 'copy' "$C" cp box:/root/a again
slow_export 'export of one that does not'
exec 9>&-
wait $cp
run_ok 'delete, with the helper still there' "$C" delete box
ok 'which goes' wait_until 20 bash -c '! pgrep -f -- "--files \.box" >/dev/null'

# Read-only: copying out works, in does not.
run_ok 'create --read-only' "$C" create --name ro --network none -m 256m --read-only demo true
run_rc 1 'into a read-only one' "$C" cp src/a ro:/root/a
like 'says so' "$err" 'ead-only file system'
run_ok 'out of it' "$C" cp ro:/etc/passwd pw
run_ok 'delete --force' "$C" delete -f ro
stop_system
no_helper()
{
	! pgrep -f container-runtime-linux
}
ok 'no helper is left' wait_until 10 no_helper
done_testing
