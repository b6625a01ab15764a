#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# system doctor: what it says of a host, and that it sees what is taken away.
. "$(dirname "$0")/../lib/system.sh"

state_of() # check: its state as the doctor sees it now
{
	"$C" system doctor --format json | jq -r --arg c "$1" '.[] | select(.check == $c) | .state'
}
fix_of()
{
	"$C" system doctor --format json | jq -r --arg c "$1" '.[] | select(.check == $c) | .fix'
}

is 'without a kernel it is missing' "$(state_of kernel)" missing
like 'and the fix is a command of ours' "$(fix_of kernel)" 'container system kernel set --recommended'
run "$C" system doctor
is 'and the exit status says so' "$rc" 1
is 'the services do not run' "$(state_of services)" warning

start_system
set_kernel
run "$C" system doctor
is 'with a kernel nothing is missing' "$rc" 0
is 'the kernel' "$(state_of kernel)" ok
is 'the services' "$(state_of services)" ok
is 'every check has a line' "$(grep -cE '^[a-z_]+ +(ok|warning|missing) ' <<<"$out")" "$("$C" system doctor --format json | jq length)"
is 'an engine works' "$("$C" system doctor --format json | jq '[.[] | select(.check == "kvm" or .check == "qemu") | select(.state == "ok")] | length > 0')" true
is 'tun' "$(state_of tun)" ok
is 'nftables' "$(state_of nftables)" ok

# What is taken away in this mount namespace
mount -t tmpfs tmpfs /dev/net
is 'no tun device' "$(state_of tun)" missing
umount /dev/net
echo 'nameserver 127.0.0.53' >"$T/resolv.conf"
mount --bind "$T/resolv.conf" /etc/resolv.conf
is 'a name server that containers cannot reach' "$(state_of dns)" warning
umount /etc/resolv.conf
mkdir "$T/small"
mount -t tmpfs -o size=1m tmpfs "$T/small"
is 'a full disk' "$(CONTAINER_APP_ROOT=$T/small state_of disk)" warning
umount "$T/small"
mount -t tmpfs tmpfs /sys/fs/cgroup
is 'no cgroup v2' "$(state_of cgroup)" warning
umount /sys/fs/cgroup
echo '{"container.memory": "900t", "kernel.path": "/nonexistent/vmlinux"}' >"$T/odd.json"
is 'memory that is not there' "$(CONTAINER_CONFIG=$T/odd.json state_of memory)" warning
is 'a kernel.path that does not exist' "$(CONTAINER_CONFIG=$T/odd.json state_of kernel)" missing
run setpriv --reuid 65534 --regid 65534 --clear-groups env -u CONTAINER_CONFIG XDG_CONFIG_HOME=/nonexistent CONTAINER_APP_ROOT=/tmp \
	CONTAINER_RUN_ROOT=/tmp/none "$C" system doctor --format json
is 'another user learns what it may not' "$(jq -r '.[] | select(.check == "nftables") | .state' <<<"$out")" "$(command -v passt >/dev/null && echo ok || echo warning)"
stop_system
done_testing
