#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The image and registry commands beside Apple's tool and docker: every format, key, message and exit status. No guest runs. (Flags: 17-container-parity.)
. "$(dirname "$0")/../lib/system.sh"
demo_images
start_system
run_ok 'load' "$C" image load -i "$IMAGES/demo.oci.tar"
run_ok 'load' "$C" image load -i "$IMAGES/demo.docker.tar"
id=$("$C" image inspect demo | jq -r '.[0].id')
export HOME=$T

for cmd in 'image ls' 'image rm' 'i ls' 'registry ls' 'r ls'; do
	run_ok "$cmd is a name too" "$C" $cmd --help
done
for cmd in 'image list --format xml' 'registry list --format xml' 'system df --format xml' 'image pull --scheme ftp demo' \
	'image push --scheme ftp demo' 'registry login --scheme ftp x' 'image pull --progress loud demo' 'image push --progress loud demo'; do
	run_rc 64 "not one of the choices: $cmd" "$C" $cmd
	like 'lists them' "$err" 'Please provide one of: (json|http|auto)\|'
done

# Formats: list is compact JSON with sorted keys and "\/", inspect and df are indented; TOML wraps an array in items.
run "$C" image list --format json
is 'list: one line of JSON' "$(wc -l <<<"$out")" 1
like 'with slashes escaped' "$out" '"name":"docker.io\\/library\\/demo:latest"'
is 'with sorted keys' "$(jq -c '.[0] | keys_unsorted == keys' <<<"$out")" true
is 'keys of an image' "$(jq -c '.[0] | [keys, (.configuration | keys), (.configuration.descriptor | keys)]' <<<"$out")" \
	'[["configuration","id","variants"],["creationDate","descriptor","name"],["digest","mediaType","size"]]'
is 'keys of a variant' "$(jq -c '.[0].variants[0] | [keys, (.config | keys), (.config.rootfs | keys), (.config.history[0] | keys)]' <<<"$out")" \
	'[["config","digest","platform","size"],["architecture","config","created","history","os","rootfs"],["diff_ids","type"],["created_by"]]'
is 'an id is 64 digits' "$(jq -r '.[0].id' <<<"$out" | grep -cE '^[0-9a-f]{64}$')" 1
ok 'a variant has a size (testImageVariantSizeFieldExists)' test "$(jq '.[0].variants[0].size' <<<"$out")" -gt 0
like 'a date without fractions' "$(jq -r '.[0].configuration.creationDate' <<<"$out")" '^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$'
run "$C" image inspect demo
like 'inspect is indented' "$out" $'^\[\n  \{\n    "configuration" : \{'
is 'the same object as in the list' "$(jq -c '.[0]' <<<"$out")" "$("$C" image list --format json | jq -c --arg i "$id" '.[] | select(.id == $i)')"
like 'YAML' "$("$C" image list --format yaml)" $'^- configuration:\n    creationDate: '
like 'TOML' "$("$C" image list --format toml)" $'^\[\[items\]\]\n'
is 'quiet is for the table only' "$("$C" image list -q --format json | jq length)" 2
like 'df as JSON is indented' "$("$C" system df --format json)" $'^\{\n  "containers" : \{'
is 'keys of df' "$("$C" system df --format json | jq -c '[keys, (.images | keys)]')" \
	'[["containers","images","volumes"],["active","reclaimable","sizeInBytes","total"]]'
like 'df as YAML' "$("$C" system df --format yaml)" $'^containers:\n  active: 0\n'
like 'df as TOML' "$("$C" system df --format toml)" $'^\[containers\]\nactive = 0\n'
is 'no logins as JSON (testListJSONFormat)' "$("$C" registry list --format json)" '[]'
is 'as TOML' "$("$C" registry list --format toml)" 'items = []'
is 'as names (testListQuietMode)' "$("$C" registry list -q)" ''

