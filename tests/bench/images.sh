#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# images.sh: pull, push and disk use beside skopeo and umoci, printed and written to build/bench/images.tsv (row ours theirs unit ratio
# bar verdict). Same machine, same registry on loopback. The image: five layers of this host's own files, 300 MB or more, and a
# second one that shares all but the top. Medians of RUNS (3). A missed bar is said, never an error.
. "$(dirname "$0")/../lib/system.sh"
RUNS=${RUNS:-3}
tsv=${BENCH_TSV:-$BUILD/bench/images.tsv}
mkdir -p "$(dirname "$tsv")"
for tool in skopeo umoci docker-registry; do
	command -v $tool >/dev/null || skip_all "$tool is not installed"
done
export XDG_RUNTIME_DIR=$T
sk=(skopeo --tmpdir "$T" --insecure-policy)
printf 'row\tours\ttheirs\tunit\tratio\tbar\tverdict\n' >"$tsv"
printf '%-52s %9s %9s %-4s %6s %5s\n' '' ours theirs '' ratio bar

row() # name ours theirs|- unit bar|-
{
	local ratio=- verdict=-
	if [ "$3" != - ]; then
		ratio=$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.2f", a / b }')
		[ "$5" = - ] || verdict=$(awk -v r="$ratio" -v b="$5" 'BEGIN { print (r <= b) ? "ok" : "short" }')
	fi
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$ratio" "$5" "$verdict" >>"$tsv"
	printf '%-52s %9s %9s %-4s %6s %5s  %s\n' "$1" "$2" "$3" "$4" "$ratio" "$5" "$verdict"
}
median()
{
	sort -n | awk '{ v[NR] = $1 } END { print v[int((NR + 1) / 2)] }'
}
# Runs a command; leaves wall and cpu in seconds. cpu counts its children and, for ours, the image helper.
measure()
{
	local t0 t1 c0 c1 line
	c0=$(helper_cpu)
	t0=$EPOCHREALTIME
	line=$({ TIMEFORMAT='%U %S'; time timeout 300 "$@" >"$T/measure.log" 2>&1 || echo failed >"$T/failed"; } 2>&1 | tail -1)
	t1=$EPOCHREALTIME
	c1=$(helper_cpu)
	[ ! -e "$T/failed" ] || { cat "$T/measure.log" >&2; bail "$*"; }
	wall=$(awk -v a="$t0" -v b="$t1" 'BEGIN { printf "%.2f", b - a }')
	cpu=$(awk -v l="$line" -v a="$c0" -v b="$c1" 'BEGIN { split(l, v, " "); printf "%.2f", v[1] + v[2] + b - a }')
}
helper_cpu()
{
	awk -v hz="$(getconf CLK_TCK)" '{ sub(/^.*\) /, ""); print ($12 + $13) / hz }' "/proc/$HELPER/stat"
}
repeat() # key prepare-function cmd…: fills $T/<key>.wall and .cpu
{
	local key=$1 prepare=$2 i
	shift 2
	: >"$T/$key.wall"
	: >"$T/$key.cpu"
	for ((i = 0; i < RUNS; i++)); do
		$prepare
		measure "$@"
		echo "$wall" >>"$T/$key.wall"
		echo "$cpu" >>"$T/$key.cpu"
	done
}
get() # key
{
	median <"$T/$1"
}

