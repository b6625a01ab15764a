#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# images.sh: pull, push and disk use beside skopeo with umoci and podman, printed and written to build/bench/images.tsv (row ours theirs
# unit ratio bar verdict). Same machine, same registry on loopback; ours and theirs take turns. The image is tests/images/python.sh: Debian,
# Python and its science packages, seven layers; the tags differ in the top one. podman keeps its layers in a storage of this
# script's, with the driver it would take here: overlay, or vfs where overlay cannot be mounted. Medians of RUNS (5). A missed bar is
# said, never an error. "faster" is whoever of the two is: wall and CPU are both that one's.
. "$(dirname "$0")/../lib/system.sh"
RUNS=${RUNS:-5}
tsv=${BENCH_TSV:-$BUILD/bench/images.tsv}
mkdir -p "$(dirname "$tsv")"
for tool in skopeo umoci podman; do
	command -v $tool >/dev/null || skip_all "$tool is not installed"
done
export XDG_RUNTIME_DIR=$T TMPDIR=$T
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
	line=$({ TIMEFORMAT='%U %S'; time timeout 900 "$@" >"$T/measure.log" 2>&1 || echo failed >"$T/failed"; } 2>&1 | tail -1)
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
note() # key: the last measure is one of key's
{
	echo "$wall" >>"$T/$1.wall"
	echo "$cpu" >>"$T/$1.cpu"
}
get() # key
{
	median <"$T/$1"
}

lower() # key key: the one with the lower median wall
{
	awk -v a="$(get "$1.wall")" -v b="$(get "$2.wall")" -v x="$1" -v y="$2" 'BEGIN { print a <= b ? x : y }'
}

# ---- the image, in a registry ----
O=$BUILD/images/python.oci
[ -s "$O/index.json" ] || skip_all 'no image: make bench-images makes it, tests/images/python.sh'
manifest=$O/blobs/sha256/$(jq -r '.manifests[] | select(.annotations["org.opencontainers.image.ref.name"] == "1") | .digest[7:]' "$O/index.json")
unpacked=0
for d in $(jq -r '.layers[].digest[7:]' "$manifest"); do
	unpacked=$((unpacked + $(zcat "$O/blobs/sha256/$d" | wc -c)))
done
printf '# %d layers, %d MB compressed, %d MB unpacked\n' "$(jq '.layers | length' "$manifest")" \
	"$(jq '[.layers[].size] | add / 1e6 | floor' "$manifest")" "$((unpacked / 1000000))"
start_registry
start_system
HELPER=$(service_pid container.images)
for i in 1 2 3 4 5; do
	"${sk[@]}" copy -q --dest-tls-verify=false "oci:$O:$i" "docker://$REGISTRY/bench:$i" || bail "the registry is filled"
done
driver=overlay
mkdir -p "$T/ovl"/{l,u,w,m}
mount -t overlay overlay -o "lowerdir=$T/ovl/l,upperdir=$T/ovl/u,workdir=$T/ovl/w" "$T/ovl/m" 2>/dev/null && umount "$T/ovl/m" || driver=vfs
printf '# podman %s, %s\n' "$(podman --version | awk '{ print $3 }')" "$driver"

# ---- the runs ----
ours() # tag
{
	"$C" image pull --progress none "$REGISTRY/bench:$1"
}
umoci_() # tag: what skopeo and umoci need to have a root file system
{
	skopeo --tmpdir "$T" --insecure-policy copy -q --src-tls-verify=false "docker://$REGISTRY/bench:$1" "oci:$T/layout:$1" &&
		umoci unpack --image "$T/layout:$1" "$T/bundle$1"
}
podman_() # tag
{
	podman --root "$T/podman" --runroot "$T/podman.run" --storage-driver "$driver" pull -q --tls-verify=false "$REGISTRY/bench:$1"
}
forget() # key
{
	case $1 in
	ours) "$C" image delete --all >/dev/null 2>&1 ;;
	umoci) rm -rf "$T/layout" "$T"/bundle* ;;
	podman) rm -rf "$T/podman" "$T/podman.run" ;;
	esac
}
forget_top() # key: all of tag 2 that tag 1 lacks
{
	case $1 in
	ours) "$C" image delete "$REGISTRY/bench:2" >/dev/null 2>&1 ;;
	umoci)
		rm -rf "$T/bundle2"
		umoci rm --image "$T/layout:2" 2>/dev/null
		umoci gc --layout "$T/layout" 2>/dev/null
		;;
	podman) podman --root "$T/podman" --runroot "$T/podman.run" --storage-driver "$driver" rmi "$REGISTRY/bench:2" >/dev/null 2>&1 ;;
	esac
}
export -f ours umoci_ podman_
export T REGISTRY C driver
for ((n = 0; n < RUNS; n++)); do
	for who in ours umoci podman; do
		forget $who
		measure bash -c "$([ $who = ours ] && echo ours || echo ${who}_) 1"
		note pull.$who
	done
