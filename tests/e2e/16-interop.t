#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Interop: what others make we take and run, what we make others take: docker-registry (plain, htpasswd, TLS with htpasswd), skopeo, umoci,
# buildah, podman, oci-image-tool, docker with a daemon of its own. The matrix comes last. A tool that is not installed takes the cells with it that
# need it, and says so; CI has them all.
. "$(dirname "$0")/../lib/system.sh"
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
for tool in skopeo umoci buildah podman oci-image-tool; do
	ok "CI installs $tool" eval '"$TOP/third_party/deps.sh" --print test | grep -qx "$tool"'
done
start_docker && have_docker=1 || have_docker=

need= # why what follows cannot be tried; empty: it can
with() # tool…: what that needs
{
	local t
	need=
	for t; do
		if [ "$t" = docker ]; then
			[ -n "$have_docker" ] || need=${need:-the distribution has no dockerd here}
		else
			command -v "$t" >/dev/null || need=${need:-$t is not installed}
		fi
	done
	able
}
able()
{
	[ -z "$need" ]
}
unable() # row: skips it, if it cannot be tried
{
	able && return 1
	skip "$1" "$need"
	rows+=("skipped	$1: $need")
}
rows=() id= pid=
cell() # row cmd…: one assertion, one line of the matrix
{
	local row=$1 verdict=FAILED
	shift
	! unable "$row" || return 0
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
	! unable "$row" || return 0
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
with buildah
cell 'buildah: an image from scratch, of two layers' eval 'build scratch base --format oci && build base two --format oci && build base two-docker --format docker'
for f in oci docker; do
	[ $f = oci ] && name=two || name=two-docker
	able && id=sha256:$("${bud[@]}" inspect --type image --format '{{.FromImageID}}' $name)
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
able && { T_LIMIT=180 run "$C" run --rm "$P/bud:zstd" /bin/sh -c "$script"; [ $rc = 0 ] || t_said; }
same 'our run (buildah): every kind of file' "$out" "$want"

with podman buildah
cell 'registry → podman' "${pod[@]}" pull -q --tls-verify=false "$P/bud:oci"
able && "${pod[@]}" create -q --name made "$P/bud:oci" >/dev/null
cell 'podman commit' "${pod[@]}" commit -q --change 'ENV MADE=podman' made pod:1
able && pid=sha256:$("${pod[@]}" image inspect --format '{{.Id}}' pod:1)
cell 'podman push → registry' "${pod[@]}" push -q --tls-verify=false pod:1 "$P/pod:1"
cell 'registry → our pull (podman)' "$C" pull "$P/pod:1"
same 'the same image (podman)' "$(config_of "$P/pod:1")" "$pid"
for f in docker-archive oci-archive; do
	able && "${pod[@]}" tag pod:1 "example.com/pod:$f"
	cell "podman save $f" "${pod[@]}" save -q --format $f -o "$T/pod.$f.tar" "example.com/pod:$f"
	cell "$f → our load (podman)" "$C" load -i "$T/pod.$f.tar"
	same "the same image (podman, $f)" "$(config_of "example.com/pod:$f")" "$pid"
done
cell 'podman save of several images' "${pod[@]}" save -q -m -o "$T/pod.multi.tar" example.com/pod:docker-archive "$P/bud:oci"
cell 'several images → our load' "$C" load -i "$T/pod.multi.tar"
same 'both are there' "$(wc -l <<<"$out")" 2
able && { T_LIMIT=180 run "$C" run --rm "$P/pod:1" /bin/sh -c "$script"; [ $rc = 0 ] || t_said; }
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
with podman buildah skopeo
cell 'list of platforms → skopeo, all' "${sk[@]}" copy -q --all --src-tls-verify=false "docker://$P/ours:list" "dir:$T/d-list"

# The same in docker's types throughout: those are kept.
D=application/vnd.docker
doc() # repository tag-or-digest: the document, if it is there in docker's types
{
	curl -fs -H "Accept: $D.distribution.manifest.list.v2+json, $D.distribution.manifest.v2+json" "http://$P/v2/$1/manifests/$2"
}
types() # repository tag: all there are, of the list, its manifests, their configurations and layers
{
	local m
	doc "$1" "$2" | jq -r '.mediaType, .manifests[].mediaType'
	for m in $(doc "$1" "$2" | jq -r '.manifests[].digest'); do
		doc "$1" "$m" | jq -r '.config.mediaType, .layers[].mediaType'
	done
}
sum()
{
	sha256sum | cut -d' ' -f1
}
with podman buildah
cell "docker's list of platforms → registry" "${pod[@]}" manifest push --all --format v2s2 --tls-verify=false list "docker://$P/pod:dlist"
same "it is docker's throughout" "$(types pod dlist | sort -u)" "$D.container.image.v1+json
$D.distribution.manifest.list.v2+json
$D.distribution.manifest.v2+json
$D.image.rootfs.diff.tar.gzip"
cell "docker's list → our pull of one" "$C" pull --platform linux/arm64 "$P/pod:dlist"
same 'that one is there' "$(ours "$P/pod:dlist" '.variants | map(.platform.architecture) | join(" ")')" arm64
able && run_rc 1 'our pull of one it has not' "$C" pull --platform linux/s390x "$P/pod:dlist"
cell "docker's list → our pull of all" "$C" pull "$P/pod:dlist"
same 'which is that list, with both' "$(ours "$P/pod:dlist" '| [.id, .configuration.descriptor.mediaType, (.variants[] | .platform.os + "/" + .platform.architecture, .digest)] | join(" ")')" \
	"$(doc pod dlist | sum) $D.distribution.manifest.list.v2+json $(doc pod dlist | jq -r '[.manifests[] | .platform.os + "/" + .platform.architecture, .digest] | join(" ")')"
cell "our push of docker's list" eval '"$C" tag "$P/pod:dlist" "$P/kept:dlist" && "$C" push "$P/kept:dlist"'
same 'is that list, of those types' "$(doc kept dlist | sum; types kept dlist)" "$(doc pod dlist | sum; types pod dlist)"
cell "our save of docker's list" "$C" save -o "$T/dlist.tar" "$P/pod:dlist"
able && "$C" image delete "$P/pod:dlist" "$P/kept:dlist" >/dev/null
cell 'our load of it' "$C" load -i "$T/dlist.tar"
same 'it is that list again' "$(ours "$P/pod:dlist" '| [.id, (.variants | length)] | join(" ")')" "$(doc pod dlist | sum) 2"
cell 'oci-archive of it → podman' "${pod[@]}" pull -q "oci-archive:$T/dlist.tar:$P/pod:dlist"
with podman buildah skopeo
cell 'oci-archive of it → skopeo, all' "${sk[@]}" copy -q --all "oci-archive:$T/dlist.tar:$P/pod:dlist" "dir:$T/d-dlist"
same "in OCI's types, with the same configurations" "$(able && jq -r '.mediaType, .manifests[].mediaType' "$T/d-dlist/manifest.json" | sort -u
	able && for m in "$T"/d-dlist/*.manifest.json; do jq -r .config.digest "$m"; done | sort)" "application/vnd.oci.image.index.v1+json
application/vnd.oci.image.manifest.v1+json
$(for m in $(doc pod dlist | jq -r '.manifests[].digest'); do doc pod "$m" | jq -r .config.digest; done | sort)"

# skopeo: from docker's schema 2, zstd, archives, a layout of umoci's.
with skopeo
for f in 'v2s2 --format=v2s2' 'oci --format=oci' 'zstd --format=oci --dest-compress-format=zstd'; do
	cell "skopeo copy (${f%% *}) → registry" "${sk[@]}" copy -q ${f#* } --dest-tls-verify=false "docker-archive:$IMAGES/demo.docker.tar" "docker://$P/sk:${f%% *}"
	cell "registry → our pull (skopeo, ${f%% *})" "$C" pull "$P/sk:${f%% *}"
done
for f in docker-archive oci-archive; do
	cell "skopeo copy → $f" "${sk[@]}" copy -q --src-tls-verify=false "docker://$P/sk:zstd" "$f:$T/sk.$f.tar:example.com/sk:$f"
	cell "$f → our load (skopeo)" "$C" load -i "$T/sk.$f.tar"
done
cell "our save of docker's schema 2" "$C" save -o "$T/v2s2.tar" "$P/sk:v2s2" "$P/sk:oci"
able && mkdir "$T/v2s2" && tar -C "$T/v2s2" -xf "$T/v2s2.tar"
cell 'oci-archive of it → skopeo' "${sk[@]}" copy -q "oci-archive:$T/v2s2.tar:$P/sk:v2s2" "dir:$T/d-v2s2"
with skopeo umoci
cell 'layout of it → umoci unpack' umoci unpack --image "$T/v2s2:$P/sk:v2s2" "$T/bundle-v2s2"
same 'its file system (schema 2)' "$(able && cat "$T/bundle-v2s2/rootfs/data/old/fresh")" new
with skopeo oci-image-tool
cell 'layout of it → oci-image-tool validate' oci-image-tool validate --type image --ref "name=$P/sk:v2s2" "$T/v2s2"
with skopeo buildah
cell 'oci-archive of it → buildah from' "${bud[@]}" from -q --name v2s2 "oci-archive:$T/v2s2.tar:$P/sk:v2s2"
with umoci
cell 'umoci: a layout' eval 'umoci init --layout "$T/um" && umoci new --image "$T/um:1" && umoci insert --image "$T/um:1" "$T/tree" / &&
	umoci insert --opaque --image "$T/um:1" "$T/tree/d" /d && umoci config --image "$T/um:1" --config.cmd /bin/sh &&
	umoci tag --image "$T/um:1" example.com/um:1 && umoci rm --image "$T/um:1"'
able && tar -C "$T/um" -cf "$T/um.tar" .
cell 'layout → our load (umoci)' "$C" load -i "$T/um.tar"
with umoci oci-image-tool
cell 'which validates' oci-image-tool validate --type image "$T/um"

# ---- we make, others take ----
with
cell 'our load' "$C" load -i "$IMAGES/demo.oci.tar"
"$C" tag demo "$P/demo:1" >/dev/null
demo=$(ours demo .id)
demo_config=$(config_of demo)
cell 'our push → registry' "$C" push "$P/demo:1"
with skopeo && run "${sk[@]}" inspect --tls-verify=false "docker://$P/demo:1"
same 'skopeo inspect' "$(jq -r .Digest <<<"$out")" "sha256:$demo"
cell 'registry → skopeo copy' "${sk[@]}" copy -q --src-tls-verify=false "docker://$P/demo:1" "dir:$T/d1"
same 'byte for byte' "$(able && sum <"$T/d1/manifest.json")" "$demo"
with podman
cell 'registry → podman pull' "${pod[@]}" pull -q --tls-verify=false "$P/demo:1"
same 'the same image (podman)' "$(able && "${pod[@]}" image inspect --format '{{.Id}}' "$P/demo:1")" "${demo_config#sha256:}"
with buildah
cell 'registry → buildah from' "${bud[@]}" from -q --tls-verify=false --name ours "docker://$P/demo:1"
able && run "${bud[@]}" run --isolation chroot ours -- cat /etc/demo-release /data/old/fresh
same 'buildah run' "$out" $'demo 1\nnew'
# Another image goes along: buildah's, else the same by another name.
also=$P/bud:zstd
with buildah || { also=example.com/also:1; "$C" tag demo "$also" >/dev/null; }
with
cell 'our save → oci-archive' "$C" save -o "$T/ours.oci.tar" demo "$also"
mkdir "$T/lay"
tar -C "$T/lay" -xf "$T/ours.oci.tar"
with skopeo
cell 'oci-archive → skopeo' "${sk[@]}" copy -q "oci-archive:$T/ours.oci.tar:docker.io/library/demo:latest" "dir:$T/d2"
same 'byte for byte (oci-archive)' "$(able && sum <"$T/d2/manifest.json")" "$demo"
with podman
cell 'oci-archive → podman pull' "${pod[@]}" pull -q "oci-archive:$T/ours.oci.tar:$also"
with buildah
cell 'oci-archive → buildah from' "${bud[@]}" from -q --name ours2 "oci-archive:$T/ours.oci.tar:docker.io/library/demo:latest"
with umoci
cell 'layout → umoci unpack' umoci unpack --image "$T/lay:docker.io/library/demo:latest" "$T/bundle"
same 'its file system' "$(able && cat "$T/bundle/rootfs/etc/demo-release" "$T/bundle/rootfs/data/old/fresh" && ls "$T/bundle/rootfs/etc/lost" 2>&1 | grep -c 'No such')" $'demo 1\nnew\n1'
"$C" save -o "$T/one.oci.tar" demo >/dev/null 2>&1
mkdir "$T/one" "$T/unpacked"
tar -C "$T/one" -xf "$T/one.oci.tar"
with oci-image-tool
cell 'layout → oci-image-tool validate' oci-image-tool validate --type image "$T/one"
cell 'manifest → oci-image-tool validate' oci-image-tool validate --type manifest "$T/one/blobs/sha256/$demo"
cell 'configuration → oci-image-tool validate' oci-image-tool validate --type config "$T/one/blobs/sha256/${demo_config#sha256:}"
cell 'index → oci-image-tool validate' oci-image-tool validate --type imageIndex "$T/one/index.json"
cell 'layout → oci-image-tool unpack' oci-image-tool unpack --type imageLayout --ref name=docker.io/library/demo:latest "$T/one" "$T/unpacked"
same 'its file system (oci-image-tool)' "$(able && cat "$T/unpacked/data/old/fresh")" new
with
cell 'our save → docker-archive' "$C" save --format docker-archive -o "$T/ours.docker.tar" demo "$also"
with skopeo
cell 'docker-archive → skopeo' "${sk[@]}" copy -q "docker-archive:$T/ours.docker.tar:demo:latest" "dir:$T/d3"
with podman && "${pod[@]}" rmi -f "$P/demo:1" >/dev/null 2>&1
cell 'docker-archive → podman load' "${pod[@]}" load -q -i "$T/ours.docker.tar"
same 'the same image (podman load)' "$(able && "${pod[@]}" image inspect --format '{{.Id}}' localhost/demo:latest)" "${demo_config#sha256:}"
with buildah
cell 'docker-archive → buildah from' "${bud[@]}" from -q --name ours3 "docker-archive:$T/ours.docker.tar:demo:latest"
with docker
cell 'docker-archive → docker load' "${docker[@]}" load -q -i "$T/ours.docker.tar"
same 'the same image (docker load)' "$(able && "${docker[@]}" image inspect --format '{{.Id}}' demo:latest)" "$demo_config"
same 'and the other (docker load)' "$(able && "${docker[@]}" image inspect --format '{{.Id}}' "$also")" "$(config_of "$also")"
able && "${docker[@]}" rmi -f demo:latest "$also" >/dev/null 2>&1
cell 'OCI layout → docker load' "${docker[@]}" load -q -i "$T/ours.oci.tar"
same 'the same image (docker load of a layout)' "$(able && "${docker[@]}" image inspect --format '{{.Id}}' demo:latest)" "$demo_config"
same 'and the other (docker load of a layout)' "$(able && "${docker[@]}" image inspect --format '{{.Id}}' "$also")" "$(config_of "$also")"
able && "${docker[@]}" rmi -f demo:latest "$also" >/dev/null 2>&1
cell 'registry → docker pull' "${docker[@]}" pull -q "$P/demo:1"
same 'the same image (docker pull)' "$(able && "${docker[@]}" image inspect --format '{{.Id}}' "$P/demo:1")" "$demo_config"
with docker podman buildah
cell "docker's list, as we pushed it → docker pull" "${docker[@]}" pull -q "$P/kept:dlist"
same "the same image (docker's list)" "$(able && "${docker[@]}" image inspect --format '{{.Id}}' "$P/kept:dlist")" "$(config_of "$P/pod:dlist")"
with docker
cell 'docker tag' "${docker[@]}" tag "$P/demo:1" "$P/docker:1"
cell 'docker → registry' "${docker[@]}" push -q "$P/docker:1"
cell 'registry → our pull (docker)' "$C" pull --scheme http "$P/docker:1"
same 'the same image (docker push)' "$(config_of "$P/docker:1")" "$demo_config"
cell 'docker save → docker-archive' "${docker[@]}" save -o "$T/dock.docker.tar" "$P/docker:1"
able && "$C" image delete "$P/docker:1" >/dev/null
cell 'docker-archive (docker) → our load' "$C" load -i "$T/dock.docker.tar"
same 'the same image (docker save)' "$(config_of "$P/docker:1")" "$demo_config"
with skopeo
cell 'our store → skopeo, as a layout' "${sk[@]}" copy -q "oci:$CONTAINER_APP_ROOT/content:docker.io/library/demo:latest" "dir:$T/d4"
with umoci
cell 'our store → umoci stat' umoci stat --json --image "$CONTAINER_APP_ROOT/content:docker.io/library/demo:latest"

# ---- with a password, with TLS, both ways ----
for at in "htpasswd $A --tls-verify=false" "TLS $S --cert-dir=$T/certs"; do
	read -r kind reg flag <<<"$at"
	[ $kind = TLS ] && tls=--scheme=https || tls=--scheme=http
	with
	run_rc 1 "$kind: nobody is not let in" "$C" pull $tls "$reg/x:1"
	cell "$kind: our login" bash -c 'printf s3cret-word | "$0" login -u tester --password-stdin "$@"' "$C" $tls "$reg"
	with skopeo
	cell "$kind: skopeo → registry" "${sk[@]}" copy -q ${flag/--/--dest-} --dest-creds tester:s3cret-word "oci-archive:$IMAGES/demo.oci.tar" "docker://$reg/sk:1"
	cell "$kind: registry → our pull" "$C" pull $tls "$reg/sk:1"
	with buildah
	cell "$kind: buildah → registry" "${bud[@]}" push -q $flag --creds tester:s3cret-word two "docker://$reg/bud:1"
	cell "$kind: registry → our pull (buildah)" "$C" pull $tls "$reg/bud:1"
	with podman buildah
	cell "$kind: podman → registry" "${pod[@]}" push -q $flag --creds tester:s3cret-word pod:1 "$reg/pod:1"
	cell "$kind: registry → our pull (podman)" "$C" pull $tls "$reg/pod:1"
	"$C" tag demo "$reg/ours:1" >/dev/null
	with
	cell "$kind: our push" "$C" push $tls "$reg/ours:1"
	with skopeo
	cell "$kind: registry → skopeo" "${sk[@]}" copy -q ${flag/--/--src-} --src-creds tester:s3cret-word "docker://$reg/ours:1" "dir:$T/d-$kind"
	same "$kind: byte for byte" "$(able && sum <"$T/d-$kind/manifest.json")" "$demo"
	with podman
	cell "$kind: registry → podman" "${pod[@]}" pull -q $flag --creds tester:s3cret-word "$reg/ours:1"
	with buildah
	cell "$kind: registry → buildah" "${bud[@]}" pull -q $flag --creds tester:s3cret-word "docker://$reg/ours:1"
done

stop_system
echo "# $(for t in skopeo umoci buildah podman oci-image-tool ${have_docker:+"${docker[0]}"}; do printf '%s, ' "$($t --version 2>/dev/null | head -1)"; done)docker-registry $(
	"$TOP/build/tools/usr/bin/docker-registry" --version 2>/dev/null | awk '{print $NF}')"
printf '%s\n' "${rows[@]}" | sed 's/^/# /'
printf '# interop: %d cells, %d failed, %d skipped\n' ${#rows[@]} "$(printf '%s\n' "${rows[@]}" | grep -c ^FAILED)" "$(printf '%s\n' "${rows[@]}" | grep -c ^skipped)"
done_testing
