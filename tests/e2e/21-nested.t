#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# run --virtualization: a container that runs machines of its own. Without the flag neither its processor nor its /dev has anything of it.
. "$(dirname "$0")/../lib/system.sh"
command -v gcc >/dev/null || skip_all 'no compiler'
gcc -O1 -static -o "$T/kvmguest" "$TOP/tests/lib/kvmguest.c" || bail 'the probe is built'
ready_system

run_ok 'a container as any other' "$C" run -d --name plain --privileged -m 256m demo sleep 1000
run "$C" exec plain sh -c 'grep -ow -m1 -e svm -e vmx /proc/cpuinfo; ls /dev/kvm; grep -w kvm /proc/misc /proc/modules; echo looked'
is 'has no virtualization, privileged or not' "$out" looked
is 'inspect' "$("$C" inspect plain | jq '.[0].configuration.virtualization')" false
run "$C" delete -f plain

# Where the host's KVM does not nest it is said, and nothing is left running.
refused()
{
	run_rc 1 "$1" "$C" run --rm --virtualization demo true
	like 'the message' "$err" 'unsupported: "nested virtualization is not supported on the platform"'
	is 'it is gone' "$("$C" list -aq)" ''
}
kvm_nests() # 0|1, in the lab, whose own machine (tests/lab/machine.pl) has to go meanwhile
{
	echo >/run/lab-machine
	for _ in $(seq 100); do
		modprobe -r kvm-amd 2>/dev/null && break
		sleep 0.1
	done
	modprobe kvm-amd nested="$1"
	"$TOP/tests/lab/machine.pl" </dev/null &
	is "KVM was told to nest: $1" "$(cat /sys/module/kvm_amd/parameters/nested)" "$1"
}
if [ "$CONTAINER_ENGINE" = kvm ] && [ -n "${LAB:-}" ]; then
	kvm_nests 0
	refused 'a host whose KVM does not nest'
	kvm_nests 1
elif [ "$CONTAINER_ENGINE" = kvm ] && ! grep -qs '^[1Y]' /sys/module/kvm_{amd,intel}/parameters/nested; then
	refused 'this host'
	stop_system
	done_testing
	exit
else
	skip 'a host whose KVM does not nest' 'only the lab has a /dev/kvm that can be changed'
fi

run_ok 'a container with virtualization' "$C" run -d --name box --virtualization -m 256m --user 1000 demo sleep 1000
is 'inspect' "$("$C" inspect box | jq '.[0].configuration.virtualization')" true
like 'the processor has it' "$("$C" exec box grep -ow -m1 -e svm -e vmx /proc/cpuinfo)" '^(svm|vmx)$'
run_ok 'copy the probe in' "$C" cp "$T/kvmguest" box:/kvmguest
run_ok 'anyone in the container may' "$C" exec box sh -c 'id -u; stat -c "%a %t:%T" /dev/kvm; /kvmguest'
is 'its /dev/kvm speaks version 12, and a machine in there runs' "$out" '1000
666 a:e8
version 12
the guest said 42'
run "$C" delete -f box

# A kernel without KVM: the start says so.
bare=$T/bare
mkdir -p "$bare"
read -r k m < <("$TOP/third_party/distro-kernel.sh" "$BUILD/kernel/distro")
cp -a "$m" "$bare/modules"
rm -r "$bare/modules/kernel/arch/x86/kvm"
run_ok 'a kernel without KVM' "$C" system kernel set --binary "$k" --modules "$bare/modules"
run_rc 1 'cannot offer it' "$C" run --rm --virtualization demo true
like 'it says why' "$err" 'the guest kernel offers no virtualization'
run_ok "and does without" "$C" run --rm demo true
stop_system
done_testing
