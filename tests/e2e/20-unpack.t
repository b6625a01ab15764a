#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What an image's root file system holds, file by file and with all metadata, is what umoci unpacks of the same image: for an image made
# of everything that a layer can say, and for a Debian with changes on top. fsck.erofs has nothing to complain about.
. "$(dirname "$0")/../lib/system.sh"
for tool in skopeo umoci fsck.erofs perl; do
	command -v $tool >/dev/null || skip_all "$tool is not installed"
done
grep -qw erofs /proc/filesystems || skip_all 'this kernel cannot mount EROFS'
export XDG_RUNTIME_DIR=$T TMPDIR=$T
L=$T/oci
attr()
{
	perl "$TOP/tests/lib/tree.pl" set "$@"
}
layer() # image tar
{
	umoci raw add-layer --image "$L:$1" "$2" || bail "umoci takes a layer"
}

# Compares what we make of image $1 with the tree $2, or with what umoci makes of it.
compare() # name [tree]
{
	local disk=$T/disk manifest dir l
	T_LIMIT=300 run_ok "$1: loaded" "$C" image load -i "$T/$1.tar"
	manifest=$("$C" image inspect "test/$1:1" | jq -r '.[0].variants[0].digest')
	dir=$CONTAINER_APP_ROOT/rootfs/${manifest#sha256:}
	cat "$dir/meta.erofs" >"$disk"
	for l in $(jq -r '.layers[]' "$dir/rootfs.json"); do
		cat "$CONTAINER_APP_ROOT/layers/$l/data" >>"$disk"
	done
	run_ok "$1: fsck.erofs is content" fsck.erofs --extract "$disk"
	mkdir -p "$T/mnt"
	mount -t erofs -o ro "$disk" "$T/mnt" 2>/dev/null || mount -t erofs -o ro,loop "$disk" "$T/mnt" || bail "the kernel mounts it"
	[ $# = 2 ] || T_LIMIT=300 run_ok "$1: umoci unpacks it" umoci unpack --image "$L:$1" "$T/bundle"
	perl "$TOP/tests/lib/tree.pl" list "$T/mnt" >"$T/ours.txt" || bail "our tree can be read"
	perl "$TOP/tests/lib/tree.pl" list "${2:-$T/bundle/rootfs}" >"$T/theirs.txt" || bail "the other tree can be read"
	is "$1: every file is as $([ $# = 2 ] && echo tar || echo umoci) has it" "$(diff "$T/theirs.txt" "$T/ours.txt" | head -40)" ''
	diag "$1: $(wc -l <"$T/ours.txt") files"
	umount "$T/mnt"
	rm -rf "$T/bundle" "$disk"
}
# Content and names of a Debian's files; what a container changes left out.
checksums() # root
{
	cd "$1" && find usr srv var/lib -xdev -type f -print0 | LC_ALL=C sort -z | xargs -0 cksum
}
pack() # image
{
	skopeo --tmpdir "$T" --insecure-policy copy -q "oci:$L:$1" "oci-archive:$T/$1.tar:docker.io/test/$1:1" || bail "the archive is made"
}

# ---- everything a layer can say ----
r=$T/a
mkdir -p "$r"/{bin,etc,dev,tmp,dirs/{plain,to-file,to-link,opaque/sub,gone/deep/er},links,sparse,attrs,names,ids}
chmod 1777 "$r/tmp"
chmod 750 "$r/dirs/plain"
head -c 300000 /dev/urandom >"$r/bin/program"
chmod 4755 "$r/bin/program"
ln "$r/bin/program" "$r/bin/second-name"
ln "$r/bin/program" "$r/links/third-name"
: >"$r/etc/empty"
echo 'text' >"$r/etc/text"
head -c 4096 /dev/urandom >"$r/etc/a-block"
head -c 4097 /dev/urandom >"$r/etc/a-block-and-more"
# Compressed or not, in part, and with zeros in between.
mkdir "$r/packed"
for n in 1 4096 4097 65536 65537 131073 1000000; do
	yes "line $n" | head -c "$n" >"$r/packed/text-$n"
done
{ yes a | head -c 100000; head -c 200000 /dev/urandom; head -c 500000 /dev/zero; yes b | head -c 77777; } >"$r/packed/mixed"
{ head -c 70000 /dev/urandom; yes a | head -c 500000; } >"$r/packed/noise-first"
head -c 300000 /dev/zero >"$r/packed/zeros"
ln "$r/packed/mixed" "$r/packed/second-name"
mknod "$r/dev/null" c 1 3
mknod "$r/dev/big" b 259 70000
mkfifo -m 620 "$r/dev/fifo"
ln -s /dirs/plain "$r/links/absolute"
ln -s ../dirs/plain "$r/links/relative"
ln -s ../../../../dirs/plain "$r/links/above-the-root"
ln -s nowhere "$r/links/dangling"
ln -s loop "$r/links/loop"
ln -s "$(printf 'x%.0s' {1..4000})" "$r/links/long"
for d in to-file to-link opaque opaque/sub gone gone/deep/er; do
	echo "$d" >"$r/dirs/$d/file"
done
echo 'becomes a directory' >"$r/dirs/from-file"
ln -s plain "$r/dirs/from-link"
echo lost >"$r/etc/lost"
echo old >"$r/etc/replaced"
long=$(printf 'd%.0s' {1..200})
mkdir -p "$r/names/$long/$long"
echo deep >"$r/names/$long/$long/$(printf 'f%.0s' {1..255})"
ln -s "../names/$long/$long" "$r/names/link-$long"
ln "$r/etc/text" "$r/names/$long/hard-link-to-a-file-that-has-a-short-name"
echo utf >"$r/names/äöü-名前"
echo bytes >"$r/names/$(printf 'not\xff\xfeutf8')"
echo newline >"$r/names/"$'new\nline'
chown 4294967294:4294967294 "$r/ids"
echo ids >"$r/ids/file"
chown 3000000000:4000000000 "$r/ids/file"
chown -h 1000:1001 "$r/links/dangling"
attr "$r/attrs" system.posix_acl_default 0200000001000700ffffffff02000500e803000004000500ffffffff10000500ffffffff20000500ffffffff
echo acl >"$r/attrs/acl"
attr "$r/attrs/acl" system.posix_acl_access 0200000001000600ffffffff02000600e803000004000400ffffffff10000600ffffffff20000400ffffffff
cp /bin/true "$r/attrs/capable"
attr "$r/attrs/capable" security.capability 0100000202000000000000000000000000000000
attr "$r/attrs/capable" user.comment "$(printf 'value' | od -An -tx1 | tr -d ' \n')"
attr "$r/attrs" trusted.thing 00ff00ff
for f in small holes; do
	truncate -s 9M "$r/sparse/$f"
	for at in 0 1000 4000; do
		head -c 5000 /dev/urandom | dd of="$r/sparse/$f" bs=1024 seek=$at conv=notrunc status=none
	done
done
truncate -s 3M "$r/sparse/nothing-but-hole"
for ((i = 0; i < 60; i++)); do
	printf x | dd of="$r/sparse/many" bs=1 seek=$((i * 100000)) conv=notrunc status=none
done
find "$r" -mindepth 1 -depth -exec touch -h -d '2001-02-03 04:05:06.123456789' {} +
touch -h -d '1969-12-31 23:59:58.25' "$r/etc/text" "$r/links/dangling"
touch -d '2106-02-07 06:28:17' "$r/etc/empty"
touch -d '2012-12-12 12:12:12.5' "$r"
chmod 751 "$r"
chown 7:8 "$r"
umoci init --layout "$L"
umoci new --image "$L:all"
# ustar cannot say all of it: it has a layer of its own. GNU's format says sizes and ids in its own way, as do pax's three.
tar -C "$r" --format=pax --xattrs --xattrs-include='*' --numeric-owner --pax-option=delete=atime,delete=ctime --sparse-version=1.0 -S -cf "$T/1.tar" .
layer all "$T/1.tar"
for v in 0.0 0.1; do
	mkdir -p "$T/s/sparse-$v"
	cp --sparse=always "$r/sparse/"* "$T/s/sparse-$v"
	tar -C "$T/s" --format=pax --sparse-version=$v -S -cf "$T/2.tar" "sparse-$v"
	layer all "$T/2.tar"
done
mkdir -p "$T/g/gnu"
cp -a "$r/sparse" "$r/names" "$r/ids" "$T/g/gnu"
tar -C "$T/g" --format=gnu --numeric-owner -cf "$T/3.tar" gnu
layer all "$T/3.tar"
mkdir -p "$T/u/ustar"
cp -a "$r/bin" "$r/links/relative" "$r/dev" "$T/u/ustar"
mkdir -p "$T/u/ustar/$(printf 'p%.0s' {1..90})/$(printf 'q%.0s' {1..50})"
echo prefix >"$T/u/ustar/$(printf 'p%.0s' {1..90})/$(printf 'q%.0s' {1..50})/$(printf 'n%.0s' {1..90})"
tar -C "$T/u" --format=ustar --owner=0 --group=0 --numeric-owner --mtime='2020-02-02 00:00:00' -cf "$T/4.tar" ustar
layer all "$T/4.tar"
for f in v7 oldgnu; do
	mkdir -p "$T/o/$f"
	cp "$r/etc/text" "$T/o/$f"
	ln -s text "$T/o/$f/link"
	tar -C "$T/o" --format=$f --owner=0 --group=0 --numeric-owner -cf "$T/5.tar" $f
	layer all "$T/5.tar"
done
# What changes in an upper layer: whiteouts, opaque directories, types, files below links, a file replaced under its other names.
b=$T/b
mkdir -p "$b"/{etc,dirs/{opaque,from-file,from-link},links,bin}
: >"$b/etc/.wh.lost"
: >"$b/dirs/opaque/.wh..wh..opq"
echo fresh >"$b/dirs/opaque/fresh"
: >"$b/dirs/.wh.gone"
echo 'was a directory' >"$b/dirs/to-file"
ln -s plain "$b/dirs/to-link"
echo in >"$b/dirs/from-file/in"
echo in >"$b/dirs/from-link/in"
echo new >"$b/etc/replaced"
echo 'one name of three' >"$b/bin/second-name"
chmod 700 "$b/dirs/from-file"
chmod 711 "$b/etc"
find "$b" -depth -exec touch -h -d '2005-05-05 05:05:05.050505050' {} +
touch -d '2012-12-12 12:12:12.5' "$b"
chmod 751 "$b"
chown 7:8 "$b"
tar -C "$b" --format=pax --numeric-owner --pax-option=delete=atime,delete=ctime -cf "$T/6.tar" .
layer all "$T/6.tar"
mkdir -p "$T/c/x"
echo 'through a link' >"$T/c/x/f1"
echo 'through a link that says more than the root has' >"$T/c/x/f2"
touch -d '2006-06-06 06:06:06' "$T/c/x"/*
tar -C "$T/c/x" --format=pax --numeric-owner --transform='s,^f1,links/absolute/f1,;s,^f2,links/above-the-root/f2,' -cf "$T/7.tar" f1 f2
layer all "$T/7.tar"
# A name that goes and comes back in one layer.
mkdir -p "$T/d/dirs"
: >"$T/d/dirs/.wh.plain"
mkdir -m 700 "$T/d/dirs/plain"
echo again >"$T/d/dirs/plain/again"
touch -d '2007-07-07' "$T/d/dirs/plain/again" "$T/d/dirs/plain" "$T/d/dirs"
tar -C "$T/d" --format=pax --numeric-owner -cf "$T/8.tar" dirs/.wh.plain dirs/plain
layer all "$T/8.tar"

start_system
pack all
compare all

# ---- Debian, and what somebody did to it ----
if [ -s "$BUILD/images/debian.oci.tar" ]; then
	skopeo --tmpdir "$T" --insecure-policy copy -q "oci-archive:$BUILD/images/debian.oci.tar" "oci:$L:debian" || bail "Debian is there"
	umoci unpack --image "$L:debian" "$T/edit" || bail "umoci unpacks Debian"
	e=$T/edit/rootfs
	rm -rf "$e/usr/share/zoneinfo" "$e/etc/motd" "$e/usr/share/perl5"
	mkdir "$e/usr/share/perl5"
	echo new >"$e/usr/share/perl5/new"
	rm -rf "$e/usr/share/bug"
	ln -s misc "$e/usr/share/bug"
	chmod 700 "$e/etc/apt"
	chown 42:43 "$e/etc/passwd"
	ln "$e/usr/bin/perl" "$e/usr/bin/another-perl" 2>/dev/null
	mkdir -p "$e/srv/data"
	head -c 3000000 /dev/urandom >"$e/srv/data/blob"
	umoci repack --image "$L:debian" "$T/edit" || bail "umoci packs the changes"
	echo more >>"$e/etc/hostname"
	rm -rf "$e/srv/data"
	cp -a "$r/packed" "$e/srv"
	umoci repack --image "$L:debian" "$T/edit" || bail "umoci packs more changes"
	want=$(checksums "$e" | cksum)
	rm -rf "$T/edit"
	pack debian
	compare debian
	set_kernel
	T_LIMIT=300 run_ok 'a guest reads every file of it' "$C" run --rm test/debian:1 bash -c "$(declare -f checksums); checksums / | cksum"
	is 'and reads what umoci has' "$out" "$want"
else
	skip 'Debian' 'it was not made: tests/images/debian.sh'
fi

# ---- GNU's first sparse format, and an attribute without a value, neither of which umoci knows ----
mkdir -p "$T/h/gnu"
cp -a "$r/sparse" "$T/h/gnu"
attr "$T/h/gnu" user.empty ''
chmod 755 "$T/h"
touch -d 2008-08-08 "$T/h/gnu" "$T/h"
tar -C "$T/h" --format=gnu --owner=0 --group=0 --numeric-owner -S -cf "$T/9.tar" .
tar -C "$T/h" --format=pax --owner=0 --group=0 --numeric-owner --xattrs --xattrs-include='*' --no-recursion -cf "$T/10.tar" gnu
umoci new --image "$L:sparse"
layer sparse "$T/9.tar"
layer sparse "$T/10.tar"
pack sparse
mkdir "$T/x"
tar -C "$T/x" --numeric-owner -p -xf "$T/9.tar"
attr "$T/x/gnu" user.empty ''
touch -d 2008-08-08 "$T/x/gnu"
compare sparse "$T/x"

# ---- the root itself: a container has the image's, and keeps what it did to it ----
demo_images
skopeo --tmpdir "$T" --insecure-policy copy -q "oci-archive:$IMAGES/demo.oci.tar" "oci:$L:root" || bail "the demo image is there"
mkdir -m 1751 "$T/rt"
chown 7:8 "$T/rt"
chmod 1751 "$T/rt"
tar -C "$T/rt" --format=pax --numeric-owner -cf "$T/11.tar" .
layer root "$T/11.tar"
pack root
set_kernel
run_ok 'an image whose root is not root:root 755 loads' "$C" image load -i "$T/root.tar"
run_ok 'and runs' "$C" run --name rooted test/root:1 sh -c 'stat -c "%a %u:%g" /; chmod 700 /'
is 'mode and owner of / are the image'"'"'s' "$out" '1751 7:8'
run_ok 'the same container again' "$C" start -a rooted
is 'has / as it left it' "$out" '700 7:8'
stop_system
done_testing