# Tables.
like 'list (testImageListTableFormat)' "$("$C" image list | head -1)" '^NAME +TAG +DIGEST$'
like 'list -v' "$("$C" image list -v | head -1)" '^NAME +TAG +INDEX DIGEST +OS +ARCH +VARIANT +FULL SIZE +CREATED +MANIFEST DIGEST$'
size=$("$C" image inspect demo | jq '.[0].variants[0].size')
mb=$(awk -v n="$size" 'BEGIN { printf "%.1f MB", n / 1e6 }')
is 'list -v: a line of what inspect says' "$("$C" image list -v | sed -n '/^demo *latest/{s/  */ /g;s/ *$//;p}')" \
	"demo latest ${id:0:12} linux amd64 $mb 2023-11-14T22:13:20Z ${id:0:12}"
is 'list -q drops the default registry' "$("$C" image list -q | sort | paste -sd,)" demo:docker,demo:latest
like 'registry list (testListDefaultFormat)' "$("$C" registry list)" '^HOSTNAME +USERNAME +MODIFIED +CREATED$'
like 'df' "$("$C" system df)" $'^TYPE +TOTAL +ACTIVE +SIZE +RECLAIMABLE *\nImages .*\nContainers .*\nLocal Volumes '

# Messages.
run_rc 1 'quiet and verbose' "$C" image list -q -v
run_rc 1 'no downloads at once (testMaxConcurrentDownloadsValidation)' "$C" image pull --max-concurrent-downloads 0 demo
like 'says so' "$err" 'maximum number of concurrent downloads must be greater than 0'
run_rc 1 'a bare id is no name' "$C" image pull "$id"
run_rc 1 'delete of nothing' "$C" image delete
like 'says so' "$err" 'no images specified'
run_rc 1 'delete of all and one' "$C" image delete --all demo
like 'says so' "$err" 'conflict with the --all flag'
run_rc 1 'inspect of what is not there (testInspectMissingImageFails)' "$C" image inspect demo nothing
like 'says so' "$err" 'image not found'
is 'and nothing else' "$out" ''
run_rc 1 'save of a platform that is not there (testImageSaveMissingPlatform)' "$C" image save --arch s390x -o "$T/no.tar" demo
like 'says so, and what is there' "$err" 'has no content for platform linux/s390x \(available: linux/amd64\)'
run_rc 1 'load of no file (testImageLoadMissingFileErrorToStderr)' "$C" image load -i "$T/nothing.tar"
is 'is silent on standard output' "$out" ''
like 'names the path' "$err" "$T/nothing.tar"
run_rc 1 'login with --password-stdin alone' "$C" registry login --password-stdin example.com
like 'says what it needs' "$err" '--username'
run_ok 'a tag' "$C" image tag demo keep:1
is 'as typed' "$out" keep:1
run_rc 1 'unknown names fail at the end' "$C" image delete nothing keep:1
is 'the others are gone' "$out" docker.io/library/keep:1
like 'the unknown one is named' "$err" 'image not found: nothing'
run_ok 'unless forced' "$C" image delete -f nothing
run_ok 'prune of nothing' "$C" image prune
is 'says how much' "$err" 'Reclaimed Zero KB in disk space'

# Platforms: --platform before --os and --arch before the environment; a note says when the environment decided.
for how in '--platform linux/s390x' '--platform linux/s390x --arch amd64' '--arch s390x' '--os linux --arch s390x'; do
	run_rc 1 "save $how" "$C" image save $how -o "$T/no.tar" demo
	like 'is for that platform' "$err" 'linux/s390x'
done
run_ok '--os pairs with this architecture' "$C" image save --os linux -o "$T/os.tar" demo
run_rc 1 'the environment' env CONTAINER_DEFAULT_PLATFORM=linux/s390x "$C" image save -o "$T/no.tar" demo
like 'is told of' "$err" 'linux/s390x from CONTAINER_DEFAULT_PLATFORM'
run_ok 'comes last' env CONTAINER_DEFAULT_PLATFORM=linux/s390x "$C" image save --arch amd64 -o "$T/os.tar" demo
run_rc 1 'and must be one' env CONTAINER_DEFAULT_PLATFORM=nonsense "$C" image save -o "$T/no.tar" demo

