#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Guest kernels: what is one, what is none, and what a container says without one.
. "$(dirname "$0")/../lib/system.sh"
demo_images
start_system
run "$C" image load -i "$IMAGES/demo.oci.tar"

run_rc 1 'no kernel yet: run fails' "$C" run --rm demo true
like 'and names the remedy' "$err" 'container system kernel set'
is 'the container is not left behind' "$("$C" list -aq)" ''

head -c 100000 /dev/urandom >"$T/noise"
run_rc 1 'noise is no kernel' "$C" system kernel set --binary "$T/noise"
like 'it says so' "$err" 'kernel'
: >"$T/nothing"
run_rc 1 'an empty file is no kernel' "$C" system kernel set --binary "$T/nothing"
run_rc 1 'a missing file' "$C" system kernel set --binary "$T/missing"
like 'names the file' "$err" 'missing'
run_rc 1 'a program is no kernel' "$C" system kernel set --binary "$C"
read -r k m < <("$TOP/third_party/distro-kernel.sh" "$BUILD/kernel/distro")
head -c 1000000 "$k" >"$T/half"
run_rc 1 'half a kernel is no kernel' "$C" system kernel set --binary "$T/half" --modules "$m"
run "$C" system kernel set
ok 'neither --binary nor --recommended is an error' [ "$rc" != 0 ]
run_rc 1 'still no kernel after all that' "$C" run --rm demo true

run_ok 'the distribution kernel' "$C" system kernel set --binary "$k" --modules "$m"
rel=${k##*/vmlinuz-}
like 'status shows its release' "$("$C" system status)" "$rel"
is 'fromLocalDisk: uname in a container is that release' "$(timeout "$T_LIMIT" "$C" run --rm demo uname -r)" "$rel"
if [ -s "$BUILD/kernel/vmlinux" ] || ls /boot/vmlinuz-*cloud* >/dev/null 2>&1; then
	run_ok 'kernel set --recommended' "$C" system kernel set --recommended
	like 'status shows a kernel' "$("$C" system status)" 'kernel'
else
	skip 'kernel set --recommended' 'no kernel of our own is built, no cloud kernel is installed in /boot'
fi
# kernel.path is what is recommended then; the services read it when they start.
stop_system
jq -n --arg k "$T/noise" '{"kernel.path": $k}' >"$CONTAINER_CONFIG"
start_system
run_rc 1 'kernel.path that is no kernel' "$C" system kernel set --recommended
like 'is named' "$err" "$T/noise"
jq -n --arg k "$k" '{"kernel.path": $k}' >"$CONTAINER_CONFIG"
stop_system
start_system
run_ok 'kernel set --recommended takes kernel.path' "$C" system kernel set --recommended
is 'that file' "$(jq -r .source "$CONTAINER_APP_ROOT/kernels/default/kernel.json")" "$k"
set_kernel
run_rc 1 'run -k with no kernel' "$C" run --rm -k "$T/noise" demo true
is 'run -k with a kernel' "$(timeout "$T_LIMIT" "$C" run --rm -k "$k" demo uname -r)" "$rel"
stop_system
done_testing
