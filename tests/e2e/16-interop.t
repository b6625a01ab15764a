#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Interop: what others make we take and run, what we make others take: docker-registry (plain, htpasswd, TLS with htpasswd), skopeo, umoci,
# buildah, podman, oci-image-tool, docker with a daemon of its own. The matrix comes last.
. "$(dirname "$0")/../lib/system.sh"
for tool in skopeo umoci buildah podman oci-image-tool; do
	command -v $tool >/dev/null || skip_all "$tool is not installed"
done
demo_images
export HOME=$T/home TMPDIR=$T
mkdir -p "$HOME" "$T/bud" "$T/certs"
bud=(buildah --root "$T/bud" --runroot "$T/bud-run" --storage-driver vfs)
pod=(podman --root "$T/pod" --runroot "$T/pod-run" --storage-driver vfs --events-backend none --cgroup-manager cgroupfs)
sk=(skopeo --tmpdir "$T" --insecure-policy)
start_registry plain
P=$REGISTRY
start_registry private tester s3cret-word
A=$REGISTRY
make_certificate
cp "$T/cert.pem" "$T/certs/ca.crt"
REGISTRY_HTTP_TLS_CERTIFICATE=$T/cert.pem REGISTRY_HTTP_TLS_KEY=$T/key.pem start_registry tls tester s3cret-word
S=$REGISTRY
jq -n --arg ca "$T/cert.pem" '{registry: {ca: $ca}}' >"$CONTAINER_CONFIG"
start_system
set_kernel

rows=()
cell() # row cmd…: one assertion, one line of the matrix
{
	local row=$1 verdict=FAILED
	shift
	if [ "$1" = eval ]; then # what needs this shell
		rc=0
		"$@" >"$T_OUT" 2>"$T_ERR" || rc=$?
		t_take
	else
		run "$@"
	fi
	if t_result "$rc" "$row"; then verdict=ok; else t_said; fi
	rows+=("$verdict	$row")
}
same() # row got want
{
	local row=$1
	if is "$row" "$2" "$3"; then rows+=("ok	$row"); else rows+=("FAILED	$row"); fi
}
ours() # reference jq-expression
{
	"$C" image inspect "$1" 2>/dev/null | jq -r ".[0]$2"
}
# The configuration's digest: what docker calls the image's id; no transport changes it.
config_of()
{
	local m
	m=$(ours "$1" .variants[0].digest)
	jq -r .config.digest "$CONTAINER_APP_ROOT/content/blobs/sha256/${m#sha256:}"
}

# ---- others make, we take ----
# A tree with what a tar can hold, and busybox so that it runs.
mkdir -p "$T/tree/bin" "$T/tree/d/e"
install -m 755 "$(command -v busybox)" "$T/tree/bin/busybox"
for a in sh cat ls stat readlink; do ln -s busybox "$T/tree/bin/$a"; done
echo one >"$T/tree/d/file"
ln "$T/tree/d/file" "$T/tree/d/hard"
ln -s ../d/file "$T/tree/d/e/soft"
install -m 4755 "$T/tree/d/file" "$T/tree/d/suid"
mkfifo "$T/tree/d/fifo"
touch -d @1234567890 "$T/tree/d/file"
build() # a working container from an image or scratch, with the tree or without a file of it
{
	local w
	w=$("${bud[@]}" from --pull-never "$1") || return
	if [ "$1" = scratch ]; then
		"${bud[@]}" copy -q "$w" "$T/tree" / >/dev/null || return
	else
		rm "$("${bud[@]}" mount "$w")/d/hard" && echo two >"$("${bud[@]}" mount "$w")/d/new" &&
			chown 1234:5678 "$("${bud[@]}" mount "$w")/d/e" || return
	fi
	"${bud[@]}" config --cmd /bin/sh --env MADE=buildah --workingdir /d --label by=buildah "$w" || return
	"${bud[@]}" commit -q "${@:3}" "$w" "$2" >/dev/null
}
cell 'buildah: an image from scratch, of two layers' eval 'build scratch base --format oci && build base two --format oci && build base two-docker --format docker'
for f in oci docker; do
	[ $f = oci ] && name=two || name=two-docker
	id=sha256:$("${bud[@]}" inspect --type image --format '{{.FromImageID}}' $name)
	cell "buildah push ($f) → registry" "${bud[@]}" push -q --tls-verify=false $name "docker://$P/bud:$f"
	cell "registry → our pull (buildah, $f)" "$C" pull "$P/bud:$f"
	same "the same image (buildah, $f)" "$(config_of "$P/bud:$f")" "$id"
	cell "buildah push → $f-archive" "${bud[@]}" push -q $name "$f-archive:$T/bud.$f.tar:example.com/bud:$f"
	cell "$f-archive → our load (buildah)" "$C" load -i "$T/bud.$f.tar"
	same "the same image (buildah, $f-archive)" "$(config_of "example.com/bud:$f")" "$id"
