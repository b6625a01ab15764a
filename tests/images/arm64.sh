#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# arm64.sh <outdir>: what the test of foreign architectures needs, from the distribution's packages, installing nothing:
#   arm64.oci.tar          docker.io/library/arm64demo:latest for linux/arm64: busybox-static of that architecture
#   qemu-aarch64-static    the emulator for it
set -euo pipefail
out=$1
mkdir -p "$out"
self=$(sha256sum "$0" | cut -c1-16)
[ "$(cat "$out/arm64.stamp" 2>/dev/null)" = "$self" ] && exit 0
mkdir -p "$out"
exec 9>"$out/arm64.lock" # two at a time make one
flock -w 900 9
[ "$(cat "$out/arm64.stamp" 2>/dev/null)" = "$self" ] && exit 0
here=$(cd "$(dirname "$0")" && pwd)
w=$(mktemp -d)
trap 'rm -rf "$w"' EXIT

"$here/../../third_party/fetch-deb.sh" qemu-user-static "$w/qemu"
# The host's apt knows its own architecture only, and is to stay so: lists and caches of our own.
mkdir -p "$w"/apt/{lists/partial,cache/archives/partial} "$w/deb" && touch "$w/apt/status" && chmod -R 755 "$w"
apt=(-q -o APT::Architecture=arm64 -o APT::Architectures::=arm64 -o Dir::State::status="$w/apt/status" -o Dir::State::lists="$w/apt/lists"
	-o Dir::Cache="$w/apt/cache" -o APT::Sandbox::User=root -o Acquire::Retries=3 -o Acquire::Languages=none)
apt-get "${apt[@]}" update >&2
(cd "$w/deb" && apt-get "${apt[@]}" download busybox-static >&2)
dpkg-deb -x "$w"/deb/*.deb "$w/busybox"

r=$w/root
mkdir -p "$r"/{bin,etc,tmp,proc,sys,dev}
install -m 755 "$(ls -d "$w"/busybox/{bin,usr/bin}/busybox 2>/dev/null | head -1)" "$r/bin/busybox"
for a in sh uname cat echo ls id sleep env; do
	ln -s busybox "$r/bin/$a"
done
echo 'root:x:0:0:root:/root:/bin/sh' >"$r/etc/passwd"
printf '#!/bin/sh\necho "script $0 $1"\n' >"$r/bin/script" && chmod 755 "$r/bin/script"

epoch=@1700000000
tar --sort=name --mtime="$epoch" --owner=0 --group=0 --numeric-owner -C "$r" -cf "$w/layer.tar" .
gzip -n -1 <"$w/layer.tar" >"$w/layer.tgz"
o=$w/oci
mkdir -p "$o/blobs/sha256"
put()
{
	local h
	h=$(sha256sum "$1" | cut -d' ' -f1)
	cp "$1" "$o/blobs/sha256/$h"
	printf '"digest":"sha256:%s","size":%s' "$h" "$(stat -c %s "$1")"
}
printf '{"architecture":"arm64","os":"linux","variant":"v8","config":{"Env":["PATH=/bin"],"Cmd":["sh"]},"rootfs":{"type":"layers","diff_ids":["sha256:%s"]}}' \
	"$(sha256sum "$w/layer.tar" | cut -d' ' -f1)" >"$w/config.json"
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.manifest.v1+json","config":{"mediaType":"application/vnd.oci.image.config.v1+json",%s},"layers":[{"mediaType":"application/vnd.oci.image.layer.v1.tar+gzip",%s}]}' \
	"$(put "$w/config.json")" "$(put "$w/layer.tgz")" >"$w/manifest.json"
printf '{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[{"mediaType":"application/vnd.oci.image.manifest.v1+json",%s,"platform":{"os":"linux","architecture":"arm64","variant":"v8"},"annotations":{"org.opencontainers.image.ref.name":"docker.io/library/arm64demo:latest","io.containerd.image.name":"docker.io/library/arm64demo:latest"}}]}' \
	"$(put "$w/manifest.json")" >"$o/index.json"
printf '{"imageLayoutVersion":"1.0.0"}' >"$o/oci-layout"
tar --sort=name --mtime="$epoch" --owner=0 --group=0 --numeric-owner -C "$o" -cf "$out/arm64.oci.tar" oci-layout index.json blobs
install -m 755 "$w/qemu/usr/bin/qemu-aarch64-static" "$out/qemu-aarch64-static"
echo "$self" >"$out/arm64.stamp"
