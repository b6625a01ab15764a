#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# A machine of the qemu engine that hangs before the guest's init is reset once. The guest is tests/guest/again.S, which hangs when it is
# started and ends the machine when it is started again. One whose init finds that its timer does not fire is reset at once, a few times.
. "$(dirname "$0")/../lib/system.sh"
[ "$CONTAINER_ENGINE" = qemu ] || skip_all 'on the kvm engine no start is known to hang'
gcc -nostdlib -static -no-pie -Wl,-T,"$TOP/tests/guest/again.ld" -Wl,--build-id=none -Wl,-z,noexecstack,--no-warn-rwx-segments -o "$T/again.elf" "$TOP/tests/guest/again.S" ||
	bail 'the guest is built'
ready_system
run_ok 'the kernel that hangs' "$C" system kernel set --binary "$T/again.elf"
run_ok 'create' "$C" create --name again demo true
t0=$SECONDS
T_LIMIT=110 run_rc 1 'its start fails, as the machine ends' "$C" start -a again
took=$((SECONDS - t0))
ok "not before the reset: $took s" test $took -ge 40
ok 'and before the end of the time for a start' test $took -lt 100
like 'and says so, with what the guest said' "$err" 'the machine stopped.*its console ended with .*started again'
is 'it came up the second time' "$("$C" logs --boot again | tr -d '\r')" 'started again'
log=$CONTAINER_LOG_ROOT/container.runtime.again.log
like 'the log says what was done' "$(cat "$log")" 'the guest did not come up in 40 s: its machine is reset'
like 'and where the CPU hung' "$(cat "$log")" 'a CPU was at [RE]IP=0*1000'
set_kernel
run_ok 'with another kernel it runs' "$C" start -a again

run_ok 'create, with a kernel that uses no timer' "$C" create --name still --kernel-arg nolapic_timer demo true
T_LIMIT=110 run_rc 1 'it does not start' "$C" start -a still
like 'and says why' "$err" "the machine's timer does not fire"
log=$CONTAINER_LOG_ROOT/container.runtime.still.log
is 'after five resets' "$(grep -c 'timer does not fire: it is reset' "$log")" 5
unlike 'none of which was waited for' "$(cat "$log")" 'did not come up'
stop_system
done_testing