# docker's habits.
for cmd in pull push login logout images rmi history tag save load; do
	run_ok "$cmd" "$C" "$cmd" --help
done
is 'images NAME' "$("$C" images demo -q | wc -l)" 2
is 'images NAME:TAG' "$("$C" images demo:docker -q)" demo:docker
is 'images of no such name' "$("$C" images nothing -q)" ''
run_ok 'images -a --digests' "$C" images -a --digests
like 'images --no-trunc' "$("$C" images --no-trunc demo:latest)" "sha256:$id"
is 'images --format' "$("$C" images demo:latest --format '{{.ID}} {{.Repository}} {{.Tag}} {{.Digest}} {{.CreatedAt}}')" \
	"${id:0:12} demo latest sha256:$id 2023-11-14T22:13:20Z"
is 'and what it is called, and how large' "$("$C" images demo:latest --format '{{.Size}}|{{.Reference}}|{{.Name}}')" "$mb|docker.io/library/demo:latest|demo"
is 'df --format' "$("$C" system df --format '{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}' | tail -2)" \
	$'Containers|0|0|0.0 KB|0.0 KB (0%)\nLocal Volumes|0|0|0.0 KB|0.0 KB (0%)'
like 'df --format, of images' "$("$C" system df --format '{{.Type}}|{{.TotalCount}}|{{.Active}}|{{.Size}}|{{.Reclaimable}}' | head -1)" \
	'^Images\|2\|0\|([0-9.]+ [KM]B)\|\1 \(100%\)$'
is 'all of it' "$("$C" images demo:latest --format '{{json .}}' | jq -r .id)" "$id"
for f in 'reference=dem*|2' 'reference=demo:d*|1' 'label=demo.from|2' 'label=demo.from=image|2' 'label=demo.from=else|0' 'dangling=false|2' \
	'dangling=true|0' 'until=24h|2' 'until=2020-01-01|0' 'until=1600000000|0' 'until=2023-11-15T00:00:00+01:00|2' 'since=demo|0' "before=${id:0:12}|0"; do
	is "images --filter ${f%|*}" "$("$C" images -q --filter "${f%|*}" | wc -l)" "${f#*|}"
done
# An image that is older than the others: the same layers under a configuration of another day.
blob() # puts standard input into the layout; prints "digest size"
{
	cat >"$T/older/blob"
	set -- "$(sha256sum "$T/older/blob" | cut -d' ' -f1)" "$(stat -c %s "$T/older/blob")"
	mv "$T/older/blob" "$T/older/blobs/sha256/$1"
	echo "$1 $2"
}
mkdir "$T/older"
tar -C "$T/older" -xf "$IMAGES/demo.oci.tar"
B=$T/older/blobs/sha256
read -r d n < <(jq -c '.created = "2020-06-01T00:00:00Z"' "$B/$(jq -r .config.digest "$B/$id" | cut -d: -f2)" | blob)
read -r d n < <(jq -c --arg d "sha256:$d" --argjson n "$n" '.config.digest = $d | .config.size = $n' "$B/$id" | blob)
jq -nc --arg d "sha256:$d" --argjson n "$n" '{schemaVersion: 2, manifests: [{mediaType: "application/vnd.oci.image.manifest.v1+json", digest: $d, size: $n,
	annotations: {"org.opencontainers.image.ref.name": "older:1"}}]}' >"$T/older/index.json"
tar -C "$T/older" -cf "$T/older.tar" oci-layout index.json blobs
run_ok 'load an older image' "$C" load -i "$T/older.tar"
for f in 'before=demo|older:1' 'since=older:1|demo:docker,demo:latest' 'before=older:1|' 'since=demo|' "before=${id:0:12}|older:1" "since=${d:0:12}|demo:docker,demo:latest" \
	'until=2020-06-02|older:1'; do
	is "images --filter ${f%|*}" "$("$C" images -q --filter "${f%|*}" | sort | paste -sd,)" "${f#*|}"
