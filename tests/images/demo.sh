#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# demo.sh <outdir>: makes small images from the distribution's busybox-static with nothing but shell, tar, gzip and sha256sum:
#   demo.oci.tar      OCI layout (docker.io/library/demo:latest), gzip layers
#   demo.docker.tar   docker-archive (demo:docker), plain layers
#   demo.oci.tar.gz   the first, compressed as a whole
# Three layers: the base; one that adds /etc/motd, a file to lose and a directory to empty; one that whites them out.
set -euo pipefail
out=$1
busybox=$(command -v busybox) || { echo "demo.sh: busybox-static is missing: run third_party/deps.sh quickstart" >&2; exit 1; }
self=$(cat "$0" "$busybox" | sha256sum | cut -c1-16)
[ "$(cat "$out/demo.stamp" 2>/dev/null)" = "$self" ] && exit 0
mkdir -p "$out"
exec 9>"$out/demo.lock" # two at a time make one
flock -w 900 9
[ "$(cat "$out/demo.stamp" 2>/dev/null)" = "$self" ] && exit 0
w=$(mktemp -d)
trap 'rm -rf "$w"' EXIT
epoch=@1700000000

layer() # name dir
{
	tar --sort=name --mtime="$epoch" --owner=0 --group=0 --numeric-owner --format=pax \
		--pax-option=exthdr.name=%d/PaxHeaders/%f,delete=atime,delete=ctime --xattrs -C "$2" -cf "$w/$1.tar" .
	gzip -n -9 <"$w/$1.tar" >"$w/$1.tgz"
}
sum()
{
	sha256sum "$1" | cut -d' ' -f1
}

# Base.
r=$w/base
mkdir -p "$r"/{bin,sbin,usr/bin,usr/sbin,etc,root,tmp,var/www,var/tmp,proc,sys,dev,run,home/demo,opt}
install -m 755 "$busybox" "$r/bin/busybox"
"$busybox" --list-full | while read -r a; do
	a=${a#/}
	case $a in
	bin/busybox | linuxrc) continue ;;
	usr/sbin/* | usr/bin/* | bin/* | sbin/*) ;;
	*) continue ;;
	esac
	up=$(dirname "$a" | sed 's,[^/][^/]*,..,g')
	ln -sfn "$up/bin/busybox" "$r/$a"
done
for a in sh ls cat ps ping id env stty; do
	[ -e "$r/bin/$a" ] || ln -sfn busybox "$r/bin/$a"
done
chmod 1777 "$r/tmp" "$r/var/tmp"
chmod 700 "$r/root"
cat >"$r/etc/passwd" <<'X'
root:x:0:0:root:/root:/bin/sh
www-data:x:33:33:www-data:/var/www:/bin/sh
demo:x:1000:1000:demo:/home/demo:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
X
cat >"$r/etc/group" <<'X'
root:x:0:
adm:x:4:www-data
www-data:x:33:
users:x:100:demo
demo:x:1000:
nogroup:x:65534:
X
echo 'demo 1' >"$r/etc/demo-release"
chmod 4755 "$r/bin/busybox" && cp "$r/bin/busybox" "$r/opt/suid" && chmod 755 "$r/bin/busybox" && chmod 4755 "$r/opt/suid"
layer base "$r"

# What the second layer adds and the third takes away again.
r=$w/add
mkdir -p "$r"/etc "$r"/data/old "$r"/data/kept
echo 'a microVM of its own' >"$r/etc/motd"
echo gone >"$r/etc/lost"
echo old >"$r/data/old/file"
echo kept >"$r/data/kept/file"
ln "$r/data/kept/file" "$r/data/kept/hardlink"
layer add "$r"
r=$w/del
mkdir -p "$r"/etc "$r"/data/old
: >"$r/etc/.wh.lost"
: >"$r/data/old/.wh..wh..opq"
echo new >"$r/data/old/fresh"
layer del "$r"

diffs=$(for l in base add del; do printf '"sha256:%s",' "$(sum "$w/$l.tar")"; done)
config='{"created":"2023-11-14T22:13:20Z","architecture":"amd64","os":"linux","config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin","DEMO=1"],"Cmd":["sh"],"Labels":{"demo.from":"image"}},"rootfs":{"type":"layers","diff_ids":['${diffs%,}']},"history":[{"created_by":"busybox-static"},{"created_by":"add"},{"created_by":"whiteouts"}]}'

# OCI layout.
o=$w/oci
mkdir -p "$o/blobs/sha256"
put()
{
	local h
	h=$(sum "$1")
	cp "$1" "$o/blobs/sha256/$h"
	printf '"digest":"sha256:%s","size":%s' "$h" "$(stat -c %s "$1")"
}
printf %s "$config" >"$w/config.json"
layers=$(for l in base add del; do printf '{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",%s},' "$(put "$w/$l.tgz")"; done)
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[%s]}' \
	"$(put "$w/config.json")" "${layers%,}" >"$w/manifest.json"
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"platform":{"os":"linux","architecture":"amd64"},"annotations":{"org.opencontainers.image.ref.name":"docker.io/library/demo:latest","io.containerd.image.name":"docker.io/library/demo:latest"}}]}' \
	"$(put "$w/manifest.json")" >"$o/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$o/oci-layout"
tar --sort=name --mtime="$epoch" --owner=0 --group=0 --numeric-owner -C "$o" -cf "$out/demo.oci.tar.tmp" oci-layout index.json blobs

# docker-archive.
d=$w/docker
mkdir -p "$d"
names=$(for l in base add del; do
	cp "$w/$l.tar" "$d/$(sum "$w/$l.tar").tar"
	printf '"%s.tar",' "$(sum "$w/$l.tar")"
done)
c=$(sum "$w/config.json")
cp "$w/config.json" "$d/$c.json"
printf '[{"Config":"%s.json","RepoTags":["demo:docker"],"Layers":[%s]}]' "$c" "${names%,}" >"$d/manifest.json"
tar --sort=name --mtime="$epoch" --owner=0 --group=0 --numeric-owner -C "$d" -cf "$out/demo.docker.tar" .
gzip -n -1 <"$out/demo.oci.tar.tmp" >"$out/demo.oci.tar.gz"
mv "$out/demo.oci.tar.tmp" "$out/demo.oci.tar"
echo "$self" >"$out/demo.stamp"