# ---- the images ----
O=$T/image
mkdir -p "$O/blobs/sha256"
layer() # name dirs…: a gzip layer; appends to LAYERS and DIFFS
{
	local f=$T/$1.tar d
	shift
	tar -C / --sort=name --numeric-owner -cf "$f" "$@" 2>/dev/null
	DIFFS+=("\"sha256:$(sha256sum <"$f" | cut -d' ' -f1)\"")
	UNPACKED=$((UNPACKED + $(stat -c %s "$f")))
	gzip -n -6 "$f"
	d=$(sha256sum <"$f.gz" | cut -d' ' -f1)
	LAYERS+=("{\"mediaType\":\"application/vnd.oci.image.layer.v1.tar+gzip\",\"digest\":\"sha256:$d\",\"size\":$(stat -c %s "$f.gz")}")
	mv "$f.gz" "$O/blobs/sha256/$d"
}
blob() # text: descriptor's end
{
	local d
	d=$(printf %s "$1" | sha256sum | cut -d' ' -f1)
	printf %s "$1" >"$O/blobs/sha256/$d"
	printf '"digest":"sha256:%s","size":%d' "$d" ${#1}
}
image() # tag
{
	local diffs layers config
	diffs=$(IFS=,; echo "${DIFFS[*]}")
	layers=$(IFS=,; echo "${LAYERS[*]}")
	config=$(blob "{\"architecture\":\"amd64\",\"os\":\"linux\",\"config\":{},\"rootfs\":{\"type\":\"layers\",\"diff_ids\":[$diffs]}}")
	ENTRIES+=("{\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",$(blob "{\"schemaVersion\":2,\"mediaType\":\"application/vnd.oci.image.manifest.v1+json\",\"config\":{\"mediaType\":\"application/vnd.oci.image.config.v1+json\",$config},\"layers\":[$layers]}"),\"annotations\":{\"org.opencontainers.image.ref.name\":\"$1\"}}")
}
LAYERS=() DIFFS=() ENTRIES=() UNPACKED=0
layer python usr/lib/python3 usr/lib/python3.11 etc
layer include usr/include
layer share usr/share/perl usr/share/man usr/share/zoneinfo usr/share/locale usr/share/info
for d in usr/lib/gcc usr/lib/git-core usr/libexec usr/sbin; do
	[ ! -d "/$d" ] || [ ${#LAYERS[@]} -ge 5 ] || layer "$(basename $d)" "$d"
done
echo 1 >"$T/top"
layer top1 "${T#/}/top"
image 1
LAYERS=("${LAYERS[@]:0:${#LAYERS[@]}-1}") DIFFS=("${DIFFS[@]:0:${#DIFFS[@]}-1}")
for i in 2 3 4 5; do
	echo $i >"$T/top"
	layer "top$i" "${T#/}/top"
	image $i
	LAYERS=("${LAYERS[@]:0:${#LAYERS[@]}-1}") DIFFS=("${DIFFS[@]:0:${#DIFFS[@]}-1}")
done
echo '{"imageLayoutVersion":"1.0.0"}' >"$O/oci-layout"
printf '{"schemaVersion":2,"manifests":[%s]}' "$(IFS=,; echo "${ENTRIES[*]}")" >"$O/index.json"
printf '# %d layers, %d MB unpacked\n' "$((${#LAYERS[@]} + 1))" "$((UNPACKED / 1000000))"

# ---- the runs ----
start_registry
start_system
HELPER=$(service_pid container.images)
for i in 1 2 3 4 5; do
	"${sk[@]}" copy -q --dest-tls-verify=false "oci:$O:$i" "docker://$REGISTRY/bench:$i" || bail "the registry is filled"
done
theirs() # tag: what skopeo and umoci need to have a root file system
{
	skopeo --tmpdir "$T" --insecure-policy copy -q --src-tls-verify=false "docker://$REGISTRY/bench:$1" "oci:$T/layout:$1" &&
		umoci unpack --image "$T/layout:$1" "$T/bundle$1"
}
export -f theirs
export T REGISTRY
cold_ours()
{
	"$C" image delete --all >/dev/null 2>&1
}
cold_theirs()
{
	rm -rf "$T/layout" "$T"/bundle*
}
warm_ours()
{
	"$C" image delete "$REGISTRY/bench:2" >/dev/null 2>&1
}
warm_theirs()
{
	rm -rf "$T/bundle2"
	umoci rm --image "$T/layout:2" 2>/dev/null
	umoci gc --layout "$T/layout" 2>/dev/null
}
repeat pull cold_ours "$C" image pull --progress none "$REGISTRY/bench:1"
repeat tpull cold_theirs bash -c 'theirs 1'
row 'pull, ready to run: wall (skopeo + umoci)' "$(get pull.wall)" "$(get tpull.wall)" s 0.5
row 'pull, ready to run: CPU' "$(get pull.cpu)" "$(get tpull.cpu)" s 0.7
repeat second warm_ours "$C" image pull --progress none "$REGISTRY/bench:2"
repeat tsecond warm_theirs bash -c 'theirs 2'
row 'second image, all but the top layer shared: wall' "$(get second.wall)" "$(get tsecond.wall)" s 0.5
next_ours()
{
	rm -rf "$T/registry/data/docker"
	"$C" tag "$REGISTRY/bench:1" "$REGISTRY/push:1" >/dev/null
}
next_theirs()
{
	rm -rf "$T/registry/data/docker"
}
# The registry keeps no cache of blobs: what is gone from its disk is gone.
repeat push next_ours "$C" image push --progress none "$REGISTRY/push:1"
repeat tpush next_theirs "${sk[@]}" copy -q --dest-tls-verify=false "oci:$O:1" "docker://$REGISTRY/push:1"
row 'push: wall (skopeo)' "$(get push.wall)" "$(get tpush.wall)" s 1.0
"${sk[@]}" copy -q --dest-tls-verify=false "oci:$O:1" "docker://$REGISTRY/bench:1"
for i in 3 4 5; do
	"${sk[@]}" copy -q --dest-tls-verify=false "oci:$O:$i" "docker://$REGISTRY/bench:$i" && "$C" pull --progress none "$REGISTRY/bench:$i" >/dev/null 2>&1
done
row 'disk of five images that share a base' "$("$C" system df --format json | jq '.images.sizeInBytes / 1e6 | floor')" - MB -
row 'peak memory of the image helper' "$(awk '/VmHWM/ { printf "%.0f", $2 / 1024 }' "/proc/$HELPER/status")" - MiB -
stop_system
