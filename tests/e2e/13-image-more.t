#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Images on their way out and between names: tag, save, push, prune, ids, disk use. No guest runs.
. "$(dirname "$0")/../lib/system.sh"
demo_images
start_system
run_ok 'load' "$C" image load -i "$IMAGES/demo.oci.tar"
digest=$("$C" image inspect demo | jq -r '.[0].id')
D=$CONTAINER_APP_ROOT/content/blobs/sha256

# Names and ids.
run_ok 'tag' "$C" image tag demo example.com/a/demo:2
is 'prints the new name as typed' "$out" 'example.com/a/demo:2'
run_ok 'tag again, short form' "$C" tag "${digest:0:12}" other
is 'prints it' "$out" other
is 'three names' "$("$C" images -q | sort | tr '\n' ' ')" 'demo:latest example.com/a/demo:2 other:latest '
is 'of one image' "$("$C" image list --format json | jq -r '[.[].id] | unique | length')" 1
run_ok 'inspect by id' "$C" image inspect "${digest:0:8}"
is 'finds it' "$(jq -r '.[0].id' <<<"$out")" "$digest"
run_ok 'inspect by whole id' "$C" image inspect "sha256:$digest"
run_rc 1 'an id that nothing has' "$C" image inspect 0000000000
run_rc 1 'three digits are no id' "$C" image inspect "${digest:0:3}"
run_rc 1 'tag of what is not there' "$C" image tag nothing:1 x
like 'names it' "$err" 'nothing:1'
run_rc 1 'a new name with a digest' "$C" image tag demo "x@sha256:$digest"
run_rc 1 'a bad new name' "$C" image tag demo 'Not A Name'
run_rc 1 'an id of several names is not deleted' "$C" rmi "${digest:0:12}"
like 'says why' "$err" '3 names'
run_ok 'one name goes' "$C" rmi other

# save
run_ok 'save' "$C" image save -o "$T/out.tar" demo example.com/a/demo:2
is 'prints the references' "$out" "docker.io/library/demo:latest
example.com/a/demo:2"
is 'an OCI layout' "$(tar -xOf "$T/out.tar" oci-layout)" '{"imageLayoutVersion":"1.0.0"}'
is 'with both names' "$(tar -xOf "$T/out.tar" index.json | jq -r '[.manifests[].annotations["org.opencontainers.image.ref.name"]] | join(" ")')" \
	'docker.io/library/demo:latest example.com/a/demo:2'
is 'blobs once' "$(tar -tf "$T/out.tar" | sort | uniq -d)" ''
is 'the bytes of the store' "$(tar -xOf "$T/out.tar" "blobs/sha256/$digest" | sha256sum | cut -d' ' -f1)" "$digest"
"$C" image save demo 2>"$T/err" >"$T/stdout.tar"
run_ok 'save to standard output, short form' bash -c '"$1" save demo | cmp - "$2"' - "$C" "$T/stdout.tar"
like 'the reference goes to standard error' "$(cat "$T/err")" 'docker.io/library/demo:latest'
is 'nothing behind the end' "$(($(tar -tvf "$T/stdout.tar" --block-number 2>/dev/null | tail -1 | sed 's/block \([0-9]*\):.*/\1/') * 512 + 1024))" \
	"$(stat -c %s "$T/stdout.tar")"
run_ok 'save as docker does' "$C" image save --format docker-archive -o "$T/docker.tar" demo example.com/a/demo:2
is 'one image with two names' "$(tar -xOf "$T/docker.tar" manifest.json | jq -c '.[].RepoTags')" '["demo:latest","example.com/a/demo:2"]'
is 'its layers are plain tars' "$(tar -xOf "$T/docker.tar" "$(tar -xOf "$T/docker.tar" manifest.json | jq -r '.[0].Layers[1]')" | tar -tf - | grep -c motd)" 1
run_rc 1 'a platform that is not there' "$C" image save --platform linux/s390x -o "$T/no.tar" demo
like 'lists what is' "$err" 's390x.*linux/amd64'
ok 'leaves no file' test ! -e "$T/no.tar"
is 'nor a part' "$(ls "$T" | grep -c part)" 0
run_rc 1 'an unknown image' "$C" image save -o "$T/no.tar" demo nothing:1
like 'names it' "$err" 'nothing:1'
run_rc 1 'a reader that leaves' bash -c 'set -o pipefail; "$1" image save demo | head -c 1000 >/dev/null; exit "${PIPESTATUS[0]}"' - "$C"
run_rc 1 'a full disk' "$C" image save -o /dev/full demo
is 'sessions are swept' "$(ls "$CONTAINER_APP_ROOT/content/ingest")" ''

# Both kinds of archive come back as what they were.
run_ok 'delete all' "$C" image delete --all
is 'nothing is left' "$(ls "$D")" ''
run_ok 'load what was saved' "$C" load -i "$T/out.tar"
is 'the same image' "$("$C" image inspect demo | jq -r '.[0].id')" "$digest"
run_ok 'load the docker-archive' "$C" load -i "$T/docker.tar"
if command -v skopeo >/dev/null; then
	sk=(skopeo --tmpdir "$T" --insecure-policy)
	run_ok 'skopeo reads the OCI archive' "${sk[@]}" copy -q "oci-archive:$T/stdout.tar" "dir:$T/dir1"
	is 'byte for byte' "$(sha256sum <"$T/dir1/manifest.json" | cut -d' ' -f1)" "$digest"
	run_ok 'skopeo reads the docker-archive' "${sk[@]}" copy -q "docker-archive:$T/docker.tar:demo:latest" "dir:$T/dir2"
	is 'the same configuration' "$(jq -r .config.digest "$T/dir2/manifest.json")" "$(jq -r .config.digest "$T/dir1/manifest.json")"
else
	skip 'skopeo reads what was saved' 'skopeo is not installed'
fi
if command -v umoci >/dev/null; then
	mkdir "$T/layout"
	tar -C "$T/layout" -xf "$T/stdout.tar"
	run_ok 'umoci reads the OCI archive' umoci stat --json --image "$T/layout:docker.io/library/demo:latest"
else
	skip 'umoci reads what was saved' 'umoci is not installed'
fi

# prune
run_ok 'prune' "$C" image prune
is 'keeps what has a tag' "$out" ''
run_ok 'prune --all' "$C" image prune -a
is 'takes the tagged too' "$(sort <<<"$out" | tr '\n' ' ')" 'docker.io/library/demo:latest example.com/a/demo:2 '
like 'says what it freed' "$err" 'Reclaimed'
is 'and all content' "$(ls "$D" "$CONTAINER_APP_ROOT/layers" "$CONTAINER_APP_ROOT/rootfs" | grep -c '^[0-9a-f]\{64\}$')" 0
stop_system
done_testing
