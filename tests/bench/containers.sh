#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# containers.sh: what the coordinator costs with 1 000 stopped and 10 running containers, and an exec in one of them, beside podman where
# it is installed and can run. Rows go to $BENCH_TSV (build/bench/containers.tsv, appended to when it is there). Medians of RUNS (11), ours and
# theirs in turn. STOPPED=n, RUNNING=n.
. "$(dirname "$0")/../lib/system.sh"
set -e
RUNS=${RUNS:-11}
STOPPED=${STOPPED:-1000}
RUNNING=${RUNNING:-10}
T_LIMIT=180
tsv=${BENCH_TSV:-$BUILD/bench/containers.tsv}
mkdir -p "$(dirname "$tsv")"
[ -s "$tsv" ] || printf 'row\tours\ttheirs\tunit\tratio\tbar\tverdict\n' >"$tsv"

row() # name ours theirs|- unit bar|-
{
	local ratio=- verdict=-
	[ "${3:--}" = - ] || ratio=$(awk -v a="$2" -v b="$3" 'BEGIN { printf "%.2f", a / b }')
	[ "${5:--}" = - ] || verdict=$(awk -v v="$2" -v b="$5" 'BEGIN { print (v <= b) ? "ok" : "short" }')
	printf '%s\t%s\t%s\t%s\t%s\t%s\t%s\n' "$1" "$2" "$3" "$4" "$ratio" "$5" "$verdict" >>"$tsv"
	printf '%-46s %10s %10s %-4s %6s %6s  %s\n' "$1" "$2" "$3" "$4" "$ratio" "$5" "$verdict"
}
median()
{
	sort -n | awk '{ v[NR] = $1 } END { if (!NR) exit 1; print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
ms() # cmd…: its wall time in milliseconds
{
	local t0=${EPOCHREALTIME/./}
	"$@" >/dev/null 2>&1 || { echo "failed: $*" >&2; return 1; }
	echo $((${EPOCHREALTIME/./} - t0)) | awk '{ printf "%.2f\n", $1 / 1000 }'
}

# podman with roots of its own; no cgroups and no network, which is less than what ours does. crun wants plain cgroup v2.
podman_here()
{
	command -v podman >/dev/null || { why='not installed'; return 1; }
	mountpoint -q /sys/fs/cgroup && umount -R /sys/fs/cgroup 2>/dev/null
	mount -t cgroup2 cgroup2 /sys/fs/cgroup || { why='no cgroup v2'; return 1; }
	pd=(podman --root "$T/pd/root" --runroot "$T/pd/run" --tmpdir "$T/pd/tmp" --storage-driver vfs --cgroup-manager cgroupfs --events-backend none)
	pdo=(--network none --cgroups disabled --ulimit nofile=1024:1024 --ulimit nproc=1024:1024)
	"${pd[@]}" load -i "$IMAGES/demo.oci.tar" >/dev/null 2>&1 && "${pd[@]}" run --rm "${pdo[@]}" demo true >/dev/null 2>"$T/pd.err" ||
		{ why=$(tail -1 "$T/pd.err"); return 1; }
	"${pd[@]}" run -d --name go "${pdo[@]}" demo sleep 3000 >/dev/null 2>&1
}

ready_system
theirs=0
if podman_here; then theirs=1; else echo "# podman: $why"; fi
for ((i = 0; i < STOPPED; i++)); do
	"$C" create --name "s$i" demo true >/dev/null
done
for ((i = 0; i < RUNNING; i++)); do
	timeout $T_LIMIT "$C" run -d --name "r$i" -m 256m demo sleep 3000 >/dev/null
done
[ "$("$C" list -q | wc -l)" = "$RUNNING" ] && [ "$("$C" list -aq | wc -l)" = $((STOPPED + RUNNING)) ]
what="$STOPPED stopped, $RUNNING running"
server=$(service_pid container.apiserver)
for f in list all ps exec pexec run prun over; do : >"$T/$f"; done
for ((i = 0; i < RUNS; i++)); do
	ms "$C" list >>"$T/list"
	ms "$C" list -a >>"$T/all"
	"$C" exec --debug r0 true 2>"$T/one" >/dev/null
	awk '$1 == "timing" { t[$2] = $3 } END { if (!t["cli_total"] || !t["guest"]) exit 1; print (t["cli_total"] - t["guest"]) / 1000; print t["cli_total"] / 1000 >"/dev/stderr" }' "$T/one" >>"$T/over" 2>>"$T/exec" ||
		bail 'exec --debug says how long the guest took'
	[ $theirs = 0 ] || { ms "${pd[@]}" ps >>"$T/ps"; ms "${pd[@]}" exec go true >>"$T/pexec"; }
done
for ((i = 0; i < (RUNS + 1) / 2; i++)); do
	ms timeout $T_LIMIT "$C" run --rm demo true >>"$T/run"
	[ $theirs = 0 ] || ms "${pd[@]}" run --rm "${pdo[@]}" demo true >>"$T/prun"
done
of() # file: the other's median
{
	[ -s "$T/$1" ] && median <"$T/$1" || echo -
}
mib() # member of the apiserver's status
{
	awk -v m="$1:" '$1 == m { printf "%.1f", $2 / 1024 }' "/proc/$server/status"
}
printf '%-46s %10s %10s %-4s %6s %6s\n' '' ours podman '' ratio bar
row "list; $what (podman: 1)" "$(of list)" "$(of ps)" ms 15
row "list --all; $what" "$(of all)" - ms -
row "apiserver resident; $what" "$(mib VmRSS)" - MiB 12
row 'of that its own; the rest is its program' "$(mib RssAnon)" - MiB -
row 'exec true, outside the guest' "$(of over)" - ms 20
row 'exec true, whole' "$(of exec)" "$(of pexec)" ms -
row 'run --rm true, whole (podman: no machine)' "$(of run)" "$(of prun)" ms -
[ $theirs = 0 ] || "${pd[@]}" rm -f -t 0 go >/dev/null 2>&1
"$C" delete --force --all >/dev/null 2>&1
stop_system
