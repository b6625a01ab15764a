#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The test guest that attacks every device (attack classes A to F; tests/guest/hostile.c) on a KVM that is real: in the lab. On other hosts
# the unit test of the same name runs it on the /dev/kvm they have.
# lab: --timeout 260
. "$(dirname "$0")/../lib/system.sh"
[ "$CONTAINER_ENGINE" = kvm ] || skip_all 'it runs in the lab; test_vmm_hostile is the same on the /dev/kvm of this host'
[ -x "$BUILD/unit/test_vmm_hostile" ] || skip_all 'build/unit/test_vmm_hostile is not built'
T_LIMIT=200 # it takes 20 s; now and then a guest hangs in the lab (tests/lab/test.sh)
CMOCKA_MESSAGE_OUTPUT=TAP run "$BUILD/unit/test_vmm_hostile"
is 'exit status' "$rc" 0
unlike 'nothing was left out' "$out$err" 'SKIP|skip'
like 'every case, and none was bad' "$out$err" '[3-9][0-9][0-9] cases, 0 bad'
for t in ABCDEF_suite F_ends hang F_flood F_nobody_looks; do
	like "test_$t" "$out" "(^|"$'\n'")ok [0-9]+ - test_$t"
done
done_testing
