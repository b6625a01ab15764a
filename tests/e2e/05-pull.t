#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Pulling from a registry: Debian's docker-registry on loopback, filled by skopeo.
. "$(dirname "$0")/../lib/system.sh"
command -v skopeo >/dev/null || skip_all 'skopeo is not installed'
demo_images
start_registry
registry=$!
start_system
copy()
{
	skopeo --tmpdir "$T" --insecure-policy copy -q --dest-tls-verify=false "$@" >&2
}
copy "oci-archive:$IMAGES/demo.oci.tar" "docker://$REGISTRY/demo:1" || bail 'the registry is filled'
copy --format v2s2 "docker-archive:$IMAGES/demo.docker.tar" "docker://$REGISTRY/demo:v2s2" || bail 'the registry is filled'

run_ok 'pull (testPull)' "$C" image pull "$REGISTRY/demo:1"
is 'prints the reference' "$out" "$REGISTRY/demo:1"
like 'progress on stderr' "$err" '[A-Za-z]'
run_ok 'pull again' "$C" image pull "$REGISTRY/demo:1"
run_ok 'container pull is short for it; docker schema 2' "$C" pull --scheme http "$REGISTRY/demo:v2s2"
is 'testPullMulti: both are listed' "$("$C" image list -q | sort | tr '\n' ' ')" "$REGISTRY/demo:1 $REGISTRY/demo:v2s2 "
run_ok 'progress none' "$C" image pull --progress none "$REGISTRY/demo:1"
is 'is silent' "$err" ''


# The store is an OCI layout for other tools, whatever types an image came with.
for tag in 1 v2s2; do
	run_ok "skopeo reads $tag from the store" skopeo --tmpdir "$T" --insecure-policy copy "oci:$CONTAINER_APP_ROOT/content:$REGISTRY/demo:$tag" "dir:$T/dir-$tag"
done
is 'as an OCI image' "$(jq -r '.mediaType + " " + (.layers | map(.mediaType) | unique | join(" "))' "$T/dir-v2s2/manifest.json")" \
	'application/vnd.oci.image.manifest.v1+json application/vnd.oci.image.layer.v1.tar+gzip'
# What df says is what the disk says: du counts directories too.
used=$("$C" system df --format json | jq .images.sizeInBytes)
real=$(du -sB1 "$CONTAINER_APP_ROOT"/{content/blobs,layers,rootfs} | awk '{ s += $1 } END { print s }')
ok "df says what is allocated: $used, du $real" test "$((real - used))" -ge 0 -a "$((real - used))" -le $((64 * 4096))

# An index with two platforms: amd64 is ours, arm64 says so in its configuration.
digest=$(curl -fsI -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$REGISTRY/v2/demo/manifests/1" |
	tr -d '\r' | sed -n 's/^[Dd]ocker-[Cc]ontent-[Dd]igest: //p')
