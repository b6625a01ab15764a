#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Attack class L: images whose layers are lib/hostile_tar.pl's, through `image load`: each is refused, and says what and where, and leaves
# nothing; or it is there, with content that does no harm. In bounded time and memory. And what the image helper asks of the host's kernel
# for an image full of devices, set-user-id files and attributes. No guest runs.
. "$(dirname "$0")/../lib/system.sh"
command -v zstd >/dev/null || skip_all 'zstd is not installed'
mkdir -p "$T/tars"
perl "$TOP/tests/lib/hostile_tar.pl" "$T/tars" || bail 'the corpus is made'
start_system
images=$(service_pid container.images)
content=$CONTAINER_APP_ROOT/content

# case ; exit status ; what is said, behind the image's name ; seconds at most
cases()
{
	cat <<'X'
dotdot;1;layer sha256:[0-9a-f]{12}.*a path with "\.\.": \.\./.*tmp/ct-hostile;20
dotdotmid;1;a path with "\.\.": a/b/\.\./;20
escapes;1;a path with "\.\.": \.\./.\]0.title..\[31mct-hostile;20
absolute;0;;20
parentlink;0;;20
parentloop;1;layer 1.*a/f: too many levels;20
parentfile;0;;20
hardout;1;a path with "\.\.": .*tmp/ct-hostile/passwd;20
hardabsolute;1;layer 1.*h: hard link to etc/passwd;20
hardnothing;1;layer 1.*h: hard link to nothing;20
harddir;1;layer 1.*h: hard link to a, which is a dir;20
hardself;1;layer 1.*h: hard link to h;20
hardroot;1;h: a hard link to the root;20
hardlink;0;;20
whiteoutdots;1;bad whiteout: \.wh\.\.\.;20
whiteoutdot;1;bad whiteout: \.wh\.\.;20
whiteoutnothing;1;bad whiteout: d/\.wh\.;20
whiteoutup;1;bad whiteout: d/\.wh\.\.\.;20
whiteoutdir;1;a whiteout for a directory: \.wh\.d/f;20
whiteoutlink;0;;20
opaquefile;0;;20
opaqueroot;0;;20
devicerange;1;member 1, "d".*device major is out of range;20
deviceminor;1;member 1, "d".*device minor is out of range;20
sizenegative;1;member 1.*size is out of range;20
sizeoverflow;1;member 1.*size is out of range;20
sizewords;1;member 1.*size is out of range;20
sizebeyond;1;"f" .*truncated;20
sizepax;1;"f" .*more than 4398046511104 bytes;20
owner;1;f: owner id out of range;20
ownernegative;1;member 1, "f".*gid is out of range;20
checksum;1;member 1.*checksum mismatch;20
kind;1;member 1.*type 0x5a are not supported;20
paxnul;1;member 1.*bad pax record path;20
name5000;1;member 1, "nnnn.*a path is longer than 4095 bytes;20
path5000;1;member 1, "dir/dir/.*a path is longer than 4095 bytes;20
name256;1;member 1, "nnnn.*a component of a path is longer than 255 bytes;20
link5000;1;member 1, "l".*a link target is longer than 4095 bytes;20
noname;1;member 1.*a member has no name;20
longname;1;member 1.*an extended header of 104857600 bytes;20
millioncomponents;1;member 1.*an extended header of 2000002 bytes;20
millionpax;1;member 1.*an extended header of 2000015 bytes;20
deep;1;layer 1.*directories;20
paxshort;1;member 1.*malformed pax header;20
paxlong;1;member 1.*malformed pax header;20
paxzero;1;member 1.*malformed pax header;20
paxwrap;1;member 1.*malformed pax header;20
paxhuge;1;member 1.*an extended header of 1073741824 bytes;20
paxend;1;member 1.*truncated;20
paxglobal;1;member 1.*bad pax record path;20
sparseoverlap;1;member 1.*bad sparse map of sparse;20
sparsedescend;1;member 1.*bad sparse map of sparse;20
sparsewrap;1;member 1.*bad sparse map of sparse;20
sparsebeyond;1;member 1.*bad sparse map of sparse;20
sparsemore;1;member 1.*the sparse map of sparse does not match its data;20
sparsehuge;1;"sparse" .*more than 4398046511104 bytes;20
sparseold;1;member 1, "s".*sparse offset is out of range;20
gzipcut;1;layer sha256:[0-9a-f]{12}.*gzip data ends too early;20
gzipgarbage;1;layer sha256:[0-9a-f]{12}.*gzip data is damaged;20
gzipchanged;1;layer sha256:[0-9a-f]{12}.*gzip data is damaged: wrong checksum;20
gzipsum;1;layer sha256:[0-9a-f]{12}.*gzip data is damaged: wrong checksum;20
zstdcut;1;layer sha256:[0-9a-f]{12}.*zstd data ends too early;20
zstdwindow;1;its zstd window is 2048 MiB. at most 32 MiB;20
zstdtail;1;more than 64 MiB behind the end;20
zstdbomb;0;;60
duplicates;0;;20
rootfile;1;layer sha256:[0-9a-f]{12}.*the layer's root is not a directory;20
rootlink;1;the layer's root is not a directory;20
rootdevice;1;the layer's root is not a directory;20
rootslashes;1;the layer's root is not a directory;20
rootmode;0;;20
aclbad;1;f.*bad extended attribute system\.posix_acl_access;20
capbad;1;f.*bad extended attribute security\.capability;20
xattrname;1;member 1.*bad extended attribute name;20
xattrmany;1;member 1.*too many extended attributes;20
xattrlong;1;member 1.*too many extended attributes;20
xattrs;0;;20
everything;0;;20
many;0;;60
X
}

