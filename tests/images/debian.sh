#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# debian.sh <outdir>: <outdir>/debian.oci.tar, a Debian 12 of the smallest useful set, by mmdebstrap, umoci and skopeo (about a minute).
set -euo pipefail
out=$1
self=$(sha256sum <"$0" | cut -c1-16)
[ "$(cat "$out/debian.stamp" 2>/dev/null)" = "$self" ] && exit 0
mkdir -p "$out"
exec 9>"$out/debian.lock" # two at a time make one
flock -w 900 9
[ "$(cat "$out/debian.stamp" 2>/dev/null)" = "$self" ] && exit 0
w=$(mktemp -d)
trap 'rm -rf "$w"' EXIT
chmod 755 "$w"
mmdebstrap --quiet --variant=minbase --include=ca-certificates \
	--dpkgopt='path-exclude=/usr/share/doc/*' --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/man/*' \
	bookworm "$w/root.tar" >&2
umoci init --layout "$w/oci"
umoci new --image "$w/oci:12"
umoci raw add-layer --image "$w/oci:12" "$w/root.tar"
umoci config --image "$w/oci:12" --config.cmd bash --os linux --architecture amd64 \
	--config.env PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
skopeo --tmpdir "$w" --insecure-policy copy -q "oci:$w/oci:12" "oci-archive:$w/debian.tar:docker.io/library/debian:12"
mv "$w/debian.tar" "$out/debian.oci.tar"
echo "$self" >"$out/debian.stamp"
