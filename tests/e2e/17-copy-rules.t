#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Apple's tests of copy, by their names (TestCLICopyCommand): one side a container, the other here.
. "$(dirname "$0")/../lib/system.sh"
ready_system
run_ok 'run -d' "$C" run -d --name box --network none -m 256m demo sleep 600
cd "$T" && mkdir w && cd w
# What is to be copied, on both sides the same: f, and d with a file and a directory with one.
mkdir -p d/sub && echo content >f && echo one >d/a && echo two >d/sub/b
in_box()
{
	"$C" exec box "$@" 2>/dev/null
}
in_box sh -c 'mkdir -p /s/d/sub /t && cd /s && echo content >f && echo one >d/a && echo two >d/sub/b'
T_DIR=0
fresh() # a name for a destination, on either side
{
	T_DIR=$((T_DIR + 1))
	N=t$T_DIR
}
tree() # dir: "one two" when it holds the tree
{
	cat "$1/a" "$1/sub/b" 2>/dev/null | tr '\n' ' '
}
tree_in()
{
	in_box cat "$1/a" "$1/sub/b" | tr '\n' ' '
}

run_ok 'testCopyHostToContainer' "$C" copy f box:/t/h2c
is 'testCopyHostToContainer: content' "$(in_box cat /t/h2c)" content
run_ok 'testCopyContainerToHost' "$C" copy box:/s/f c2h
is 'testCopyContainerToHost: content' "$(cat c2h)" content
run_ok 'testCopyUsingCpAlias' "$C" cp box:/s/f alias
is 'testCopyUsingCpAlias: content' "$(cat alias)" content
run_rc 1 'testCopyLocalToLocalFails' "$C" copy f g
run_rc 1 'testCopyContainerToContainerFails' "$C" copy box:/s/f box:/s/g
run_ok 'testCopyDirectoryHostToContainer' "$C" copy d box:/t
is 'testCopyDirectoryHostToContainer: nests' "$(tree_in /t/d)" 'one two '
run_ok 'testCopyDirectoryContainerToHost' "$C" copy box:/s/d renamed
is 'testCopyDirectoryContainerToHost: renames' "$(tree renamed)" 'one two '
run_ok 'testCopyNestedDirectoryHostToContainer' "$C" copy d box:/t/new
is 'testCopyNestedDirectoryHostToContainer: renames' "$(tree_in /t/new)" 'one two '
mkdir nest
run_ok 'testCopyNestedDirectoryContainerToHost' "$C" copy box:/s/d nest
is 'testCopyNestedDirectoryContainerToHost: nests' "$(tree nest/d)" 'one two '

# Out.
echo old >exists
run_ok 'testCopyOutFileToExistingFile' "$C" copy box:/s/f exists
is 'testCopyOutFileToExistingFile: overwritten' "$(cat exists)" content
run_rc 1 'testCopyOutDirectoryToExistingFileFails' "$C" copy box:/s/d exists
mkdir o1 o2 o3 o4 o5 o6
run_ok 'testCopyOutFileToExistingDirectory' "$C" copy box:/s/f o1
is 'testCopyOutFileToExistingDirectory: its name' "$(cat o1/f)" content
run_ok 'testCopyOutDirectoryToExistingDirectory' "$C" copy box:/s/d o2
is 'testCopyOutDirectoryToExistingDirectory: nests' "$(tree o2/d)" 'one two '
run_rc 1 'testCopyOutFileToNonExistingTrailingSlashFails' "$C" copy box:/s/f none/
run_ok 'testCopyOutDirectoryToNonExistingTrailingSlash' "$C" copy box:/s/d made/
is 'testCopyOutDirectoryToNonExistingTrailingSlash: filled' "$(tree made)" 'one two '
run_ok 'testCopyOutFileToExistingDirectoryTrailingSlash' "$C" copy box:/s/f o3/
is 'testCopyOutFileToExistingDirectoryTrailingSlash: its name' "$(cat o3/f)" content
run_ok 'testCopyOutDirectoryToExistingDirectoryTrailingSlash' "$C" copy box:/s/d o4/
is 'testCopyOutDirectoryToExistingDirectoryTrailingSlash: nests' "$(tree o4/d)" 'one two '
run_ok 'testCopyOutDirectoryContentsToNonExisting' "$C" copy box:/s/d/ made2
is 'testCopyOutDirectoryContentsToNonExisting: filled' "$(tree made2)" 'one two '
run_rc 1 'testCopyOutDirectoryContentsToExistingFileFails' "$C" copy box:/s/d/ exists
run_ok 'testCopyOutDirectoryContentsToExistingDirectory' "$C" copy box:/s/d/ o5
is 'testCopyOutDirectoryContentsToExistingDirectory: nests' "$(tree o5/d)" 'one two '
run_ok 'testCopyOutDirectoryContentsToNonExistingTrailingSlash' "$C" copy box:/s/d/ made3/
is 'testCopyOutDirectoryContentsToNonExistingTrailingSlash: filled' "$(tree made3)" 'one two '
run_ok 'testCopyOutDirectoryContentsToExistingDirectoryTrailingSlash' "$C" copy box:/s/d/ o6/
is 'testCopyOutDirectoryContentsToExistingDirectoryTrailingSlash: nests' "$(tree o6/d)" 'one two '
mkdir cwd
run_ok 'testCopyOutRelativeDestinationPath' bash -c 'cd cwd && "$1" copy box:/s/f ./rel' - "$C"
is 'testCopyOutRelativeDestinationPath: there' "$(cat cwd/rel)" content