done
is 'between two' "$("$C" images -q -f since=older:1 -f before=demo)" ''
is 'with another filter' "$("$C" images -q -f since=older:1 -f reference=demo:d*)" demo:docker
run_ok 'delete it' "$C" rmi older:1
for f in colour=blue dangling=maybe until=soon since=nothing label; do
	run_rc 1 "images --filter $f" "$C" images --filter "$f"
done
is 'inspect by the beginning of an id' "$("$C" image inspect "${id:0:8}" | jq -r '.[0].id')" "$id"
is 'inspect --format' "$("$C" image inspect -f '{{.Id}} {{.Os}}/{{.Architecture}} {{.Config.Cmd}} {{.Config.Labels}}' demo)" \
	"sha256:$id linux/amd64 [sh] map[demo.from:image]"
run_rc 1 'of a field that is not' "$C" image inspect -f '{{.Colour}}' demo
is 'history' "$("$C" history --format '{{.CreatedBy}}' demo | paste -sd,)" whiteouts,add,busybox-static
is 'history as JSON' "$("$C" history --format json demo | jq -r '.[0].created_by')" busybox-static
is 'df --format' "$("$C" system df --format '{{.Type}} {{.TotalCount}}' | paste -sd,)" 'Images 2,Containers 0,Local Volumes 0'
run_ok 'load -q' "$C" load -q -i "$IMAGES/demo.oci.tar"
is 'is quiet' "$err" ''
run_ok 'tag' "$C" tag demo other:1
run_rc 1 'rmi of an id with two names' "$C" rmi "${id:0:12}"
like 'says why' "$err" 'has 2 names'
run_ok 'rmi -f' "$C" rmi -f "${id:0:12}"
is 'takes both' "$(sort <<<"$out" | paste -sd,)" 'docker.io/library/demo:latest,docker.io/library/other:1'
run_ok 'prune of what fits' "$C" image prune -af --filter until=24h --filter label=demo.from=else
is 'keeps what does not' "$("$C" images -q)" demo:docker
run_ok 'prune' "$C" image prune -af --filter label=demo.from=image
is 'takes what does' "$out" docker.io/library/demo:docker
like 'and says how much that was' "$err" 'Reclaimed [0-9.]+ MB in disk space'
run_rc 1 'logout of the default registry' "$C" logout
like 'is docker.io' "$err" 'not logged in to docker.io'

# What is asked for on a terminal, is: the name in the clear, the password not.
start_registry private tester s3cret-word
run_rc 1 'login without anything on standard input' "$C" registry login "$REGISTRY"
mkfifo "$T/keys"
timeout 120 script -qec "'$C' registry login '$REGISTRY'" /dev/null <"$T/keys" >"$T/tty" 2>&1 &
login=$!
exec 7>"$T/keys"
wait_until 20 grep -q 'Username: ' "$T/tty"
echo tester >&7
wait_until 20 grep -q 'Password: ' "$T/tty"
echo s3cret-word >&7
wait $login
exec 7>&-
like 'login on a terminal' "$(tr -d '\r\n' <"$T/tty")" 'Username: testerPassword: Login succeeded'
unlike 'the password is not shown' "$(cat "$T/tty")" 's3cret'
is 'registry list --format' "$("$C" registry list --format '{{.Name}} {{.Username}}')" "$REGISTRY tester"
run_ok 'logout' "$C" logout "$REGISTRY"
run_ok 'login -u -p' "$C" login -u tester -p s3cret-word "$REGISTRY"
like 'warns' "$err" 'use --password-stdin'
run_rc 1 'of the two ways to give a password one' "$C" login -u tester -p s3cret-word --password-stdin "$REGISTRY"
run_rc 1 'a wrong one' "$C" login -u tester -p wrong "$REGISTRY"
like 'is refused' "$err" 'refuses these credentials'
is 'and the good one is kept' "$("$C" registry list -q)" "$REGISTRY"