manifest=$(curl -fs -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$REGISTRY/v2/demo/manifests/1")
put_blob() # text: prints digest
{
	local d loc
	d=sha256:$(printf %s "$1" | sha256sum | cut -d' ' -f1)
	loc=$(curl -fsi -X POST "http://$REGISTRY/v2/demo/blobs/uploads/" | tr -d '\r' | sed -n 's/^[Ll]ocation: //p')
	printf %s "$1" | curl -fs -X PUT --data-binary @- -H 'Content-Type: application/octet-stream' "$loc&digest=$d" >/dev/null
	echo "$d"
}
put_manifest() # tag type text
{
	printf %s "$3" | curl -fs -X PUT --data-binary @- -H "Content-Type: $2" "http://$REGISTRY/v2/demo/manifests/$1"
}
config=$(curl -fsL "http://$REGISTRY/v2/demo/blobs/$(jq -r .config.digest <<<"$manifest")")
arm_config=$(jq -c '.architecture = "arm64"' <<<"$config")
arm_digest=$(put_blob "$arm_config")
arm=$(jq -c --arg d "$arm_digest" --argjson n ${#arm_config} '.config.digest = $d | .config.size = $n' <<<"$manifest")
put_manifest arm application/vnd.oci.image.manifest.v1+json "$arm"
arm_manifest=sha256:$(printf %s "$arm" | sha256sum | cut -d' ' -f1)
index=$(jq -nc --arg a "$digest" --argjson an ${#manifest} --arg b "$arm_manifest" --argjson bn ${#arm} '{schemaVersion: 2,
	mediaType: "application/vnd.oci.image.index.v1+json", manifests: [
	{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $b, size: $bn, platform: {os: "linux", architecture: "arm64"}},
	{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $a, size: $an, platform: {os: "linux", architecture: "amd64"}}]}')
put_manifest multi application/vnd.oci.image.index.v1+json "$index"
run_ok 'pull of an index (testPullPlatform)' "$C" image pull --platform linux/amd64 "$REGISTRY/demo:multi"
run "$C" image inspect "$REGISTRY/demo:multi"
is 'has the platform asked for' "$(jq -r '[.[0].variants[].platform.architecture] | join(" ")' <<<"$out")" amd64
for how in 'testPullOsArch|--os linux --arch amd64' 'testPullOs|--os linux' 'testPullArch|--arch amd64' 'testImageSingleConcurrentDownload|--max-concurrent-downloads 1' \
	'testImageManyConcurrentDownloads|--max-concurrent-downloads 64'; do
	"$C" image delete --all >/dev/null
	run_ok "${how%|*}" "$C" image pull ${how#*|} "$REGISTRY/demo:multi"
	like "${how%|*}: ours is there" "$("$C" image inspect "$REGISTRY/demo:multi" | jq -r '[.[0].variants[].platform | .os + "/" + .architecture] | join(" ")')" 'linux/amd64'
done
run_rc 1 'a platform that is not there' "$C" image pull --platform linux/s390x "$REGISTRY/demo:multi"
like 'says which it is' "$err" 's390x'
run_ok 'pull without a platform' "$C" image pull "$REGISTRY/demo:multi"
run "$C" image inspect "$REGISTRY/demo:multi"
like 'has ours' "$(jq -r '[.[0].variants[].platform.architecture] | join(" ")' <<<"$out")" amd64
run_ok 'pull by digest' "$C" image pull "$REGISTRY/demo@$digest"

# What is not there.
run_rc 1 'an unknown tag' "$C" image pull "$REGISTRY/demo:none"
like 'names it' "$err" 'none'
run_rc 1 'an unknown repository' "$C" image pull "$REGISTRY/nothing:1"
run_rc 1 'nobody listens' "$C" image pull --scheme http 127.0.0.1:1/demo:1
run_rc 1 'a host without a name' "$C" image pull no-such-host.invalid/demo:1
run_rc 1 'http spoken to https' "$C" image pull --scheme https "$REGISTRY/demo:1"
run "$C" image pull 'Not A Reference'
ok 'a bad reference is refused' [ "$rc" = 1 ] || [ "$rc" = 64 ]

# A registry that lies: a layer of the right length with another byte; a short one.
"$C" image delete "$REGISTRY/demo:1" "$REGISTRY/demo:v2s2" "$REGISTRY/demo:multi" >/dev/null 2>&1
for ref in $("$C" image list -q); do
	"$C" image delete "$ref" >/dev/null 2>&1
done
layer=$(jq -r '.layers[0].digest' <<<"$manifest")
file=$T/registry/data/docker/registry/v2/blobs/sha256/${layer:7:2}/${layer:7}/data
ok 'the layer is in the registry' test -f "$file"
cp "$file" "$T/layer"
printf X | dd of="$file" bs=1 seek=5000 conv=notrunc 2>/dev/null
run_rc 1 'a layer with another byte' "$C" image pull "$REGISTRY/demo:1"
like 'names the digest' "$err" 'digest|sha256'
is 'no image came of it' "$("$C" image list -q)" ''
head -c 10000 "$T/layer" >"$file"
run_rc 1 'a short layer' "$C" image pull "$REGISTRY/demo:1"
cat "$T/layer" "$T/layer" >"$file"
run_rc 1 'a long layer' "$C" image pull "$REGISTRY/demo:1"
cp "$T/layer" "$file"
run_ok 'the honest layer again' "$C" image pull "$REGISTRY/demo:1"

# What was pulled runs; a Debian by mmdebstrap too.
set_kernel
is 'what was pulled runs' "$(timeout "$T_LIMIT" "$C" run --rm "$REGISTRY/demo:1" cat /etc/demo-release)" 'demo 1'
run_ok 'run pulls what is missing' "$C" run --rm "$REGISTRY/demo:v2s2" cat /data/old/fresh
is 'and runs it' "$out" new

# --pull: another image under the tag, the same layers with another command.
moved() # flags…: what the tag's image says; a layer of it is there already
{
	timeout "$T_LIMIT" "$C" run --rm --network none "$@" "$REGISTRY/demo:moving"
}
tag_says() # text
{
	local c m d
	c=$(jq -c --arg t "$1" '.config.Entrypoint = null | .config.Cmd = ["echo", $t]' <<<"$config")
	d=$(put_blob "$c")
	m=$(jq -c --arg d "$d" --argjson n ${#c} '.config.digest = $d | .config.size = $n' <<<"$manifest")
	put_manifest moving application/vnd.oci.image.manifest.v1+json "$m"
}
tag_says v1
is '--pull missing, which is the default: it is pulled' "$(moved)" v1
tag_says v2
is 'and not again, though the tag has moved' "$(moved)" v1
is '--pull never neither' "$(moved --pull never)" v1
is '--pull always takes what the tag is now' "$(moved --pull always)" v2
is 'from then on it is the one' "$(moved)" v2
if [ -w "$BUILD" ] && command -v mmdebstrap >/dev/null && (cd / && "$TOP/tests/images/debian.sh" "$IMAGES" >/dev/null 2>&1) || [ -s "$IMAGES/debian.oci.tar" ]; then
	copy "oci-archive:$IMAGES/debian.oci.tar" "docker://$REGISTRY/debian:12"
	run_ok 'pull Debian 12' "$C" image pull "$REGISTRY/debian:12"
	run_ok 'Debian 12 runs' "$C" run --rm "$REGISTRY/debian:12" bash -c 'cat /etc/debian_version; id -un; perl -e "print 6*7, qq(\n)"; dpkg -l | wc -l'
	like 'and is Debian 12' "$out" '^12\.'
	like 'with perl' "$out" '42'
else
	skip 'Debian 12' 'mmdebstrap cannot reach the distribution'
fi

# The registry is gone.
kill "$registry"
closed()
{
	! curl -fs "http://$REGISTRY/v2/"
}
ok 'the registry ends' wait_until 20 closed
run_rc 1 '--pull always without a registry, though the image is here' "$C" run --rm --network none --pull always "$REGISTRY/demo:moving"
like 'names it' "$err" "$REGISTRY"
is 'no container is left of it' "$("$C" list -aq)" ''
is 'without the flag it runs' "$(moved)" v2
stop_system
done_testing