done
cell 'buildah push (zstd) → registry' "${bud[@]}" push -q --tls-verify=false --compression-format zstd two "docker://$P/bud:zstd"
cell 'registry → our pull (buildah, zstd)' "$C" pull "$P/bud:zstd"
want='buildah
one
two
4755 1234 5678 1234567890
../d/file
fifo
gone
/d'
script='echo $MADE; cat /d/file /d/new; echo $(stat -c "%a" suid) $(stat -c "%u %g" e) $(stat -c %Y file); readlink e/soft; stat -c %F fifo; test -e hard || echo gone; pwd'
T_LIMIT=180 run "$C" run --rm "$P/bud:zstd" /bin/sh -c "$script"
[ $rc = 0 ] || t_said
same 'our run (buildah): every kind of file' "$out" "$want"

cell 'registry → podman' "${pod[@]}" pull -q --tls-verify=false "$P/bud:oci"
"${pod[@]}" create -q --name made "$P/bud:oci" >/dev/null
cell 'podman commit' "${pod[@]}" commit -q --change 'ENV MADE=podman' made pod:1
pid=sha256:$("${pod[@]}" image inspect --format '{{.Id}}' pod:1)
cell 'podman push → registry' "${pod[@]}" push -q --tls-verify=false pod:1 "$P/pod:1"
cell 'registry → our pull (podman)' "$C" pull "$P/pod:1"
same 'the same image (podman)' "$(config_of "$P/pod:1")" "$pid"
for f in docker-archive oci-archive; do
	"${pod[@]}" tag pod:1 "example.com/pod:$f"
	cell "podman save $f" "${pod[@]}" save -q --format $f -o "$T/pod.$f.tar" "example.com/pod:$f"
	cell "$f → our load (podman)" "$C" load -i "$T/pod.$f.tar"
	same "the same image (podman, $f)" "$(config_of "example.com/pod:$f")" "$pid"
done
cell 'podman save of several images' "${pod[@]}" save -q -m -o "$T/pod.multi.tar" example.com/pod:docker-archive "$P/bud:oci"
cell 'several images → our load' "$C" load -i "$T/pod.multi.tar"
is 'both are there' "$(wc -l <<<"$out")" 2
T_LIMIT=180 run "$C" run --rm "$P/pod:1" /bin/sh -c "$script"
[ $rc = 0 ] || t_said
same 'our run (podman)' "$out" "podman${want#buildah}"

# A list of platforms, by podman: the arm64 one differs in its configuration only.
cell 'podman manifest → registry' eval '"${pod[@]}" manifest create list >/dev/null && "${pod[@]}" manifest add list containers-storage:localhost/pod:1 >/dev/null &&
	"${bud[@]}" config --arch arm64 "$("${bud[@]}" from --pull-never --name arm two)" && "${bud[@]}" commit -q arm arm >/dev/null &&
	"${bud[@]}" push -q --tls-verify=false arm "docker://$P/pod:arm" &&
	"${pod[@]}" manifest add --tls-verify=false list "docker://$P/pod:arm" >/dev/null &&
	"${pod[@]}" manifest push --all --tls-verify=false list "docker://$P/pod:list" >/dev/null'
