#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Images on their way out and between names: tag, save, push, prune, ids, disk use. One guest runs, for the last.
. "$(dirname "$0")/../lib/system.sh"
demo_images
start_system
run_ok 'load' "$C" image load -i "$IMAGES/demo.oci.tar"
digest=$("$C" image inspect demo | jq -r '.[0].id')
D=$CONTAINER_APP_ROOT/content/blobs/sha256

# Names and ids.
run_ok 'tag (testImageTag)' "$C" image tag demo example.com/a/demo:2
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
used=$("$C" system df --format json | jq -c .images.sizeInBytes)
run_ok 'one name goes (testPullRemoveSingle)' "$C" rmi other
is 'deletingOneOfMultipleTagsPreservesSharedStorage' "$("$C" system df --format json | jq -c .images.sizeInBytes)" "$used"

# What a list shows.
"$C" tag demo filtered:1 >/dev/null
is 'a template' "$("$C" images --format '{{.ID}} {{.Repository}}:{{.Tag}}' | sort | tail -1)" "${digest:0:12} filtered:1"
like 'with a header' "$("$C" images --format 'table {{.Repository}}\t{{.Size}}')" '^REPOSITORY +SIZE'
is 'filter by reference' "$("$C" images -q -f 'reference=filt*')" 'filtered:1'
is 'two are alternatives' "$("$C" images -q -f 'reference=filtered:1' -f reference=demo | wc -l)" 2
is 'filter by label' "$("$C" images -q -f label=demo.from=image | wc -l)" 3
is 'of which there is none' "$("$C" images -q -f label=demo.from=else)" ''
is 'none is dangling' "$("$C" images -q -f dangling=true)" ''
run_rc 1 'an unknown filter' "$C" images -f colour=blue
run_rc 1 'an unknown field' "$C" images --format '{{.Colour}}'
run_ok 'history' "$C" history demo
is 'last step first' "$(awk '{print $1}' <<<"$(sed 1d <<<"$out")" | tr '\n' ' ')" 'whiteouts add busybox-static '
"$C" rmi filtered:1 >/dev/null 2>&1

# save
run_ok 'save' "$C" image save -o "$T/out.tar" demo example.com/a/demo:2
is 'prints the references' "$out" "docker.io/library/demo:latest
example.com/a/demo:2"
is 'an OCI layout' "$(tar -xOf "$T/out.tar" oci-layout)" '{"imageLayoutVersion":"1.0.0"}'
is 'with both names' "$(tar -xOf "$T/out.tar" index.json | jq -r '[.manifests[].annotations["org.opencontainers.image.ref.name"]] | join(" ")')" \
	'docker.io/library/demo:latest example.com/a/demo:2'
is 'and what docker reads, of the same blobs' "$(tar -xOf "$T/out.tar" manifest.json | jq -c '.[] | [.RepoTags, (.Layers | length)]')" \
	'[["demo:latest","example.com/a/demo:2"],3]'
is 'blobs once' "$(tar -tf "$T/out.tar" | sort | uniq -d)" ''
is 'the bytes of the store' "$(tar -xOf "$T/out.tar" "blobs/sha256/$digest" | sha256sum | cut -d' ' -f1)" "$digest"
"$C" image save demo 2>"$T/err" >"$T/stdout.tar"
run_ok 'save to standard output, short form' bash -c '"$1" save demo | cmp - "$2"' - "$C" "$T/stdout.tar"
like 'the reference goes to standard error' "$(cat "$T/err")" 'docker.io/library/demo:latest'
is 'nothing behind the end (testImageSaveToStdoutProducesCleanArchive)' "$(($(tar -tvf "$T/stdout.tar" --block-number 2>/dev/null | tail -1 | sed 's/block \([0-9]*\):.*/\1/') * 512 + 1024))" \
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
run_ok 'load what was saved (testImageSaveAndLoad)' "$C" load -i "$T/out.tar"
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

