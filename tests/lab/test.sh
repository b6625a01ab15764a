#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# test.sh [NAME…]: end-to-end scripts on the kvm engine, each in a lab of its own; all of them, or those whose names are given.
# AGAIN=n (0): so many that failed may run a second time. Now and then, 17-hostile in about one of ten runs, the emulator's SVM leaves a guest twice:
# the second time it saves the host's registers as the guest's. Such a guest has the host's page table, stack and IDT, all outside its memory, and
# faults for ever (kvm:kvm_entry shows a RIP of the host's). A VMM cannot do that; on no other /dev/kvm was it seen.
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