cell 'list of platforms → our pull of one' "$C" pull --platform linux/arm64 "$P/pod:list"
same 'it is there' "$(ours "$P/pod:list" '.variants[].platform.architecture' | grep -c arm64)" 1
cell 'list of platforms → our pull of all' "$C" pull "$P/pod:list"
same 'all are there' "$(ours "$P/pod:list" '.variants | map(.platform.architecture) | sort | join(" ")')" 'amd64 arm64'
cell 'our push of a list of platforms' eval '"$C" tag "$P/pod:list" "$P/ours:list" && "$C" push "$P/ours:list"'
same 'is that list' "$(curl -fs -H "Accept: application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json" \
	"http://$P/v2/ours/manifests/list" | sha256sum | cut -d' ' -f1)" "$(ours "$P/pod:list" .id)"
cell 'list of platforms → skopeo, all' "${sk[@]}" copy -q --all --src-tls-verify=false "docker://$P/ours:list" "dir:$T/d-list"

# skopeo: from docker's schema 2, zstd, archives, a layout of umoci's.
for f in 'v2s2 --format=v2s2' 'oci --format=oci' 'zstd --format=oci --dest-compress-format=zstd'; do
	cell "skopeo copy (${f%% *}) → registry" "${sk[@]}" copy -q ${f#* } --dest-tls-verify=false "docker-archive:$IMAGES/demo.docker.tar" "docker://$P/sk:${f%% *}"
	cell "registry → our pull (skopeo, ${f%% *})" "$C" pull "$P/sk:${f%% *}"
done
for f in docker-archive oci-archive; do
	cell "skopeo copy → $f" "${sk[@]}" copy -q --src-tls-verify=false "docker://$P/sk:zstd" "$f:$T/sk.$f.tar:example.com/sk:$f"
	cell "$f → our load (skopeo)" "$C" load -i "$T/sk.$f.tar"
done
cell 'umoci: a layout' eval 'umoci init --layout "$T/um" && umoci new --image "$T/um:1" && umoci insert --image "$T/um:1" "$T/tree" / &&
	umoci insert --opaque --image "$T/um:1" "$T/tree/d" /d && umoci config --image "$T/um:1" --config.cmd /bin/sh &&
	umoci tag --image "$T/um:1" example.com/um:1 && umoci rm --image "$T/um:1"'
tar -C "$T/um" -cf "$T/um.tar" .
cell 'layout → our load (umoci)' "$C" load -i "$T/um.tar"
cell 'which validates' oci-image-tool validate --type image "$T/um"

# ---- we make, others take ----
cell 'our load' "$C" load -i "$IMAGES/demo.oci.tar"
"$C" tag demo "$P/demo:1" >/dev/null
demo=$(ours demo .id)
demo_config=$(config_of demo)
cell 'our push → registry' "$C" push "$P/demo:1"
run "${sk[@]}" inspect --tls-verify=false "docker://$P/demo:1"
same 'skopeo inspect' "$(jq -r .Digest <<<"$out")" "sha256:$demo"
cell 'registry → skopeo copy' "${sk[@]}" copy -q --src-tls-verify=false "docker://$P/demo:1" "dir:$T/d1"
same 'byte for byte' "$(sha256sum <"$T/d1/manifest.json" | cut -d' ' -f1)" "$demo"
cell 'registry → podman pull' "${pod[@]}" pull -q --tls-verify=false "$P/demo:1"
same 'the same image (podman)' "$("${pod[@]}" image inspect --format '{{.Id}}' "$P/demo:1")" "${demo_config#sha256:}"
cell 'registry → buildah from' "${bud[@]}" from -q --tls-verify=false --name ours "docker://$P/demo:1"
run "${bud[@]}" run --isolation chroot ours -- cat /etc/demo-release /data/old/fresh
same 'buildah run' "$out" $'demo 1\nnew'
cell 'our save → oci-archive' "$C" save -o "$T/ours.oci.tar" demo "$P/bud:zstd"
mkdir "$T/lay"
tar -C "$T/lay" -xf "$T/ours.oci.tar"
cell 'oci-archive → skopeo' "${sk[@]}" copy -q "oci-archive:$T/ours.oci.tar:docker.io/library/demo:latest" "dir:$T/d2"
same 'byte for byte (oci-archive)' "$(sha256sum <"$T/d2/manifest.json" | cut -d' ' -f1)" "$demo"
cell 'oci-archive → podman pull' "${pod[@]}" pull -q "oci-archive:$T/ours.oci.tar:$P/bud:zstd"
cell 'oci-archive → buildah from' "${bud[@]}" from -q --name ours2 "oci-archive:$T/ours.oci.tar:docker.io/library/demo:latest"
cell 'layout → umoci unpack' umoci unpack --image "$T/lay:docker.io/library/demo:latest" "$T/bundle"
same 'its file system' "$(cat "$T/bundle/rootfs/etc/demo-release" "$T/bundle/rootfs/data/old/fresh" && ls "$T/bundle/rootfs/etc/lost" 2>&1 | grep -c 'No such')" $'demo 1\nnew\n1'
"$C" save -o "$T/one.oci.tar" demo >/dev/null 2>&1
mkdir "$T/one" "$T/unpacked"
tar -C "$T/one" -xf "$T/one.oci.tar"
cell 'layout → oci-image-tool validate' oci-image-tool validate --type image "$T/one"
cell 'manifest → oci-image-tool validate' oci-image-tool validate --type manifest "$T/one/blobs/sha256/$demo"
cell 'configuration → oci-image-tool validate' oci-image-tool validate --type config "$T/one/blobs/sha256/${demo_config#sha256:}"
cell 'index → oci-image-tool validate' oci-image-tool validate --type imageIndex "$T/one/index.json"
cell 'layout → oci-image-tool unpack' oci-image-tool unpack --type imageLayout --ref name=docker.io/library/demo:latest "$T/one" "$T/unpacked"
same 'its file system (oci-image-tool)' "$(cat "$T/unpacked/data/old/fresh")" new
cell 'our save → docker-archive' "$C" save --format docker-archive -o "$T/ours.docker.tar" demo "$P/bud:zstd"
cell 'docker-archive → skopeo' "${sk[@]}" copy -q "docker-archive:$T/ours.docker.tar:demo:latest" "dir:$T/d3"
"${pod[@]}" rmi -f "$P/demo:1" >/dev/null 2>&1
cell 'docker-archive → podman load' "${pod[@]}" load -q -i "$T/ours.docker.tar"
same 'the same image (podman load)' "$("${pod[@]}" image inspect --format '{{.Id}}' localhost/demo:latest)" "${demo_config#sha256:}"
cell 'docker-archive → buildah from' "${bud[@]}" from -q --name ours3 "docker-archive:$T/ours.docker.tar:demo:latest"
start_docker && have_docker=1 || have_docker=
if [ -n "$have_docker" ]; then
	cell 'docker-archive → docker load' "${docker[@]}" load -q -i "$T/ours.docker.tar"
	same 'the same image (docker load)' "$("${docker[@]}" image inspect --format '{{.Id}}' demo:latest)" "$demo_config"
	same 'and the other (docker load)' "$("${docker[@]}" image inspect --format '{{.Id}}' "$P/bud:zstd")" "$(config_of "$P/bud:zstd")"
	"${docker[@]}" rmi -f demo:latest "$P/bud:zstd" >/dev/null 2>&1
	cell 'OCI layout → docker load' "${docker[@]}" load -q -i "$T/ours.oci.tar"
	same 'the same image (docker load of a layout)' "$("${docker[@]}" image inspect --format '{{.Id}}' demo:latest)" "$demo_config"
	same 'and the other (docker load of a layout)' "$("${docker[@]}" image inspect --format '{{.Id}}' "$P/bud:zstd")" "$(config_of "$P/bud:zstd")"
	"${docker[@]}" rmi -f demo:latest "$P/bud:zstd" >/dev/null 2>&1
	cell 'registry → docker pull' "${docker[@]}" pull -q "$P/demo:1"
	same 'the same image (docker pull)' "$("${docker[@]}" image inspect --format '{{.Id}}' "$P/demo:1")" "$demo_config"
	cell 'docker tag' "${docker[@]}" tag "$P/demo:1" "$P/docker:1"
	cell 'docker → registry' "${docker[@]}" push -q "$P/docker:1"
	cell 'registry → our pull (docker)' "$C" pull --scheme http "$P/docker:1"
	same 'the same image (docker push)' "$(config_of "$P/docker:1")" "$demo_config"
	cell 'docker save → docker-archive' "${docker[@]}" save -o "$T/dock.docker.tar" "$P/docker:1"
	"$C" image delete "$P/docker:1" >/dev/null
	cell 'docker-archive (docker) → our load' "$C" load -i "$T/dock.docker.tar"
	same 'the same image (docker save)' "$(config_of "$P/docker:1")" "$demo_config"
else
	skip 'docker load' 'the distribution has no dockerd here'
fi
cell 'our store → skopeo, as a layout' "${sk[@]}" copy -q "oci:$CONTAINER_APP_ROOT/content:docker.io/library/demo:latest" "dir:$T/d4"
cell 'our store → umoci stat' umoci stat --json --image "$CONTAINER_APP_ROOT/content:docker.io/library/demo:latest"

# ---- with a password, with TLS, both ways ----
for at in "htpasswd $A --tls-verify=false" "TLS $S --cert-dir=$T/certs"; do
	read -r kind reg flag <<<"$at"
	[ $kind = TLS ] && tls=--scheme=https || tls=--scheme=http
	run_rc 1 "$kind: nobody is not let in" "$C" pull $tls "$reg/x:1"
	cell "$kind: our login" bash -c 'printf s3cret-word | "$0" login -u tester --password-stdin "$@"' "$C" $tls "$reg"
	cell "$kind: skopeo → registry" "${sk[@]}" copy -q ${flag/--/--dest-} --dest-creds tester:s3cret-word "oci-archive:$IMAGES/demo.oci.tar" "docker://$reg/sk:1"
	cell "$kind: registry → our pull" "$C" pull $tls "$reg/sk:1"
	cell "$kind: buildah → registry" "${bud[@]}" push -q $flag --creds tester:s3cret-word two "docker://$reg/bud:1"
	cell "$kind: registry → our pull (buildah)" "$C" pull $tls "$reg/bud:1"
	cell "$kind: podman → registry" "${pod[@]}" push -q $flag --creds tester:s3cret-word pod:1 "$reg/pod:1"
	cell "$kind: registry → our pull (podman)" "$C" pull $tls "$reg/pod:1"
	"$C" tag demo "$reg/ours:1" >/dev/null
	cell "$kind: our push" "$C" push $tls "$reg/ours:1"
	cell "$kind: registry → skopeo" "${sk[@]}" copy -q ${flag/--/--src-} --src-creds tester:s3cret-word "docker://$reg/ours:1" "dir:$T/d-$kind"
	same "$kind: byte for byte" "$(sha256sum <"$T/d-$kind/manifest.json" | cut -d' ' -f1)" "$demo"
	cell "$kind: registry → podman" "${pod[@]}" pull -q $flag --creds tester:s3cret-word "$reg/ours:1"
	cell "$kind: registry → buildah" "${bud[@]}" pull -q $flag --creds tester:s3cret-word "docker://$reg/ours:1"
done

stop_system
echo "# $(for t in skopeo umoci buildah podman oci-image-tool ${have_docker:+"${docker[0]}"}; do printf '%s, ' "$($t --version 2>/dev/null | head -1)"; done)docker-registry $(
	"$TOP/build/tools/usr/bin/docker-registry" --version 2>/dev/null | awk '{print $NF}')"
printf '%s\n' "${rows[@]}" | sed 's/^/# /'
printf '# interop: %d cells, %d failed\n' ${#rows[@]} "$(printf '%s\n' "${rows[@]}" | grep -c ^FAILED)"
done_testing