# Progress, byte by byte: testAutoProgressFallsBackToPlainWhenPiped, testExplicitPlainProgress, testExplicitAnsiProgress,
# testNoneProgressSuppressesOutput. Plain is a line for each thing; ansi draws a bar for each, again and again in place, and wipes all in the end.
"$C" load -q -i "$IMAGES/demo.oci.tar" >/dev/null
"$C" tag demo "$REGISTRY/p:1" >/dev/null
export TERM=xterm
E=$'\033'
on_terminal() # shell command: what its terminal gets
{
	timeout "$T_LIMIT" script -qec "$1" /dev/null </dev/null | sed 's/\r$//'
}
screen() # what a terminal shows in the end of what it got
{
	perl -0777 -ne 'my ($x, $y, @s) = (0, 0, "");
		while (/\G(?:\e\[(\d+)A|(\e\[J)|\e\[\d+m|(\r)|(\n)|([^\e]))/gcs) {
			if (defined $1) { $y -= $1; die "above the top" if $y < 0 }
			elsif (defined $2) { $#s = $y; $s[$y] = substr $s[$y], 0, $x }
			elsif (defined $3) { $x = 0 }
			elsif (defined $4) { $s[++$y] //= ""; $x = 0 }
			elsif (defined $5) { substr($s[$y], $x++, 1) = $5 }
		}
		die "unknown escape" if pos() != length;
		print map { "$_\n" } @s'
}
escapes() # which control sequences there are
{
	grep -ao "${E}[^A-Za-z]*." | sed -E "s/$E//; s/[0-9]+A/nA/" | sort -u | paste -sd' '
}
drawn() # auto, ansi or color: the lines that were drawn, each once, a bar as what it is a bar of; anything else stays as it is
{
	sed -E "s/^\r$E\[[0-9]+A$E\[J//" | if [ "$1" = color ]; then sed -E "s/^$E\[1m(.*)$E\[0m\$/\1/; s/$E\[32m(\[[^]]*\])$E\[0m /\1 /"; else cat; fi |
		sed -E 's/^  ([a-z]+ [a-z]+ [0-9a-f]{12}) \[[=> ]{20}\] [0-9.]+ [KM]?B of ([0-9.]+ [KM]?B)$/\1 \2/' | sort -u
}
item() # words digest size: a line of plain
{
	awk -v w="$1" -v d="${2#sha256:}" -v n="$3" 'BEGIN { split("B KB MB", unit); for (u = 1; n >= 1000; u++) n /= 1000; printf "%s %.12s %.*f %s\n", w, d, (u > 1), n, unit[u] }'
}
blob_of() # digest: its file
{
	echo "$CONTAINER_APP_ROOT/content/blobs/sha256/${1#sha256:}"
}
manifest=$(cat "$(blob_of "$id")")
config=$(jq -r .config.digest <<<"$manifest")
mapfile -t diffs < <(jq -r '.rootfs.diff_ids[]' "$(blob_of "$config")")
mapfile -t layers < <(jq -r '.layers[] | "\(.digest) \(.size)"' <<<"$manifest")
uploads=$(jq -r '(.config, .layers[]) | "\(.digest) \(.size)"' <<<"$manifest" | while read -r d n; do item 'upload blob' "$d" "$n"; done)
downloads=$(item 'download config' "$config" "$(jq .config.size <<<"$manifest")"; for l in "${layers[@]}"; do item 'download layer' $l; done)
unpacks=$(for i in "${!layers[@]}"; do item 'unpack layer' "${diffs[i]}" "${layers[i]#* }"; done)
pushing=$'[1/1] Pushing image\n'$uploads
ref=$REGISTRY/p:1
push="'$C' push '$ref'"
ANSI='[J [nA' COLOR='[0m [1m [32m [J [nA'

for how in 'auto|plain' 'plain|plain' 'none|' "ansi|$ANSI" "color|$COLOR"; do
	run_ok "push --progress ${how%%|*}, no terminal" "$C" push --progress "${how%%|*}" "$ref"
	is 'the reference, and nothing else, on standard output' "$out" "$ref"
	case $how in
	*plain) is 'a line for each blob' "$(sort <<<"$err")" "$(sort <<<"$pushing")" ;;
	none*) is 'nothing' "$err" '' ;;
	*)
		is 'only the escapes it is about' "$(escapes <<<"$err")" "${how#*|}"
		is 'a bar for each blob' "$(drawn "${how%%|*}" <<<"$err" | sed '/^$/d')" "$(sort <<<"$pushing")"
		;;
	esac
done
for how in "auto|$ANSI" "ansi|$ANSI" "color|$COLOR" 'plain|' 'none|'; do
	got=$(on_terminal "$push --progress ${how%%|*}")
	is "push --progress ${how%%|*} on a terminal: its escapes" "$(escapes <<<"$got")" "${how#*|}"
	case $how in
	plain*) is 'a line for each blob, and the reference last' "$(sed '$d' <<<"$got" | sort; tail -1 <<<"$got")" "$(sort <<<"$pushing"; echo "$ref")" ;;
	none*) is 'the reference' "$got" "$ref" ;;
	*)
		is 'a bar for each blob' "$(drawn "${how%%|*}" <<<"$got")" "$(sort <<<"$pushing"$'\n'"$ref")"
		is 'the reference is all that stays' "$(screen <<<"$got")" "$ref"
		;;
	esac