# push
if command -v skopeo >/dev/null; then
	start_registry
	hits() # method path: how often the registry was asked
	{
		grep -c "\"$1 $2" "$T/registry.log"
	}
	run_ok 'the first archive again' "$C" load -i "$T/out.tar"
	run_ok 'tag for a registry' "$C" tag demo "$REGISTRY/a/demo:1"
	run_ok 'push' "$C" image push "$REGISTRY/a/demo:1"
	is 'prints the reference' "$out" "$REGISTRY/a/demo:1"
	is 'the registry has it byte for byte' "$(curl -fs -H 'Accept: application/vnd.oci.image.manifest.v1+json' "http://$REGISTRY/v2/a/demo/manifests/1" | sha256sum | cut -d' ' -f1)" "$digest"
	# The registry logs a request when it is over; the manifest's is the last.
	ok 'its log is complete' wait_until 10 grep -q '"PUT /v2/a/demo/manifests/1 ' "$T/registry.log"
	n=$(hits PATCH /v2/)
	ok 'blobs were sent' test "$n" -ge 4
	run_ok 'push again' "$C" push "$REGISTRY/a/demo:1"
	is 'sends nothing that is there' "$(hits PATCH /v2/)" "$n"
	"$C" tag demo "$REGISTRY/b/demo:1" >/dev/null
	run_ok 'push to another repository' "$C" push "$REGISTRY/b/demo:1"
	ok 'its log is complete' wait_until 10 grep -q '"PUT /v2/b/demo/manifests/1 ' "$T/registry.log"
	is 'mounts the layers' "$(hits POST '/v2/b/demo/blobs/uploads/?.*mount=')" 3
	is 'sends the configuration only' "$(($(hits PATCH /v2/) - n))" 1
	run_ok 'skopeo reads it' "${sk[@]}" copy -q --src-tls-verify=false "docker://$REGISTRY/b/demo:1" "dir:$T/dir3"
	is 'as it was' "$(sha256sum <"$T/dir3/manifest.json" | cut -d' ' -f1)" "$digest"
	run_rc 1 'push of what is not there' "$C" push "$REGISTRY/a/nothing:1"
	"$C" tag demo 127.0.0.1:1/a/demo:1 >/dev/null
	run_rc 1 'nobody listens' "$C" push 127.0.0.1:1/a/demo:1
	run_rc 1 'a platform that is not there' "$C" push --platform linux/s390x "$REGISTRY/a/demo:1"

	# An index of which only one platform is here goes as one that names only that.
	arm=$(jq -nc --arg d "sha256:$digest" --argjson n "$(stat -c %s "$D/$digest")" '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json",
		annotations: {kept: "yes"}, manifests: [
		{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: ("sha256:" + "0" * 64), size: 7, platform: {os: "linux", architecture: "arm64"}},
		{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $d, size: $n, platform: {os: "linux", architecture: "amd64"}}]}')
	rm -rf "$T/multi" && mkdir "$T/multi"
	tar -C "$T/multi" -xf "$T/stdout.tar"
	printf %s "$arm" >"$T/multi/blobs/sha256/$(printf %s "$arm" | sha256sum | cut -d' ' -f1)"
	jq -nc --arg d "sha256:$(printf %s "$arm" | sha256sum | cut -d' ' -f1)" --argjson n ${#arm} --arg r "$REGISTRY/multi:1" '{schemaVersion: 2, manifests: [
		{mediaType: "application/vnd.oci.image.index.v1+json", digest: $d, size: $n, annotations: {"org.opencontainers.image.ref.name": $r}}]}' >"$T/multi/index.json"
	tar -C "$T/multi" -cf "$T/multi.tar" oci-layout index.json blobs
	run_ok 'load an index with a variant that is not here' "$C" load -i "$T/multi.tar"
	run_ok 'push it' "$C" push "$REGISTRY/multi:1"
	is 'as an index with what is here' "$(curl -fs -H 'Accept: application/vnd.oci.image.index.v1+json' "http://$REGISTRY/v2/multi/manifests/1" |
		jq -c '[.annotations.kept, (.manifests[] | .platform.architecture)]')" '["yes","amd64"]'
	run_ok 'save it' "$C" save -o "$T/multi2.tar" "$REGISTRY/multi:1"
	run_ok 'skopeo reads all of it' "${sk[@]}" copy -q --all "oci-archive:$T/multi2.tar" "dir:$T/dir4"
	run_ok 'push of one platform' "$C" push --platform linux/amd64 "$REGISTRY/multi:1"

	# Three platforms, in an index inside an index. The arm ones are of another day and have the first layer only.
	rm -rf "$T/nest" && mkdir "$T/nest"
	tar -C "$T/nest" -xf "$T/stdout.tar"
	B=$T/nest/blobs/sha256
	OCI=application/vnd.oci.image
	put() # media type: puts standard input into the layout, prints its descriptor
	{
		local d
		cat >"$T/nest/blob"
		d=$(sha256sum "$T/nest/blob" | cut -d' ' -f1)
		jq -nc --arg t "$1" --arg d "sha256:$d" --argjson n "$(stat -c %s "$T/nest/blob")" '{mediaType: $t, digest: $d, size: $n}'
		mv "$T/nest/blob" "$B/$d"
	}
	arm() # date platform: an image like demo; prints its descriptor
	{
		local config
		config=$(jq -c --arg d "$1" --argjson p "$2" '. + $p | .created = $d | .rootfs.diff_ids |= .[:1] | .history |= .[:1]' "$B/$(jq -r .config.digest "$B/$digest" | cut -d: -f2)" |
			put $OCI.config.v1+json)
		jq -c --argjson c "$config" '.config = $c | .layers |= .[:1]' "$B/$digest" | put $OCI.manifest.v1+json | jq -c --argjson p "$2" '.platform = $p'
	}
	arm64=$(arm 2022-02-02T02:02:02Z '{"os": "linux", "architecture": "arm64"}')
	armv6=$(arm 2021-01-01T01:01:01Z '{"os": "linux", "architecture": "arm", "variant": "v6"}')
	amd64=$(jq -nc --arg d "sha256:$digest" --argjson n "$(stat -c %s "$B/$digest")" '{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $d, size: $n,
		platform: {os: "linux", architecture: "amd64"}}')
	index() # descriptors: an index of them, its descriptor
	{
		jq -nc '{schemaVersion: 2, mediaType: "application/vnd.oci.image.index.v1+json", manifests: $ARGS.positional}' --jsonargs "$@" | put $OCI.index.v1+json
	}
	inner=$(index "$arm64" "$armv6" "$amd64")
	outer=$(index "$inner")
	jq -nc --argjson o "$outer" --arg r "$REGISTRY/nest:1" '{schemaVersion: 2, manifests: [$o + {annotations: {"org.opencontainers.image.ref.name": $r}}]}' >"$T/nest/index.json"
	tar -C "$T/nest" -cf "$T/nest.tar" oci-layout index.json blobs
	run_ok 'load an index in an index' "$C" load -i "$T/nest.tar"
	of() # descriptor: the digest's digits
	{
		jq -r .digest <<<"$1" | cut -d: -f2
	}
	row() # descriptor os arch variant date: what list -v says of it
	{
		local m=$B/$(of "$1")
		awk -v h="$REGISTRY/nest 1 $(of "$outer" | cut -c1-12) $2" -v n="$(($(stat -c %s "$m") + $(jq '[.config.size, .layers[].size] | add' "$m")))" -v t="$3 $(of "$1" | cut -c1-12)" \
			'BEGIN { printf "%s %.1f MB %s\n", h, n / 1e6, t }'
	}
	is 'list -v: a row for each platform' "$("$C" image list -v | sed -n "\\,^$REGISTRY/nest ,{s/  */ /g;s/ *\$//;p}")" "$(row "$arm64" 'linux arm64' 2022-02-02T02:02:02Z
		row "$armv6" 'linux arm v6' 2021-01-01T01:01:01Z
		row "$amd64" 'linux amd64' 2023-11-14T22:13:20Z)"
	is 'list: one for all' "$("$C" image list | grep -c "^$REGISTRY/nest ")" 1
	run_ok 'push it' "$C" push "$REGISTRY/nest:1"
	at() # repository tag-or-digest: the document there
	{
		curl -fs -H "Accept: $OCI.index.v1+json, $OCI.manifest.v1+json" "http://$REGISTRY/v2/$1/manifests/$2"
	}
	is 'every document arrives as it was' "$(for d in "$outer" "$inner" "$arm64" "$armv6" "$amd64"; do at nest "sha256:$(of "$d")" | sha256sum | cut -d' ' -f1; done)" \
		"$(for d in "$outer" "$inner" "$arm64" "$armv6" "$amd64"; do of "$d"; done)"
	is 'the tag leads to the outer one' "$(at nest 1 | sha256sum | cut -d' ' -f1)" "$(of "$outer")"
	run_ok 'save it' "$C" save -o "$T/nest2.tar" "$REGISTRY/nest:1"
	run_ok 'delete it' "$C" rmi "$REGISTRY/nest:1"
	run_ok 'load what was saved' "$C" load -i "$T/nest2.tar"
	is 'is what it was' "$("$C" image inspect "$REGISTRY/nest:1" | jq -r '.[0] | [.id, (.variants | length)] | join(" ")')" "$(of "$outer") 3"
	"$C" rmi "$REGISTRY/nest:1" >/dev/null 2>&1
	run_ok 'pull what was pushed' "$C" pull "$REGISTRY/nest:1"
	is 'is what it was' "$("$C" image inspect "$REGISTRY/nest:1" | jq -r '.[0] | [.id, (.variants | length)] | join(" ")')" "$(of "$outer") 3"
	# One platform of it, however that is said: a repository gets that and nothing of the others.
	configs()
	{
		local d c
		for d in "$arm64" "$armv6" "$amd64"; do
			c=$(jq -r .config.digest "$B/$(of "$d")")
			curl -fsI "http://$REGISTRY/v2/$1/blobs/$c" >/dev/null && jq -r '.platform | .architecture + (.variant // "")' <<<"$d"
		done
	}
	n=0
	for how in '--platform linux/arm/v6|armv6' '--os linux --arch arm64|arm64' '-a arm64|arm64' '--os linux|amd64' '--arch x86_64|amd64'; do
		n=$((n + 1))
		"$C" tag "$REGISTRY/nest:1" "$REGISTRY/one$n:1" >/dev/null
		run_ok "push ${how%|*}" "$C" push ${how%|*} "$REGISTRY/one$n:1"
		is 'the indexes name that only' "$(at one$n "$(at one$n 1 | jq -r '.manifests[].digest')" | jq -r '.manifests[].platform | .architecture + (.variant // "")')" "${how#*|}"
		is 'and nothing else was sent' "$(configs one$n)" "${how#*|}"
		"$C" rmi "$REGISTRY/one$n:1" >/dev/null 2>&1
	done
	"$C" tag "$REGISTRY/nest:1" "$REGISTRY/env:1" >/dev/null
	run_ok 'push, as the environment says' env CONTAINER_DEFAULT_PLATFORM=linux/arm64 "$C" push "$REGISTRY/env:1"
	is 'that only' "$(configs env)" arm64
	"$C" rmi "$REGISTRY/env:1" "$REGISTRY/nest:1" >/dev/null 2>&1
	for r in a/demo:1 b/demo:1 multi:1; do "$C" rmi "$REGISTRY/$r"; done >/dev/null 2>&1
	"$C" rmi 127.0.0.1:1/a/demo:1 >/dev/null 2>&1
	run_ok 'pull what was pushed' "$C" pull "$REGISTRY/b/demo:1"
	is 'is what it was' "$("$C" image inspect "$REGISTRY/b/demo:1" | jq -r '.[0].id')" "$digest"
	"$C" rmi "$REGISTRY/b/demo:1" >/dev/null 2>&1
