#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run.sh: the table of sizes and times, printed for people and written to build/bench/main.tsv (row ours theirs unit ratio bar verdict).
# Medians; every engine this host has. A missed bar is said, never an error. RUNS=n runs per engine (5), LISTS=n calls of list (21),
# ENGINES="kvm qemu".
. "$(dirname "$0")/../lib/system.sh"
set -e
RUNS=${RUNS:-5}
LISTS=${LISTS:-21}
tsv=${BENCH_TSV:-$BUILD/bench/main.tsv}
mkdir -p "$(dirname "$tsv")"
printf 'row\tours\ttheirs\tunit\tratio\tbar\tverdict\n' >"$tsv"

row() # name value unit [bar]
{
	local verdict=- bar=${4:--}
	if [ "$bar" != - ]; then
		verdict=$(awk -v v="$2" -v b="$bar" 'BEGIN { print (v <= b) ? "ok" : "short" }')
	fi
	printf '%s\t%s\t-\t%s\t-\t%s\t%s\n' "$1" "$2" "$3" "$bar" "$verdict" >>"$tsv"
	printf '%-46s %10s %-4s %8s  %s\n' "$1" "$2" "$3" "$bar" "$verdict"
}
median()
{
	sort -n | awk '{ v[NR] = $1 } END { if (!NR) exit 1; print (NR % 2) ? v[(NR + 1) / 2] : (v[NR / 2] + v[NR / 2 + 1]) / 2 }'
}
us_to_ms()
{
	awk '{ printf "%.1f\n", $1 / 1000 }'
}
# KiB that only this process has, guest memory apart: the memfd, and the pages of vmlinux that lie in it copy-on-write.
private_kib() # pid
{
	awk '/^[0-9a-f]+-[0-9a-f]+ / { guest = /memfd:|vmlinux/ } /^Private_(Clean|Dirty):/ && !guest { n += $2 } END { print n + 0 }' "/proc/$1/smaps"
}
# The lines `timing <stage> <µs>` that run --debug writes, of RUNS runs, as medians: "<stage> <µs>".
stages()
{
	awk '$1 == "timing" { print $2, $3 }' "$1" | sort -k1,1 -k2,2n | awk '
		function flush() { if (n) print name, v[int((n + 1) / 2)] }
		$1 != name { flush(); name = $1; n = 0 }
		{ v[++n] = $2 }
		END { flush() }'
}

printf '%-46s %10s %-4s %8s  %s\n' row ours '' bar verdict
row 'binary, stripped' "$(stat -c %s "$C" | awk '{ printf "%.2f", $1 / 1e6 }')" MB 8

demo_images
for engine in ${ENGINES:-kvm qemu}; do
	use_roots "$T/$engine"
	export CONTAINER_ENGINE=$engine
	run "$C" system start
	if [ "$rc" != 0 ] || ! "$C" system status --format json | jq -e --arg e $engine '.engine == $e' >/dev/null; then
		[ "$rc" != 0 ] || err=$("$C" system status --format json | jq -r .engineReason)
		printf '# engine %s is not usable here: %s\n' $engine "$(head -1 <<<"$err")"
		[ $engine != kvm ] || lab=1
		run "$C" system stop
		continue
	fi
	set_kernel
	"$C" image load -i "$IMAGES/demo.oci.tar" >/dev/null

	if [ -z "${listed:-}" ]; then
		listed=1
		for _ in $(seq "$LISTS"); do
			t0=${EPOCHREALTIME/./}
			"$C" list >/dev/null
			t1=${EPOCHREALTIME/./}
			echo $((t1 - t0))
		done >"$T/list"
		row 'container list' "$(median <"$T/list" | us_to_ms)" ms 10
	fi

	timeout "$T_LIMIT" "$C" run --rm demo true >/dev/null 2>&1
	: >"$T/timing"
	: >"$T/outside"
	for _ in $(seq "$RUNS"); do
		timeout "$T_LIMIT" "$C" --debug run --rm demo echo hello >/dev/null 2>"$T/one" ||
			timeout "$T_LIMIT" "$C" run --debug --rm demo echo hello >/dev/null 2>"$T/one"
		cat "$T/one" >>"$T/timing"
		awk '$1 == "timing" { t[$2] = $3 } END { print t["first_output"] - t["kernel"] - t["init"] - t["process"] }' "$T/one" >>"$T/outside"
	done
	while read -r stage us; do
		row "$engine: run, $stage" "$(us_to_ms <<<"$us")" ms
	done < <(stages "$T/timing")
	# "kernel" is the time from the machine's start to the agent's first word; with qemu the start of QEMU is in it.
	row "$engine: run, outside the guest" "$(median <"$T/outside" | us_to_ms)" ms 100

	"$C" run -d --name mem -m 256m demo sleep 600 >/dev/null
	sleep 2
	while IFS=$'\t' read -r label pid; do
		name=${label#container.}
		bar=-
		case $label in container.runtime.*) name=runtime bar=8 ;; esac
		row "$engine: private memory of $name" "$(private_kib "$pid" | awk '{ printf "%.2f", $1 / 1024 }')" MiB $bar
	done < <("$C" system status --format json | jq -r '.services[] | [.label, .pid] | @tsv')
	if [ $engine = qemu ]; then
		q=$(pgrep -P "$(service_pid container.runtime.mem)" | head -1)
		[ -z "$q" ] || row "$engine: private memory of QEMU itself" "$(private_kib "$q" | awk '{ printf "%.2f", $1 / 1024 }')" MiB
	fi
	"$C" delete -f mem >/dev/null
	stop_system
done
# No KVM here: its rows come from the lab, where the host's own CPU is emulated: stages to compare with each other, not with a real host's.
if [ -n "${lab:-}" ] && [ -z "${LAB:-}" ]; then
	echo '# the kvm engine, in the lab'
	if "$TOP/tests/lab/run.sh" --timeout 500 --out "$T/lab" --env ENGINES=kvm --env RUNS=3 --env LISTS=5 --env "BUILD=$BUILD" \
		--env BENCH_TSV=/out/lab.tsv -- bash "$TOP/tests/bench/run.sh" >"$T/lab.log" 2>&1; then
		while IFS=$'\t' read -r name value _ unit _ bar _; do
			[ "$unit" != ms ] || bar=-
			case $name in kvm:*) row "lab $name" "$value" "$unit" "$bar" ;; esac
		done <"$T/lab/lab.tsv"
	else
		tail -3 "$T/lab.log" | sed 's/^/# /'
	fi
fi
echo "# $tsv"
