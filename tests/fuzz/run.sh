#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# tests/fuzz/run.sh [-n] [-t SECONDS] [-b BUILD] [TARGET…]: builds the libFuzzer targets (clang, ASan and UBSan) and, without -n, runs each that
# long, two at a time. Corpora grow in BUILD/corpus, crashes and logs are in BUILD/<target>. Then what fuzz_merge makes of its corpus
# goes through fsck.erofs. Ends with "N targets, M executions, K crashes"; fails when K is not 0.
set -uo pipefail
cd "$(dirname "$0")/../.." || exit 1
seconds=60 build=build/fuzz run=1
while getopts nt:b: o; do
	case $o in
	n) run=0 ;;
	t) seconds=$OPTARG ;;
	b) build=$OPTARG ;;
	*) exit 64 ;;
	esac
done
shift $((OPTIND - 1))
if [ $# -gt 0 ]; then
	targets=("$@")
else
	mapfile -t targets < <(ls tests/fuzz/fuzz_*.c | sed 's,.*/fuzz_\(.*\)\.c$,\1,')
fi

# What looks at the images has to be there: without it nothing would have been looked at, and nobody would know.
case " ${targets[*]} " in
*" merge "*) [ -x "$(command -v fsck.erofs)" ] || { echo 'tests/fuzz/run.sh: merge needs fsck.erofs: third_party/deps.sh fuzz' >&2; exit 1; } ;;
esac

# Only what clang says of fuzzing differs from the product's own objects; its warnings are make check's business.
san="-fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer"
make --no-print-directory -j"$(nproc)" SANITIZE=1 B="$build" CC=clang-14 \
	CFLAGS="-std=gnu17 -g -O1 -pthread -w -fsanitize=fuzzer-no-link ${san}" lib-core lib-vmm lib-oci lib-net lib-cmd \
	build/third_party/lib/libcurl.a build/third_party/lib/libigzip.a || exit 1
libs="build/third_party/lib/libcurl.a build/third_party/lib/libigzip.a -lnghttp2 -lssl -lcrypto -lcares -lz -lzstd -ljson-c -lcap -lseccomp -lext2fs -lcom_err -llz4 -llzma -ldl"

compile() { # target
	local t=$1 l archives=()
	for l in $(sed -n '1s,^// links: *,,p' "tests/fuzz/fuzz_$t.c"); do
		archives+=("$build/lib$l.a")
	done
	# A target may include the file it is about, which then stands in for the archive's.
	clang-14 -I. -Ibuild/third_party/include -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -std=gnu17 -g -O1 -pthread -Wall -Wextra -Werror \
		-Wno-unused-parameter -fsanitize=fuzzer $san -o "$build/fuzz_$t" "tests/fuzz/fuzz_$t.c" tests/fuzz/fuzz.c \
		-Wl,--start-group "${archives[@]}" -Wl,--end-group $libs
}
for t in "${targets[@]}"; do
	if [ "$build/fuzz_$t" -nt "tests/fuzz/fuzz_$t.c" ] && ! [ -n "$(find "$build" tests/fuzz -maxdepth 1 \( -name '*.a' -o -name '*.h' -o -name fuzz.c \) \
		-newer "$build/fuzz_$t")" ]; then
		continue
	fi
	printf '  FUZZ    %s\n' "$build/fuzz_$t"
	compile "$t" || exit 1
done
[ $run = 1 ] || exit 0

# Leaks are looked for at the end of each run, not after each input: that would cost most of the speed.
export ASAN_OPTIONS=detect_leaks=1:allocator_may_return_null=1:handle_abort=1
export UBSAN_OPTIONS=print_stacktrace=1
seeds_of() { # target
	if [ -d "tests/fuzz/corpus/$1" ]; then echo "tests/fuzz/corpus/$1"; fi
}
one() { # target
	local t=$1 dir=$build/$1
	rm -rf "$dir"
	mkdir -p "$dir" "$build/corpus/$t"
	"$build/fuzz_$t" -max_total_time="$seconds" -max_len=4096 -timeout=10 -rss_limit_mb=2048 -detect_leaks=0 \
		-print_final_stats=1 -artifact_prefix="$dir/" "$build/corpus/$t" $(seeds_of "$t") >"$dir/log" 2>&1
	echo $? >"$dir/status"
}

# The images themselves: what is made of the corpus must be file systems without a fault.
fsck() ( # in a shell of its own
	local dir=$build/merge/images f bad=0 n=0
	mkdir -p "$dir"
	ulimit -s unlimited # it calls itself for each directory
	FUZZ_KEEP=$dir "$build/fuzz_merge" -runs=0 "$build/corpus/merge" $(seeds_of merge) >"$build/merge/images.log" 2>&1 || echo $? >"$build/merge/status"
	for f in $(ls "$dir" | sort -R --random-source=tests/fuzz/run.sh | head -200); do
		n=$((n + 1))
		timeout 10 fsck.erofs "$dir/$f" >"$build/merge/fsck.log" 2>&1 && rm -f "${dir:?}/$f" && continue
		bad=$((bad + 1))
		cp "$build/merge/fsck.log" "$build/merge/fsck-$f.log"
		mv "$dir/$f" "$build/merge/crash-fsck-$f"
	done
	rm -rf "$dir"
	# No image is no image without a fault.
	[ $n != 0 ] || echo none >"$build/merge/status"
	printf '%-12s %10d images, %d that fsck.erofs refuses\n' merge $n $bad
)

printf '%-12s %10s %9s %8s\n' target executions exec/s crashes
total=0 crashes=0
running=0
for t in "${targets[@]}"; do
	one "$t" &
	running=$((running + 1))
	[ $running -lt 2 ] || { wait -n; running=$((running - 1)); }
done
wait
case " ${targets[*]} " in *" merge "*) fsck ;; esac
for t in "${targets[@]}"; do
	log=$build/$t/log
	n=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log" | tail -1)
	[ -n "$n" ] || n=$(grep -oE '^#[0-9]+' "$log" | tail -1 | tr -d '#')
	rate=$(sed -n 's/^stat::average_exec_per_sec: *//p' "$log" | tail -1)
	bad=$(find "$build/$t" -maxdepth 1 \( -name 'crash-*' -o -name 'timeout-*' -o -name 'oom-*' -o -name 'leak-*' \) | wc -l)
	# A target that ended badly without an artifact (it did not start, its memory leaked) counts as well.
	[ "$bad" != 0 ] || [ "$(cat "$build/$t/status")" = 0 ] || bad=1
	total=$((total + ${n:-0}))
	crashes=$((crashes + bad))
	printf '%-12s %10s %9s %8s\n' "$t" "${n:-0}" "${rate:--}" "$bad"
	[ "$bad" = 0 ] || tail -60 "$log" | grep -aE 'ERROR|SUMMARY|not so|runtime error|^ +#[0-9]|Test unit' | head -30
done
printf '%d targets, %d executions, %d crashes\n' ${#targets[@]} "$total" "$crashes"
[ "$crashes" = 0 ]