else
	skip 'push' 'skopeo is not installed'
fi

# A registry that wants to know who asks.
start_registry private tester s3cret-word
R=$REGISTRY
export HOME=$T/home
mkdir -p "$HOME"
run_ok 'tag' "$C" tag demo "$R/p/demo:1"
run_rc 1 'push without a login' "$C" push "$R/p/demo:1"
like 'says how to log in' "$err" "container registry login $R"
login()
{
	printf %s "$1" | timeout "$T_LIMIT" "$C" registry login -u tester --password-stdin "$R" >"$T/login.out" 2>"$T/login.err"
}
ok 'a wrong password is refused' bash -c "! printf nope | $C login -u tester --password-stdin $R 2>/dev/null"
is 'and not kept' "$("$C" registry list -q)" ''
ok 'login' login s3cret-word
like 'says so on standard error' "$(cat "$T/login.err")" 'Login succeeded'
is 'and nothing on standard output' "$(cat "$T/login.out")" ''
run_ok 'registry list' "$C" registry list
like 'columns' "$out" '^HOSTNAME +USERNAME +MODIFIED +CREATED'
like 'the login' "$out" "$R +tester"
is 'as JSON' "$("$C" r ls --format json | jq -c '.[] | [.id, .name, .username, (.labels | length)]')" "[\"$R\",\"$R\",\"tester\",0]"
dates=$("$C" r ls --format json | jq -r '.[0] | .creationDate, .modificationDate')
is 'with its dates' "$(grep -cE '^20[0-9]{2}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$' <<<"$dates")" 2
{ read -r created; read -r modified; } <<<"$dates"
is 'as YAML' "$("$C" r ls --format yaml)" "- creationDate: \"$created\"
  id: \"$R\"
  labels: {}
  modificationDate: \"$modified\"
  name: \"$R\"
  username: tester"
