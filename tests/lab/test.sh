#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test.sh [NAME…]: end-to-end scripts on the kvm engine, each in a lab of its own; all of them, or those whose names are given.
# AGAIN=n (0): so many that failed may run a second time. Once in about ten runs the guest of 17-hostile hangs in there, or the lab's own
# kernel does; on no other /dev/kvm.
set -euo pipefail
cd "$(dirname "$0")/../.."
# What the scripts would make but cannot in the lab, where the checkout is read-only.
tests/images/demo.sh build/images
if ! [ -s build/images/debian.oci.tar ]; then
	tests/images/debian.sh build/images || echo "lab: no Debian image" >&2
fi
third_party/distro-kernel.sh build/kernel/distro >/dev/null
files=()
for n; do
	for f in tests/e2e/*"$n"*.t; do
		[ -e "$f" ] && files+=("$f")
	done
done
[ $# -gt 0 ] || files=(tests/e2e/*.t)
exec tests/run.pl --lab --again "${AGAIN:-0}" ${TEST_VERBOSE:+--verbose} "${files[@]}"
