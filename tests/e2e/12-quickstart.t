#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a new user sees. In here, and not by hand on a developer's host: it starts a system, with its bridge and its NAT.
. "$(dirname "$0")/../lib/system.sh"
[ -z "${LAB:-}" ] || skip_all 'the checkout is read-only in the lab'
T_LIMIT=300
export CONTAINER_ENGINE=auto
run_ok 'make quickstart' "$TOP/tests/quickstart.sh"
like 'says which engine and why' "$out" 'engine +(kvm|qemu)'
like "its own kernel's version" "$out" 'kernel +Linux [0-9]'
like 'its own host name' "$out" 'host name hello'
like 'its own PID 1' "$out" 'PID 1 +sh'
like 'how long it took' "$out" 'the run took [0-9]+ ms'
run_ok 'afterwards build/container run works' "$TOP/build/container" run --rm demo true
run_ok 'quickstart again' "$TOP/tests/quickstart.sh"
run "$TOP/build/container" system stop
done_testing