done
is 'auto is plain where TERM is dumb' "$(on_terminal "TERM=dumb $push" | sort)" "$(sort <<<"$pushing"$'\n'"$ref")"
is 'color is ansi with NO_COLOR' "$(on_terminal "NO_COLOR=1 $push --progress color" | escapes)" "$ANSI"
is 'standard error decides: a terminal' "$(on_terminal "$push >'$T/stdout'" | escapes) $(cat "$T/stdout")" "$ANSI $ref"
is 'or none' "$(on_terminal "$push 2>'$T/stderr'"; sort "$T/stderr")" "$(echo "$ref"; sort <<<"$pushing")"
is 'quiet' "$(on_terminal "$push -q")" "$ref"
got=$(on_terminal "stty cols 40; $push --progress ansi")
is 'a line is no longer than the screen is wide' "$(sed -E "s/^\r$E\[[0-9]+A$E\[J//" <<<"$got" | grep '^  ' | awk '{ print length($0) }' | sort -u)" 39
is 'and cut without more escapes' "$(escapes <<<"$got")" "$ANSI"
is 'in color those end before the cut' "$(on_terminal "stty cols 40; $push --progress color" | grep -a '^  ' | grep -avc "$E\[0m\$")" 0
like 'of an error stays what it says' "$(on_terminal "'$C' pull --progress ansi 127.0.0.1:1/p:1" | screen)" '^Error: [^'$'\n'']*127.0.0.1:1/p:1[^'$'\n'']*$'

anew() # nothing is here
{
	"$C" image delete --all >/dev/null 2>&1
}
anew
run_ok 'pull, no terminal' "$C" pull "$ref"
is 'says what it does first' "$(head -1 <<<"$err")" '[1/1] Fetching image'
is 'a line for each download and each layer that is unpacked' "$(sed 1d <<<"$err" | sort)" "$(sort <<<"$downloads"$'\n'"$unpacks")"
for how in ansi color; do
	anew
	got=$(on_terminal "'$C' pull --progress $how '$ref'")
	is "pull --progress $how: a bar for each layer" "$(drawn $how <<<"$got" | grep -v '^unpack')" "$(sort <<<$'[1/1] Fetching image\n'"$downloads"$'\n'"$ref")"
	is 'of which nothing stays' "$(screen <<<"$got")" "$ref"
done
run_ok 'pull -q' "$C" pull -q "$ref"
is 'is quiet' "$err" ''
stop_system
done_testing