# In.
in_box sh -c 'cd /t && echo old >exists && mkdir i1 i2 i4 i6'
run_ok 'testCopyInFileToExistingFile' "$C" copy f box:/t/exists
run_rc 1 'testCopyInDirectoryToExistingFileFails' "$C" copy d box:/t/exists
run_ok 'testCopyInFileToExistingDirectory' "$C" copy f box:/t/i1
run_ok 'testCopyInDirectoryToExistingDirectory' "$C" copy d box:/t/i2
run_rc 1 'testCopyInFileToNonExistingTrailingSlashFails' "$C" copy f box:/t/none/
run_ok 'testCopyInDirectoryToNonExistingTrailingSlash' "$C" copy d box:/t/made/
run_ok 'testCopyInDirectoryContentsToNonExisting' "$C" copy d/ box:/t/made2
run_rc 1 'testCopyInDirectoryContentsToExistingFileFails' "$C" copy d/ box:/t/exists
run_ok 'testCopyInDirectoryContentsToExistingDirectory' "$C" copy d/ box:/t/i4
run_ok 'testCopyInDirectoryContentsToNonExistingTrailingSlash' "$C" copy d/ box:/t/made3/
run_ok 'testCopyInDirectoryContentsToExistingDirectoryTrailingSlash' "$C" copy d/ box:/t/i6/
run_ok 'testCopyInRelativeSourcePath' bash -c 'cd d && "$1" copy ./a box:/t/rel' - "$C"
is 'testCopyIn…: the files' "$(in_box sh -c 'cd /t && cat exists i1/f rel' | tr '\n' ' ')" 'content content one '
is 'testCopyIn…Directory…: the trees' "$(for d in i2/d made made2 i4/d made3 i6/d; do tree_in /t/$d; done)" 'one two one two one two one two one two one two '

# docker's: what is in a directory, links followed, holes, owners, quietly.
run_ok 'contents of a directory in' "$C" cp d/. box:/t/i1
is 'beside what is there' "$(in_box cat /t/i1/f /t/i1/a | tr '\n' ' ')" 'content one '
run_ok 'contents of a directory out' "$C" cp box:/s/d/. o1
is 'beside what is there, too' "$(cat o1/f o1/sub/b | tr '\n' ' ')" 'content two '
ln -s f lnk && in_box ln -s /s/f /s/lnk
run_ok 'a link is followed in with -L' "$C" cp -qL lnk box:/t/lnk
is 'quietly' "$out" ''
run_ok 'a link is followed out with -L' "$C" cp -L box:/s/lnk lnk2
is 'a file, under the name of the link' "$([ -L lnk2 ] || cat lnk2) $(in_box sh -c '[ -L /t/lnk ] || cat /t/lnk')" 'content content'
truncate -s 600M holes && printf end | dd of=holes bs=1 seek=400000000 conv=notrunc 2>/dev/null
run_ok 'a file with holes in' "$C" cp holes box:/t/holes
is 'they are holes there' "$(in_box sh -c 'stat -c %s /t/holes; [ $(stat -c %b /t/holes) -lt 1000 ] && echo sparse; dd if=/t/holes bs=1 skip=400000000 count=3 2>/dev/null' | tr '\n' ' ')" '629145600 sparse end'
run_ok 'and out' "$C" cp box:/t/holes holes2
ok 'the same' cmp holes holes2
ok 'with holes' [ "$(stat -c %b holes2)" -lt 1000 ]
in_box sh -c 'cd /s && mkdir own && echo x >own/x && chown 33:1000 own/x && chmod 4711 own/x && chmod 750 own && ln own/x own/y'
run_ok 'with owners out' "$C" cp -a box:/s/own own
is 'as they were' "$(stat -c '%u:%g %a %h' own/x) $(stat -c %a own)" '33:1000 4711 2 750'
run_ok 'and in' "$C" cp -a own box:/t/own
is 'the same there' "$(in_box stat -c '%u:%g %a %h' /t/own/x)" '33:1000 4711 2'
run_ok 'without' "$C" cp own box:/t/own2
is 'owned by root, with no set-id bits' "$(in_box stat -c '%u:%g %a' /t/own2/x)" '0:0 711'

# Class N: a path that changes while it is used leads nowhere. Each place it leads to has its own word in the file, none of which is here.
in_box sh -c 'mkdir -p /n/real /n/other && echo inner-real >/n/real/passwd && echo inner-other >/n/other/passwd && sed -i 1iinner-etc /etc/passwd
	cd /n; (while [ ! -e /n/enough ]; do ln -sfn /n/real x; ln -sfn /proc/self/fd x; ln -sfn /etc x; ln -sfn /n/other x; done) >/dev/null 2>&1 &'
race='' tries=0 came=0 went=0
# Some fail, where the link leads to descriptors or is just being replaced: until three of each kind did not.
while [ $tries -lt 6 ] || { [ $came -lt 3 ] || [ $went -lt 3 ]; } && [ $tries -lt 60 ]; do
	tries=$((tries + 1))
	"$C" cp box:/n/x/passwd "race$tries" >/dev/null 2>&1 && race+=$(head -1 "race$tries")$'\n' && came=$((came + 1))
	"$C" cp -q f box:/n/x/from-here >/dev/null 2>&1 && went=$((went + 1))
done
in_box touch /n/enough
diag "of $tries copies $came came out and $went went in"
ok 'a link that changes: copies come out' [ $came -gt 0 ]
is 'of what the container has only' "$(grep -vnE '^inner-(real|other|etc)$' <<<"${race%$'\n'}")" ''
ok 'copies go in' [ $went -gt 0 ]
is 'to a place of the container' "$(in_box sh -c 'cat /n/real/from-here /n/other/from-here /etc/from-here 2>/dev/null' | sort -u)" content
ok 'and nothing of it here' [ ! -e /etc/from-here ]
stop_system
done_testing