done
fast=$(lower pull.umoci pull.podman)
row "pull, ready to run, cold: wall (faster: ${fast#*.})" "$(get pull.ours.wall)" "$(get "$fast.wall")" s 0.5
row "pull, ready to run, cold: CPU (${fast#*.})" "$(get pull.ours.cpu)" "$(get "$fast.cpu")" s 0.7
for who in umoci podman; do
	row "  beside $who: wall" "$(get pull.ours.wall)" "$(get pull.$who.wall)" s -
	row "  beside $who: CPU" "$(get pull.ours.cpu)" "$(get pull.$who.cpu)" s -
done
for ((n = 0; n < RUNS; n++)); do
	for who in ours umoci podman; do
		forget_top $who
		measure bash -c "$([ $who = ours ] && echo ours || echo ${who}_) 2"
		note second.$who
	done
done
row 'second image, all but the top layer shared: wall (podman)' "$(get second.ours.wall)" "$(get second.podman.wall)" s 0.5
row 'second image: CPU (podman)' "$(get second.ours.cpu)" "$(get second.podman.cpu)" s -
row 'second image: wall (skopeo + umoci)' "$(get second.ours.wall)" "$(get second.umoci.wall)" s -
for ((n = 0; n < RUNS; n++)); do
	for who in ours podman; do
		measure bash -c "$([ $who = ours ] && echo ours || echo ${who}_) 2"
		note again.$who
	done
done
row 'pull again, all of it there: wall (podman)' "$(get again.ours.wall)" "$(get again.podman.wall)" s -
# The registry keeps no cache of blobs: what is gone from its disk is gone.
"$C" tag "$REGISTRY/bench:1" "$REGISTRY/push:1" >/dev/null
for ((n = 0; n < RUNS; n++)); do
	rm -rf "$T/registry/data/docker"
	measure "$C" image push --progress none "$REGISTRY/push:1"
	note push.ours
	rm -rf "$T/registry/data/docker"
	measure "${sk[@]}" copy -q --dest-tls-verify=false "oci:$O:1" "docker://$REGISTRY/push:1"
	note push.skopeo
done
row 'push: wall (skopeo)' "$(get push.ours.wall)" "$(get push.skopeo.wall)" s 1.0
row 'push: CPU (skopeo)' "$(get push.ours.cpu)" "$(get push.skopeo.cpu)" s -
mapfile -t blobs < <(jq -r '.layers[].digest[7:]' "$manifest" | sed "s,^,$O/blobs/sha256/,")
gcc -O2 -I"$BUILD/third_party/include" -o "$T/inflate" "$TOP/tests/bench/inflate.c" "$BUILD/third_party/lib/libigzip.a" -lz || bail 'the inflate bench builds'
read -r igzip zlib < <("$T/inflate" "${blobs[@]}")
row 'inflate of the layers, one thread: CPU (igzip is ours, zlib)' "$igzip" "$zlib" s -
for i in 1 2 3 4 5; do
	"${sk[@]}" copy -q --dest-tls-verify=false "oci:$O:$i" "docker://$REGISTRY/bench:$i"
	ours $i >/dev/null 2>&1
	podman_ $i >/dev/null 2>&1
done
row "disk of five images that share a base (podman, $driver)" "$("$C" system df --format json | jq '.images.sizeInBytes / 1e6 | floor')" \
	"$(du -sB1000000 "$T/podman" | cut -f1)" MB 1.0
row 'peak memory of the image helper' "$(awk '/VmHWM/ { printf "%.0f", $2 / 1024 }' "/proc/$HELPER/status")" - MiB -
stop_system