is 'as TOML' "$("$C" r ls --format toml | grep -vE '^$')" "[[items]]
creationDate = \"$created\"
id = \"$R\"
modificationDate = \"$modified\"
name = \"$R\"
username = \"tester\"
[items.labels]"
run_ok 'push with the login' "$C" push "$R/p/demo:1"
"$C" rmi "$R/p/demo:1" >/dev/null 2>&1
run_ok 'pull with the login' "$C" pull "$R/p/demo:1"
is 'the secret is nowhere on disk' "$(grep -rlF s3cret-word "$CONTAINER_APP_ROOT" "$CONTAINER_RUN_ROOT" "$CONTAINER_LOG_ROOT" 2>/dev/null)" ''
is 'nor is its base64' "$(grep -rlF "$(printf tester:s3cret-word | base64)" "$CONTAINER_APP_ROOT" "$CONTAINER_RUN_ROOT" "$CONTAINER_LOG_ROOT" 2>/dev/null)" ''
is 'only its owner reads the store' "$(stat -c %a "$CONTAINER_APP_ROOT/credentials")" 600
ok 'a key file, if any, too' bash -c '[ ! -e "$1" ] || [ "$(stat -c %a "$1")" = 600 ]' - "$CONTAINER_APP_ROOT/credentials.key"
run_ok 'logout' "$C" registry logout "$R"
is 'is silent' "$out$err" ''
run_rc 1 'once more' "$C" logout "$R"
run_rc 1 'without the login' "$C" pull "$R/p/demo:1"
run_ok 'from the environment' env CONTAINER_REGISTRY_HOST="$R" CONTAINER_REGISTRY_USER=tester CONTAINER_REGISTRY_TOKEN=s3cret-word "$C" pull "$R/p/demo:1"
run_rc 1 'for another host' env CONTAINER_REGISTRY_HOST=example.com CONTAINER_REGISTRY_USER=tester CONTAINER_REGISTRY_TOKEN=s3cret-word "$C" pull "$R/p/demo:1"
mkdir -p "$HOME/.docker" "$T/bin"
printf '{"auths": {"%s": {"auth": "%s"}}}' "$R" "$(printf tester:s3cret-word | base64)" >"$HOME/.docker/config.json"
run_ok "from docker's configuration" "$C" pull "$R/p/demo:1"
cat >"$T/bin/docker-credential-fake" <<X
#!/bin/sh
[ "\$1" = get ] && read -r s
[ "\$s" = "$R" ] && echo '{"ServerURL": "$R", "Username": "tester", "Secret": "s3cret-word"}'
X
chmod +x "$T/bin/docker-credential-fake"
printf '{"credHelpers": {"%s": "fake"}}' "$R" >"$HOME/.docker/config.json"
run_ok "from a credential helper" env PATH="$T/bin:$PATH" "$C" pull "$R/p/demo:1"
printf '{"credsStore": "fake"}' >"$HOME/.docker/config.json"
run_ok "from docker's credential store" env PATH="$T/bin:$PATH" "$C" pull "$R/p/demo:1"
printf '{"credsStore": "../../bin/fake"}' >"$HOME/.docker/config.json"
run_rc 1 'a helper is a name, not a path' env PATH="$T/bin:$PATH" "$C" pull "$R/p/demo:1"
rm -r "$HOME/.docker"

