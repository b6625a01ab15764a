#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# check-format.sh [--fix]: every C file is as clang-format with our .clang-format leaves it.
set -euo pipefail
cd "$(dirname "$0")/.."
mapfile -t files < <(find main.c cmd core vmm oci net tests -name '*.[ch]' | LC_ALL=C sort)
if [ "${1:-}" = --fix ]; then
	exec clang-format -i "${files[@]}"
fi
clang-format --dry-run -Werror --ferror-limit=1 "${files[@]}" 2>&1 | sed -n 's/: error.*/: not formatted (tests\/check-format.sh --fix)/p'
[ "${PIPESTATUS[0]}" = 0 ] && echo "check-format: ${#files[@]} files"