# All that there is, and what df makes of it.
state_of_store()
{
	"$C" image list -q | sort
	ls "$content/ingest" "$content/blobs/sha256" "$CONTAINER_APP_ROOT/layers" "$CONTAINER_APP_ROOT/rootfs"
	"$C" system df --format json | jq -c '.images'
}

# What an accepted image holds: type, mode, owners, size, path, link target.
listing() # case
{
	local m l r
	m=$("$C" image inspect "hostile/$1:1" | jq -r '.[0].variants[0].digest')
	r=$CONTAINER_APP_ROOT/rootfs/${m#sha256:}
	cat "$r/meta.erofs" >"$T/disk"
	for l in $(jq -r '.layers[]' "$r/rootfs.json"); do cat "$CONTAINER_APP_ROOT/layers/$l/data" >>"$T/disk"; done
	rm -rf "$T/x"
	mkdir "$T/x"
	fsck.erofs --extract="$T/x" --overwrite "$T/disk" >"$T/fsck" 2>&1 || sed 's/^/fsck.erofs: /' "$T/fsck"
	rm -f "$T/disk"
	find "$T/x" -printf '%y %m %U:%G %s /%P %l\n' | sed 's/^d\(.*\) [0-9]* \//d\1 - \//; s/ $//' | LC_ALL=C sort -k5
}
holds() # case lines
{
	if command -v fsck.erofs >/dev/null; then
		is "L: $1: what is in it" "$(listing "$1")" "$2"
	else
		skip "L: $1: what is in it" 'fsck.erofs is not installed'
	fi
}
ROOT='d 755 0:0 - /'

before=$(state_of_store)
n=0
while IFS=';' read -r case code said most; do
	n=$((n + 1))
	began=${EPOCHREALTIME/./}
	run "$C" image load -i "$T/tars/$case.tar"
	seconds=$(((${EPOCHREALTIME/./} - began) / 1000000))
	is "L: $case: exit status" "$rc" "$code" || t_said
	ok "L: $case: in time ($seconds s)" test "$seconds" -le "$most"
	if [ "$code" = 0 ]; then
		is "L: $case: its name" "$out" "docker.io/hostile/$case:1"
		before=$(state_of_store)
		continue
	fi
	like "L: $case: what is said" "$err" "docker.io/hostile/$case:1.*$said"
	unlike "L: $case: no control characters" "$err" $'[\001-\010\013-\037\177]'
	ok "L: $case: said briefly" test ${#err} -lt 2000
	is "L: $case: nothing has changed" "$(state_of_store)" "$before"
done < <(cases)
is 'every case is in the table' "$n" "$(perl "$TOP/tests/lib/hostile_tar.pl" list | wc -l)"
kib=$(awk '$1 == "VmHWM:" {print $2}' "/proc/$images/status")
ok "L: in less than 64 MiB ($kib KiB)" test "$kib" -lt 65536
is 'L: the same process lives' "$(service_pid container.images)" "$images"

# What is in those that are there.
holds absolute "$ROOT
d 755 0:0 - /tmp
f 644 0:0 12 /tmp/ct-hostile-absolute"
holds parentlink "$ROOT
l 777 0:0 19 /abs /tmp/ct-hostile-abs
l 777 0:0 50 /d ../../../../../../../../../../../../tmp/ct-hostile
d 755 0:0 - /tmp
d 755 0:0 - /tmp/ct-hostile
d 755 0:0 - /tmp/ct-hostile-abs
f 644 0:0 5 /tmp/ct-hostile-abs/f
f 644 0:0 5 /tmp/ct-hostile/f"
holds parentfile "$ROOT
d 755 0:0 - /a
f 644 0:0 1 /a/f"
holds hardlink "$ROOT
l 777 0:0 15 /h /etc/ct-hostile
l 777 0:0 15 /l /etc/ct-hostile"
holds whiteoutlink "$ROOT
l 777 0:0 50 /d ../../../../../../../../../../../../tmp/ct-hostile
f 644 0:0 4 /keep"
holds opaquefile "$ROOT
f 644 0:0 1 /f
f 644 0:0 4 /keep"
holds opaqueroot "$ROOT
f 644 0:0 4 /new"
holds duplicates "$ROOT
f 644 0:0 4 /a
f 644 0:0 6 /b"
holds rootmode 'd 1711 7:0 - /
f 644 0:0 1 /f'
holds xattrs "$ROOT
d 755 0:0 - /d
f 644 0:0 1 /d/f"
holds zstdbomb "$ROOT
f 644 0:0 536870912 /zeros"
# What extracting leaves out is looked at in the metadata.
meta() # case
{
	echo "$CONTAINER_APP_ROOT/rootfs/$("$C" image inspect "hostile/$1:1" | jq -r '.[0].variants[0].digest' | cut -d: -f2)/meta.erofs"
}
is 'L: zstdbomb: on the disk it is as good as nothing' "$(($(du -k -d0 "$(dirname "$(meta zstdbomb)")" | cut -f1) < 100))" 1
is 'L: xattrs: overlayfs hears nothing from an image' "$(grep -caE 'overlay|opaque|redirect|whiteout|selinux' "$(meta xattrs)")" 0
ok 'L: xattrs: others are kept' grep -qa thing "$(meta xattrs)"
if command -v dump.erofs >/dev/null; then
	m=$(meta everything)
	nid=$(dump.erofs --path=/ct-hostile-suid "$m" | sed -n 's/.*NID: \([0-9]*\).*/\1/p')
	at=$(($(od -An -tu4 -j 1064 -N 4 "$m") * 4096 + nid * 32))
	is 'L: everything: set-user-id is for the guest to heed' "$(printf %o $(od -An -tu2 -j $((at + 4)) -N 2 "$m"))" 106755
	# Not every fsck.erofs gives it back.
	is 'L: everything: what is in it' "$(listing everything | sed 's/^f 6755 /f 755 /')" "$ROOT
b 666 0:0 0 /ct-hostile-block
f 644 0:0 1 /ct-hostile-cap
c 666 0:0 0 /ct-hostile-char
d 3777 77:0 - /ct-hostile-dir
p 644 0:0 0 /ct-hostile-fifo
f 755 1234:4321 131072 /ct-hostile-hard
f 755 1234:4321 131072 /ct-hostile-suid
l 777 0:0 11 /ct-hostile-sym /etc/shadow"
	like 'L: many: all of them' "$(dump.erofs -s "$(meta many)")" 'inode count: +400401'
else
	skip 'L: set-user-id, devices, and how many files there are' 'dump.erofs is not installed'
fi

# The host: what the helper and the apiserver ask of its kernel for an image of all that a host should not do for it.
run_ok 'all of them are deleted' "$C" image delete --all
is 'L: and nothing stays' "$(ls "$content/ingest" "$content/blobs/sha256" "$CONTAINER_APP_ROOT/layers" "$CONTAINER_APP_ROOT/rootfs" | grep -c '^[0-9a-f]')" 0
calls() # regex: the calls whose name it is, with their arguments
{
	grep -E "^[0-9]+ +($1)\(" "$T/calls"
}
if command -v strace >/dev/null; then
	api=$(service_pid container.apiserver)
	strace -f -s 200 -o "$T/calls" -p "$images" -p "$api" 2>"$T/strace.err" &
	tracer=$!
	ok 'strace looks on' wait_until 20 bash -c '[ "$(grep -c attached "$1")" -ge 2 ]' - "$T/strace.err" || diag "$(cat "$T/strace.err")"
	for c in everything parentlink absolute; do run_ok "load $c again" "$C" image load -i "$T/tars/$c.tar"; done
	run_rc 1 'and one that tries to get out' "$C" image load -i "$T/tars/dotdot.tar"
	run_ok 'and delete them' "$C" image delete --all
	kill -INT $tracer
	wait $tracer
	ok 'the calls of both were seen' test "$(cut -d' ' -f1 "$T/calls" | sort -u | grep -cxE "$images|$api")" = 2
	ok 'those that change files too' test "$(calls 'renameat2?|rename' | wc -l)" -gt 10
	ok 'with the names of files' grep -q '"data.tmp".*O_CREAT' "$T/calls"
	is 'the host mounts nothing' "$(calls 'mount|umount2?|move_mount|open_tree|fs(open|config|mount|pick)|mount_setattr|pivot_root|chroot|unshare|setns')" ''
	is 'it has no loop device made' "$(calls 'ioctl' | grep -E 'LOOP_|BLK'; grep -E '"/dev/(loop|sd|nbd|mapper)' "$T/calls")" ''
	is 'it makes no device, pipe or link' "$(calls 'mknod(at)?|(sym)?link(at)?')" ''
	is 'it gives no file to anyone' "$(calls '[fl]?chown(at)?|fchownat')" ''
	is 'it gives none an attribute' "$(calls '[fl]?(set|remove)xattr')" ''
	is 'nor a mode or a time of the image' "$(calls 'f?chmod(at2?)?|fchmodat|utime(nsat|s)?|futimesat' | grep -vE 'chmod\([0-9]+, 0600\)')" ''
	is 'what it creates is its own' "$(grep -oE 'O_CREAT.*' "$T/calls" | grep -oE ' 0[0-7]+|mode=0[0-7]+' | grep -vE '^( |mode=)0[67]00$')" ''
	is 'and has no name of the image' "$(calls 'open(at2?)?|creat|mkdir(at)?|rename(at2?)?|unlink(at)?|rmdir|(new|l|f)?f?stat(at|x)?|readlink(at)?|f?access(at2?)?' | grep ct-hostile)" ''
	is 'it runs no program' "$(calls 'execve(at)?')" ''
else
	skip 'what the helper asks of the kernel' 'strace is not installed'
fi
is 'L: nothing got out' "$(find "$T" /tmp /etc /root /var/tmp / -maxdepth 1 -name '*ct-hostile*'; find "$CONTAINER_APP_ROOT" "$CONTAINER_RUN_ROOT" -name '*ct-hostile*')" ''
is 'no program of the host has changed hands' "$(find "$CONTAINER_APP_ROOT" \( ! -user 0 -o -perm /6000 -o -type b -o -type c -o -type l \))" ''
stop_system
done_testing
