#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# copy in and out of a running container by the rules of its destination, tar streams, export, and links in the way.
. "$(dirname "$0")/../lib/system.sh"
ready_system
run_ok 'run -d' "$C" run -d --name box -m 256m demo sleep 600
cd "$T" && mkdir -p src/sub out && echo one >src/a && echo two >src/sub/b && ln -s a src/link && chmod 600 src/a && head -c 3000000 /dev/urandom >big
in_box()
{
	"$C" exec box "$@" 2>/dev/null
}

# In: files.
run_ok 'a file in' "$C" copy src/a box:/tmp/new
is 'prints the destination' "$out" box:/tmp/new
is 'its content' "$(in_box cat /tmp/new)" one
is 'its owner and mode' "$(in_box stat -c '%u:%g %a' /tmp/new)" '0:0 600'
run_ok 'a large file in, by cp' "$C" cp big box:/tmp/
is 'whole' "$(in_box sha256sum /tmp/big | cut -c1-64)" "$(sha256sum big | cut -c1-64)"
run_ok 'onto a file' "$C" cp src/sub/b box:/tmp/new
is 'overwritten' "$(in_box cat /tmp/new)" two
run_rc 1 'a file to a missing name with a slash' "$C" cp src/a box:/tmp/none/
run_ok 'a file over a mounted one' "$C" cp /etc/hosts box:/etc/hosts
# In: directories.
run_ok 'a directory to a new name' "$C" cp src box:/tmp/tree
is 'is that name' "$(in_box sh -c 'cat /tmp/tree/a /tmp/tree/sub/b; readlink /tmp/tree/link')" "one
two
a"
run_ok 'a directory into one' "$C" cp src/ box:/tmp/tree
is 'nests' "$(in_box cat /tmp/tree/src/sub/b)" two
run_ok 'a directory to a new name with a slash' "$C" cp src box:/tmp/fresh/
is 'is made' "$(in_box cat /tmp/fresh/sub/b)" two
run_rc 1 'a directory onto a file' "$C" cp src box:/tmp/new
like 'says so' "$err" 'not a directory'

# Out: the same.
run_ok 'a file out' "$C" cp box:/tmp/big here
ok 'whole' cmp big here
run_ok 'onto a file' "$C" cp box:/tmp/new here
is 'overwritten' "$(cat here)" two
run_ok 'into a directory' "$C" cp box:/tmp/new out/
is 'keeps its name' "$(cat out/new)" two
run_ok 'a directory to a new name' "$C" cp box:/tmp/tree/ outtree
is 'is that name' "$(cat outtree/sub/b)" two
run_ok 'a directory into one' "$C" cp box:/tmp/tree out
is 'nests' "$(cat out/tree/src/sub/b)" two
is 'a link stays one' "$(readlink out/tree/link)" a
run_rc 1 'a directory onto a file' "$C" cp box:/tmp/tree here
run_rc 1 'a file to a missing name with a slash' "$C" cp box:/tmp/new none/
run_rc 1 'a missing file' "$C" cp box:/tmp/nothere here2
like 'names it' "$err" 'nothere'
ok 'and leaves nothing' [ ! -e here2 ]

# Tar streams.
tar -cf t.tar -C src .
rc=0
timeout "$T_LIMIT" "$C" cp - box:/opt <t.tar >"$T/log" 2>&1 || rc=$?
is 'a tar stream in' "$rc:$(in_box cat /opt/sub/b)" 0:two
is 'a tar stream out' "$(timeout "$T_LIMIT" "$C" cp box:/tmp/tree - | tar -tf - | sort | head -3 | tr '\n' ' ')" 'tree/ tree/a tree/link '
run_ok 'export' "$C" export -o all.tar box
is 'the root file system' "$(tar -xOf all.tar tmp/new 2>/dev/null)" two
is 'without what is mounted' "$(tar -tf all.tar | grep -c '^proc/.')" 0
run_rc 1 'not from here to here' "$C" cp src/a here
run_rc 1 'not between containers' "$C" cp box:/tmp/new box:/tmp/new2

# Hostile: links in the way lead nowhere, on either side.
in_box sh -c 'mkdir /tmp/evil; ln -s /proc/self/fd /tmp/evil/fd; ln -s / /tmp/evil/root; ln -s ../../../../.. /tmp/evil/up'
run_ok 'links are copied, not followed' "$C" cp box:/tmp/evil .
is 'as they are' "$(readlink evil/root)" /
# What is there is a link where the container has a directory: nothing goes through it.
in_box sh -c 'mkdir -p /tmp/over/sub/deep && echo over >/tmp/over/sub/file && echo over >/tmp/over/sub/deep/file && echo over >/tmp/over/top && ln -s sub /tmp/over/same'
mkdir -p victim/deep dest/over && ln -s ../../victim dest/over/sub && ln -s "$PWD/victim/file" dest/over/top
run_rc 1 'a link in the place of a directory is refused' "$C" cp box:/tmp/over dest
like 'by its name' "$err" 'over/sub'
run_rc 1 'as contents, too' "$C" cp box:/tmp/over/. dest/over
run_rc 1 'with owners, too' "$C" cp -a box:/tmp/over dest
is 'nothing went through it' "$(find victim | sort | tr '\n' ' ')" 'victim victim/deep '
is 'it is still that link' "$(readlink dest/over/sub)" ../../victim
rm dest/over/sub
run_ok 'without it' "$C" cp box:/tmp/over dest
is 'all is copied, a link in the place of a file replaced' "$([ -L dest/over/top ] || cat dest/over/top dest/over/sub/file dest/over/sub/deep/file | tr '\n' ' ')" 'over over over '
run_ok 'into a path through a link' "$C" cp src/a box:/tmp/evil/root/tmp/through
is 'which stays in the container' "$(in_box cat /tmp/through):$(ls /tmp/through 2>/dev/null)" one:
run_rc 1 "the agent's descriptors are out of reach" "$C" cp src/a box:/tmp/evil/fd/9
run_ok 'stop' "$C" stop -t 0 box
run_ok 'into a stopped container' "$C" cp src/a box:/tmp/x
stop_system
done_testing
