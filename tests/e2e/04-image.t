#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Image archives: what loads, what is refused, what is left of either.
. "$(dirname "$0")/../lib/system.sh"
demo_images
start_system

run_ok 'load an OCI layout' "$C" image load -i "$IMAGES/demo.oci.tar"
is 'prints the reference' "$out" 'docker.io/library/demo:latest'
run_ok 'load a docker-archive' "$C" image load -i "$IMAGES/demo.docker.tar"
is 'prints its reference' "$out" 'docker.io/library/demo:docker'
run_ok 'list' "$C" image list
like 'header' "$out" '^NAME +TAG +DIGEST'
like 'the first' "$out" 'demo +latest +[0-9a-f]{12}'
like 'the second' "$out" 'demo +docker +[0-9a-f]{12}'
is 'list -q' "$("$C" image list -q | sort | tr '\n' ' ')" 'demo:docker demo:latest '
run_ok 'inspect' "$C" image inspect demo
is 'inspect has the name' "$(jq -r '.[0].configuration.name' <<<"$out")" 'docker.io/library/demo:latest'
want=$(tar -xOf "$IMAGES/demo.oci.tar" index.json | jq -r '.manifests[0].digest')
is 'and the digest of the archive' "$(jq -r '.. | .digest? // empty' <<<"$out" | grep -c "$want" | sed 's/[1-9][0-9]*/yes/')" yes
is 'and the platform' "$(jq -r '.[0].variants[0].platform | .os + "/" + .architecture' <<<"$out")" linux/amd64
is 'and the configuration' "$(jq -r '.[0].variants[0].config.config.Labels["demo.from"]' <<<"$out")" image
run_ok 'list --format json' "$C" image list --format json
is 'two images' "$(jq length <<<"$out")" 2

# The content store is an OCI image layout that other tools can read.
if command -v skopeo >/dev/null; then
	run skopeo inspect --raw "oci:$CONTAINER_APP_ROOT/content:docker.io/library/demo:latest"
	if [ $rc != 0 ]; then
		run bash -c 'jq -r ".manifests[].digest" "$1/content/index.json"' - "$CONTAINER_APP_ROOT"
		like 'the store is an OCI layout' "$out" 'sha256:'
	else
		like 'skopeo reads the store' "$out" 'layers'
	fi
fi
bad=0
for b in "$CONTAINER_APP_ROOT"/content/blobs/sha256/*; do
	[ "$(sha256sum <"$b" | cut -d' ' -f1)" = "${b##*/}" ] || bad=1
