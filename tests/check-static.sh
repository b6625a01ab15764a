#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check-static.sh [FILE.c…]: clang-tidy (what .clang-tidy chooses) and cppcheck over our sources, or over the files named.
set -uo pipefail
cd "$(dirname "$0")/.."
flags=(-std=gnu17 -I. -D_GNU_SOURCE -D_FILE_OFFSET_BITS=64 -Ibuild/third_party/include -pthread
	-Wno-unknown-warning-option '-DRELEASE=""' '-DCOMMIT=""' '-DBUILDTYPE=""')

# One batch of clang-tidy: called back by xargs below.
if [ "${1:-}" = --tidy ]; then
	shift
	case " $* " in
	*" core/error.c "*) ;;
	*) flags+=(-include tests/analyzer.h) ;;
	esac
	timeout 600 clang-tidy --quiet --warnings-as-errors='*' "$@" -- "${flags[@]}" 2>&1 |
		grep -v -e 'warnings\? generated' -e 'warnings\? treated as error' -e '^Suppressed' -e '^Use -header'
	exit "${PIPESTATUS[0]}"
fi

if [ $# -gt 0 ]; then
	files=("$@")
else
	mapfile -t files < <(find main.c cmd core vmm oci net -name '*.c' | LC_ALL=C sort)
fi
bad=0
printf '%s\0' "${files[@]}" | grep -zv '^core/error.c$' | xargs -0 -r -P "$(nproc)" -n 4 bash "$0" --tidy || bad=1
bash "$0" --tidy core/error.c || bad=1
[ $bad = 0 ] && echo "clang-tidy: ${#files[@]} files, clean"
cache=build/cppcheck
mkdir -p "$cache"
if timeout 900 cppcheck -j "$(nproc)" --quiet --std=c11 --enable=warning,portability --inline-suppr --error-exitcode=1 \
	--cppcheck-build-dir="$cache" --suppressions-list=tests/cppcheck.txt -I. -D_GNU_SOURCE -D__x86_64__ -D__GNUC__=12 \
	--max-configs=1 "${files[@]}"; then
	echo "cppcheck: ${#files[@]} files, clean"
else
	bad=1
fi
exit $bad