# A helper that our own configuration names keeps the logins: get, store, erase, list.
cat >"$T/bin/docker-credential-box" <<'H'
#!/bin/sh
box=$HOME/box
mkdir -p "$box"
read -r s
case $1 in
store) printf '%s' "$s" >"$box/$(printf %s "$s" | jq -r .ServerURL | tr / _)" ;;
get) cat "$box/$(printf %s "$s" | tr / _)" || { echo 'credentials not found'; exit 1; } ;;
erase) rm "$box/$(printf %s "$s" | tr / _)" ;;
list) cat "$box"/* 2>/dev/null | jq -s 'map({(.ServerURL): .Username}) | add // {}' ;;
esac
H
chmod +x "$T/bin/docker-credential-box"
old_path=$PATH
export PATH=$T/bin:$PATH
for config in '{"registry.credsStore": "box"}' "{\"registry.credHelpers\": \"example.com=none, $R=box\"}"; do
	echo "$config" >"$CONTAINER_CONFIG"
	run_rc 1 'a helper that has nothing' "$C" pull "$R/p/demo:1"
	ok 'a wrong password' bash -c "! printf nope | $C login -u tester --password-stdin $R 2>/dev/null"
	ok 'goes nowhere' test ! -e "$HOME/box/$R"
	ok 'login with a helper' login s3cret-word
	is 'the helper keeps it' "$(jq -r .Secret "$HOME/box/$R")" s3cret-word
	[ "$config" = "${config#*credHelpers}" ] || printf '#!/bin/sh\necho {}\n' | install -m 755 /dev/stdin "$T/bin/docker-credential-none"
	is 'we do not' "$("$C" registry list --format '{{.Name}} {{.Username}} {{.CreatedAt}}')" "$R tester "
	run_ok 'pull with it' "$C" pull "$R/p/demo:1"
	run_ok 'logout' "$C" logout "$R"
	ok 'takes it from the helper' test ! -e "$HOME/box/$R"
done
echo '{"registry.credsStore": "../box"}' >"$CONTAINER_CONFIG"
run_rc 1 'a helper is no path in our configuration either' "$C" logout "$R"
like 'says so' "$err" 'registry.credsStore'
echo '{"registry.credsStore": "nowhere"}' >"$CONTAINER_CONFIG"
run_rc 1 'a helper that is not there' "$C" logout "$R"
like 'is named' "$err" 'docker-credential-nowhere is not on PATH'
echo '{}' >"$CONTAINER_CONFIG"
export PATH=$old_path
run_rc 1 'no such host' "$C" registry login -u a --password-stdin no-such-host.invalid
run_rc 1 'no host at all' "$C" registry logout 'Not a host'
"$C" rmi "$R/p/demo:1" >/dev/null 2>&1

# df: allocated blocks; a container keeps its image.
df()
{
	"$C" system df --format json | jq -r "$1"
}
run_ok 'system df' "$C" system df
like 'columns' "$out" '^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE'
like 'images (imageDiskUsageIsPopulatedAfterPull)' "$out" 'Images +2 +0 +[0-9.]+ [KM]B +[0-9.]+ [KM]B \(100%\)'
like 'containers' "$out" 'Containers +0 +0 +0.0 KB +0.0 KB \(0%\)'
like 'volumes' "$out" 'Local Volumes +0 +0'
is 'says what du says (tagsDoNotDoubleCountImageStorage)' "$(df .images.sizeInBytes)" "$(($(du -s -B512 "$D" "$CONTAINER_APP_ROOT"/layers "$CONTAINER_APP_ROOT"/rootfs -c | tail -1 | cut -f1) * 512 -
	($(stat -c %b "$D" "$CONTAINER_APP_ROOT/layers" "$CONTAINER_APP_ROOT/rootfs" | paste -sd+)) * 512))"
run_ok 'a container' "$C" create --name keeper demo true
is 'makes its image active, under both names' "$(df '[.images.active, .containers.total, .containers.active] | join(" ")')" '2 1 0'
is 'nothing of it can be reclaimed' "$(df .images.reclaimable)" 0
ok 'but the container can' test "$(df .containers.reclaimable)" -gt 0
run_ok 'prune --all keeps it (testImagePruneDanglingImages)' "$C" image prune -a
is 'and says so (testImagePruneNoImages)' "$out$err" 'Reclaimed Zero KB in disk space'
run_ok 'delete of an image in use takes its names' "$C" image delete demo example.com/a/demo:2
is 'and leaves what the container is made of' "$(ls "$CONTAINER_APP_ROOT/rootfs" | grep -c '^[0-9a-f]\{64\}$') $(ls "$CONTAINER_APP_ROOT/layers" | grep -c '^[0-9a-f]\{64\}$')" '1 3'
run_ok 'load them again' "$C" load -i "$T/out.tar"
run_ok 'delete the container' "$C" delete keeper
set_kernel
run_ok 'a running container' "$C" run -d --name runner -m 256m demo sh -c 'dd if=/dev/urandom of=/grown bs=1M count=5; sync; echo grown; sleep 1000'
ok 'that has written' wait_until 30 eval '"$C" logs runner | grep -q grown'
du_of_containers() # allocated, as du says
{
	du -sc -B1 "$CONTAINER_APP_ROOT"/containers/* | tail -1 | cut -f1
}
# What is allocated while we look is not compared.
df_is_du() # jq-filter
{
	local before
	before=$(du_of_containers)
	seen=$(df "$1")
	[ "$before" = "$(du_of_containers)" ] && [ "$seen" = "$before" ]
}
ok 'its size is what du says of its directory' wait_until 20 df_is_du .containers.sizeInBytes || diag "$seen: $(du -a -B1 "$CONTAINER_APP_ROOT/containers")"
ok 'which holds what it wrote' [ "$seen" -gt 5000000 ]
is 'it is active, and nothing of it can be reclaimed' "$(df '[.containers.total, .containers.active, .containers.reclaimable] | join(" ")')" '1 1 0'
run_ok 'one that does not run' "$C" create --name idle demo true
is 'is not active' "$(df '[.containers.total, .containers.active] | join(" ")')" '2 1'
is 'and all of it can be reclaimed' "$(df .containers.reclaimable)" "$(du -s -B1 "$CONTAINER_APP_ROOT/containers/idle" | cut -f1)"
run_ok 'stop' "$C" stop -t 0 runner
is 'nothing is active' "$(df .containers.active)" 0
ok 'all can be reclaimed' wait_until 20 df_is_du .containers.reclaimable
is 'which is all there is' "$(df '.containers | .sizeInBytes == .reclaimable')" true
run_ok 'delete them' "$C" delete runner idle
is 'nothing is left of them' "$(df '.containers | [.total, .active, .sizeInBytes, .reclaimable] | join(" ")')" '0 0 0 0'

# prune
run_ok 'prune' "$C" image prune
is 'keeps what has a tag' "$out" ''
# What was loaded without a name is dangling: it is there, and goes first.
rm -rf "$T/bare" && mkdir "$T/bare"
tar -C "$T/bare" -xf "$IMAGES/demo.oci.tar"
B=$T/bare/blobs/sha256
bare=$(jq -c '.annotations = {bare: "yes"}' "$B/$digest")
id=$(printf %s "$bare" | sha256sum | cut -d' ' -f1)
printf %s "$bare" >"$B/$id"
jq -nc --arg d "sha256:$id" --argjson n ${#bare} '{schemaVersion: 2, manifests: [{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $d, size: $n}]}' >"$T/bare/index.json"
tar -C "$T/bare" -cf "$T/bare.tar" oci-layout index.json blobs
run_ok 'load a layout that names nothing' "$C" load -i "$T/bare.tar"
is 'is named by its digest' "$out" "docker.io/library/untagged@sha256:$id"
is 'dangling is just that' "$("$C" images -q -f dangling=true)" "untagged@sha256:$id"
is 'the others are not' "$("$C" images -q -f dangling=false | sort | paste -sd,)" demo:latest,example.com/a/demo:2
reclaimed() # what there was: as prune says it, from what df says now
{
	awk -v n="$(($1 - $(df .images.sizeInBytes)))" 'BEGIN {
		split("KB MB GB", unit)
		for (u = 1; (n /= 1000) >= 1000; u++);
		printf "Reclaimed %.*f %s in disk space", (u > 1), n, unit[u]
	}'
}
used=$(df .images.sizeInBytes)
run_ok 'prune' "$C" image prune
is 'takes it' "$out" "docker.io/library/untagged@sha256:$id"
is 'and says what it freed, of what was not shared' "$err" "$(reclaimed "$used")"
ok 'with what only it had' test ! -e "$D/$id" -a ! -e "$CONTAINER_APP_ROOT/rootfs/$id"
is 'and nothing else' "$("$C" images -q | sort | paste -sd,)" demo:latest,example.com/a/demo:2
used=$(df .images.sizeInBytes)
run_ok 'prune --all' "$C" image prune -af
is 'takes the tagged too (testImagePruneUnusedImages)' "$(sort <<<"$out" | tr '\n' ' ')" 'docker.io/library/demo:latest example.com/a/demo:2 '
is 'says what it freed' "$err" "$(reclaimed "$used")"
is 'and all content' "$(ls "$D" "$CONTAINER_APP_ROOT/layers" "$CONTAINER_APP_ROOT/rootfs" | grep -c '^[0-9a-f]\{64\}$')" 0

# What the configuration says of registries: certificates, those not to look at, mirrors.
start_registry
run_ok 'load' "$C" load -i "$T/out.tar"
"$C" tag demo "$REGISTRY/m/demo:1" >/dev/null
run_ok 'fill the mirror' "$C" push "$REGISTRY/m/demo:1"
M=$REGISTRY
# Another has the same and wants to know who asks. It is also to be had at an address that is no private one.
tester=(env CONTAINER_REGISTRY_USER=tester CONTAINER_REGISTRY_TOKEN=s3cret-word) # the login that does at R
"$C" tag demo "$R/m/demo:1" >/dev/null
run_ok 'fill a mirror that asks' "${tester[@]}" CONTAINER_REGISTRY_HOST="$R" "$C" push "$R/m/demo:1"
ip addr add 203.0.113.9/32 dev lo
free_port
W=203.0.113.9:$T_PORT
socat -r "$T/w.bytes" "TCP-LISTEN:$T_PORT,bind=203.0.113.9,fork,reuseaddr" "TCP:$R" 2>/dev/null &
wait_until 20 curl -s "http://$W/v2/" || bail 'it is to be had there'
: >"$T/w.bytes"
make_certificate
REGISTRY_HTTP_TLS_CERTIFICATE=$T/cert.pem REGISTRY_HTTP_TLS_KEY=$T/key.pem start_registry tls
S=$REGISTRY
"$C" tag demo "$S/t/demo:1" >/dev/null
run_rc 1 'a certificate nobody vouches for' "$C" push --scheme https "$S/t/demo:1"
like 'says so' "$err" 'TLS|certificate'
stop_system
jq -n --arg ca "$T/cert.pem" --arg m "docker.io=http://$R, docker.io=http://$M" '{registry: {ca: $ca, mirrors: $m}}' >"$CONTAINER_CONFIG"
start_system
run_ok 'with registry.ca' "$C" push --scheme https "$S/t/demo:1"
ok 'by HTTP/2' wait_until 10 grep -qF '"PUT /v2/t/demo/manifests/1 HTTP/2.0"' "$T/tls.log"
"$C" image delete --all >/dev/null 2>&1
is 'nothing is here' "$(ls "$D")" ''
run_ok 'pull from there' "$C" pull --scheme https "$S/t/demo:1"
blobs() # protocol: how many blobs the registry gave
{
	grep -cE "\"GET /v2/t/demo/blobs/sha256:[0-9a-f]{64} HTTP/$1\" 200" "$T/tls.log"
}
four_blobs()
{
	[ "$(blobs '[0-9.]*')" = 4 ]
}
ok 'configuration and layers' wait_until 10 four_blobs
is 'by HTTP/2 too' "$(blobs 2.0)" 4
ok 'a login that is kept for a mirror' login s3cret-word
seen=$(wc -l <"$T/private.log")
run_ok 'pull through a mirror, with a login for the registry' "${tester[@]}" CONTAINER_REGISTRY_HOST=docker.io "$C" pull docker.io/m/demo:1
is 'the name is that of the registry' "$out" 'docker.io/m/demo:1'
asked_first() # status: how often the mirror that asks who we are answered with it
{
	sed "1,${seen}d" "$T/private.log" | grep -c "\"GET /v2/m/demo/manifests/1 HTTP/1.1\" $1 "
}
ok 'the first mirror was asked' wait_until 10 eval '[ "$(asked_first 401)" = 1 ]'
is 'it was not told who we are' "$(asked_first '[23]..')" 0
run_ok 'though either login would have done' "${tester[@]}" CONTAINER_REGISTRY_HOST="$R" "$C" pull "$R/m/demo:1"
"$C" rmi "$R/m/demo:1" >/dev/null 2>&1
run_ok 'as would the one that is kept' "$C" pull "$R/m/demo:1"
run_rc 1 'what the mirror lacks is asked of the registry' "$C" pull docker.io/m/lacking:1
like 'which cannot be reached here' "$err" 'registry-1.docker.io'
# A host in the world is asked by https, and by nothing else, unless the configuration or the command says so.
run_rc 1 'a host in the world that has no TLS' "${tester[@]}" CONTAINER_REGISTRY_HOST="$W" "$C" pull "$W/m/demo:1"
like 'says so' "$err" 'TLS: '
ok 'it was asked, by https' test -s "$T/w.bytes"
is 'not by http' "$(grep -ac 'HTTP/1' "$T/w.bytes")" 0
ok 'nor is a password tried there' bash -c "! printf s3cret-word | $C login -u tester --password-stdin $W 2>/dev/null"
is 'by http' "$(grep -ac 'HTTP/1' "$T/w.bytes")" 0
run_ok 'with --scheme http' "${tester[@]}" CONTAINER_REGISTRY_HOST="$W" "$C" pull --scheme http "$W/m/demo:1"
ok 'it is http' grep -aq '^GET /v2/m/demo/manifests/1 HTTP/1' "$T/w.bytes"
stop_system
jq -n --arg s "$S,$W" '{registry: {insecure: $s}}' >"$CONTAINER_CONFIG"
start_system
run_ok 'with registry.insecure' "$C" pull --scheme https "$S/t/demo:1"
run_ok 'or by http' "${tester[@]}" CONTAINER_REGISTRY_HOST="$W" "$C" pull "$W/m/demo:1"
ok 'with a login' bash -c "printf s3cret-word | $C login -u tester --password-stdin $W 2>/dev/null"
"$C" tag "$W/m/demo:1" "$W/pushed:1" >/dev/null
run_ok 'both ways' "$C" push "$W/pushed:1"
run_rc 1 'unless https is asked for' "$C" pull --scheme https "$W/m/demo:1"
like 'which it has not' "$err" 'TLS: '
stop_system
echo '{"registry": {"mirrors": "docker.io"}}' >"$CONTAINER_CONFIG"
run_rc 1 'a mirror without a URL' "$C" system property list
like 'is refused' "$err" 'registry.mirrors'
echo '{}' >"$CONTAINER_CONFIG"
stop_system
done_testing