done
is 'every blob has the digest of its name' $bad 0
if command -v fsck.erofs >/dev/null; then
	for r in "$CONTAINER_APP_ROOT"/rootfs/*/; do
		cat "$r/meta.erofs" $(jq -r '.layers[]' "$r/rootfs.json" | sed "s,.*,$CONTAINER_APP_ROOT/layers/&/data,") >"$T/disk"
		run_ok 'fsck.erofs is content with the root file system' fsck.erofs "$T/disk"
	done
	mkdir -p "$T/x"
	run_ok 'fsck.erofs extracts it' fsck.erofs --extract="$T/x" --overwrite "$T/disk"
	ok 'whited-out file is not in it' test ! -e "$T/x/etc/lost"
	ok 'an opaque directory hides what was below' test ! -e "$T/x/data/old/file"
	is 'and shows what came with it' "$(cat "$T/x/data/old/fresh")" new
	is 'sticky /tmp' "$(stat -c %a "$T/x/tmp")" 1777
	rm -rf "$T/x" "$T/disk"
else
	skip 'fsck.erofs' 'erofs-utils is not installed'
fi

run_ok 'delete one name' "$C" image delete demo:docker
is 'it is gone' "$("$C" image list -q)" 'demo:latest'
run_ok 'load gzip' "$C" image load -i "$IMAGES/demo.oci.tar.gz"
run_rc 0 'testImageSaveAndLoadStdinStdout: load from standard input' bash -c '"$1" image load <"$2"' - "$C" "$IMAGES/demo.docker.tar"
run_ok 'delete both' "$C" image delete demo demo:docker
is 'none is left' "$("$C" image list -q)" ''
is 'nor their blobs' "$(ls "$CONTAINER_APP_ROOT/content/blobs/sha256" | wc -l)" 0
is 'nor their layers' "$(ls "$CONTAINER_APP_ROOT/layers" | wc -l)" 0

# Archives by skopeo.
if command -v skopeo >/dev/null; then
	skopeo --tmpdir "$T" --insecure-policy copy -q "oci-archive:$IMAGES/demo.oci.tar" "docker-archive:$T/sk.docker.tar:example.com/sk:1" &&
		skopeo --tmpdir "$T" --insecure-policy copy -q "oci-archive:$IMAGES/demo.oci.tar" "oci-archive:$T/sk.oci.tar:example.com/sk:2"
	run_ok "skopeo's docker-archive" "$C" image load -i "$T/sk.docker.tar"
	is 'has its name' "$out" 'example.com/sk:1'
	run_ok "skopeo's OCI archive" "$C" image load -i "$T/sk.oci.tar"
	like 'has a name' "$out" '[a-z]'
else
	skip 'archives by skopeo' 'skopeo is not installed'
fi

# What is refused loses nothing.
run_ok 'reload' "$C" image load -i "$IMAGES/demo.oci.tar"
head -c 700000 "$IMAGES/demo.oci.tar" >"$T/cut.tar"
run_rc 1 'a truncated archive' "$C" image load -i "$T/cut.tar"
is 'prints nothing on stdout' "$out" ''
like 'says why' "$err" 'Error'
head -c 700000 "$IMAGES/demo.oci.tar.gz" >"$T/cut.tar.gz"
run_rc 1 'a truncated gzip' "$C" image load -i "$T/cut.tar.gz"
head -c 300000 /dev/urandom >"$T/noise.tar"
run_rc 1 'noise' "$C" image load -i "$T/noise.tar"
: >"$T/empty.tar"
run_rc 1 'an empty file' "$C" image load -i "$T/empty.tar"
run_rc 1 'a missing file' "$C" image load -i "$T/not-here.tar"
like 'names it' "$err" 'not-here.tar'

mkdir "$T/l"
tar -C "$T/l" -xf "$IMAGES/demo.oci.tar"
big=$(ls -S "$T"/l/blobs/sha256/* | head -1)
chmod u+w "$big"
printf X | dd of="$big" bs=1 seek=1000 conv=notrunc 2>/dev/null
tar -C "$T/l" -cf "$T/flip.tar" oci-layout index.json blobs
run_rc 1 'a layer with a flipped byte' "$C" image load -i "$T/flip.tar"
like 'names the digest' "$err" 'digest|sha256'
rm "$big"
tar -C "$T/l" -cf "$T/lack.tar" oci-layout index.json blobs
# shellcheck disable=SC2046
"$C" image delete $("$C" image list -q) >/dev/null 2>&1
run_rc 1 'a layer that is neither in the archive nor in the store' "$C" image load -i "$T/lack.tar"
run_ok 'reload' "$C" image load -i "$IMAGES/demo.oci.tar"
before=$("$C" image list -q | sort)

mkdir -p "$T/evil/a"
echo evil >"$T/evil/a/x"
tar -C "$T/evil/a" -P --transform 's,^x,../../../../../../tmp/ct-escape,' -cf "$T/dots.tar" x
cat "$IMAGES/demo.oci.tar" >"$T/dots2.tar"
tar -P --transform 's,^x,../../ct-escape,' -C "$T/evil/a" -rf "$T/dots2.tar" x
run_rc 1 'testImageLoadRejectsInvalidMembersWithoutForce' "$C" image load -i "$T/dots2.tar"
ok 'testImageLoadRejectsInvalidMembersWithoutForce: nothing came out of it' test ! -e "$T/ct-escape"
run_ok 'testImageLoadAcceptsInvalidMembersWithForce' "$C" image load --force -i "$T/dots2.tar"
like 'testImageLoadAcceptsInvalidMembersWithForce: a warning names it' "$err" 'ct-escape'
ok 'testImageLoadAcceptsInvalidMembersWithForce: nor now' test ! -e "$T/ct-escape"
run_rc 1 'an unknown image: inspect' "$C" image inspect no-such-image
like 'names it' "$err" 'no-such-image'
run_rc 1 'an unknown image: delete' "$C" image delete no-such-image
run_rc 1 'an unknown image: run' "$C" run --rm no-such-registry.invalid/none true
is 'the images are those from before' "$("$C" image list -q | sort)" "$before"
is 'no temporary files are left' "$(find "$CONTAINER_APP_ROOT" -name '*.tmp*' -o -name '.tmp*' -type f | wc -l)" 0

# A disk that fills up while unpacking.
mkdir "$T/small"
mount -t tmpfs -o size=3m small "$T/small"
stop_system
use_roots "$T/f"
export CONTAINER_APP_ROOT=$T/small/app
start_system
run_rc 1 'a full disk' "$C" image load -i "$IMAGES/demo.oci.tar"
like 'says so' "$err" '[Nn]o space left'
run_ok 'the helper is well' "$C" image list
is 'no image' "$("$C" image list -q)" ''
mount -o remount,size=64m "$T/small"
run_ok 'with room it loads' "$C" image load -i "$IMAGES/demo.oci.tar"
head -c 100M /dev/zero >"$T/small/filler" 2>/dev/null
is 'not a block is left' "$(stat -f -c %a "$T/small")" 0
run_ok 'R: then it can still be deleted' "$C" image delete demo
is 'R: it is gone' "$("$C" image list -q)" ''
is 'R: with all it had' "$(ls "$T/small/app/content/blobs/sha256" "$T/small/app/layers" "$T/small/app/rootfs" | grep -c '^[0-9a-f]\{64\}$')" 0
stop_system
done_testing
