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

# Whatever is not well comes with what to do about it, in JSON and below its line of the table.
every_fix() # name, VAR=value…
{
	local name=$1 json table
	shift
	json=$(env "$@" "$C" system doctor --format json)
	table=$(env "$@" "$C" system doctor --format table)
	ok "$name: something is not well" [ "$(jq '[.[] | select(.state != "ok")] | length' <<<"$json")" -gt 0 ]
	is "$name: with a fix" "$(jq -r '.[] | select(.state != "ok" and (.fix // "") == "") | .check' <<<"$json")" ''
	is "$name: only that has one" "$(jq -r '.[] | select(.state == "ok" and has("fix")) | .check' <<<"$json")" ''
	# check, state; what follows it up to the next check is its detail and, behind an arrow, the fix.
	is "$name: the table says the same" "$(awk '/^[a-z_]/ { c = $1 " " $2 } / -> / { sub(/^ *-> /, ""); sub(/ *$/, ""); print c " " $0 }' <<<"$table")" \
		"$(jq -r '.[] | select(.state != "ok") | "\(.check) \(.state) \(.fix)"' <<<"$json")"
}

every_fix 'before all'
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
mkdir "$T/dev"
mount -t tmpfs tmpfs "$T/dev"
cp -a /dev/null /dev/zero /dev/urandom /dev/random /dev/net "$T/dev" && ln -s /proc/self/fd "$T/dev/fd"
mount --bind "$T/dev" /dev
is 'no /dev/kvm' "$(state_of kvm)" warning
like 'the fix is of modules and firmware' "$(fix_of kvm)" 'firmware.*kvm_intel'
is 'qemu instead is fine' "$(state_of qemu)" ok
echo '{"qemu.path": "/nonexistent/qemu"}' >"$T/odd.json"
is 'a qemu.path that does not exist, without kvm' "$(CONTAINER_CONFIG=$T/odd.json state_of qemu)" missing
like 'the fix names the package' "$(CONTAINER_CONFIG=$T/odd.json fix_of qemu)" 'package qemu-system-x86'
like 'the detail what was looked for' "$(CONTAINER_CONFIG=$T/odd.json "$C" system doctor --format json | jq -r '.[] | select(.check == "qemu") | .detail')" /nonexistent/qemu
run env CONTAINER_CONFIG="$T/odd.json" "$C" system doctor
is 'and the exit status says so' "$rc" 1
touch "$T/no-program"
qemu=$("$C" system doctor --format json | jq -r '.[] | select(.check == "qemu") | .detail | sub(".*; "; "")')
mount --bind "$T/no-program" "$qemu"
is 'no qemu installed' "$(state_of qemu)" missing
like 'the same fix' "$(fix_of qemu)" 'package qemu-system-x86'
umount "$qemu"
every_fix 'no engine' CONTAINER_CONFIG="$T/odd.json"
touch "$T/dev/kvm"
is 'a /dev/kvm that is none' "$(state_of kvm)" warning
every_fix 'odd kvm' CONTAINER_CONFIG="$T/odd.json"
umount /dev "$T/dev"
echo 'MemTotal: 1 kB' >"$T/meminfo"
mount --bind "$T/meminfo" /proc/meminfo
is 'no word of memory' "$(state_of memory)" warning
every_fix 'memory'
umount /proc/meminfo
mount -t tmpfs tmpfs /dev/net
is 'no tun device' "$(state_of tun)" missing
umount /dev/net
echo 'nameserver 127.0.0.53' >"$T/resolv.conf"
mount --bind "$T/resolv.conf" /etc/resolv.conf
is 'a name server that containers cannot reach' "$(state_of dns)" warning
umount /etc/resolv.conf
mkdir "$T/small"
mount -t tmpfs -o size=1m tmpfs "$T/small"
echo >"$T/plain"
is 'a place for images below a file' "$(CONTAINER_APP_ROOT=$T/plain/app state_of disk)" missing
is 'a full disk' "$(CONTAINER_APP_ROOT=$T/small state_of disk)" warning
umount "$T/small"
mount -t tmpfs tmpfs /sys/fs/cgroup
is 'no cgroup v2' "$(state_of cgroup)" warning
umount /sys/fs/cgroup
echo '{"container.memory": "900t", "kernel.path": "/nonexistent/vmlinux"}' >"$T/odd.json"
is 'memory that is not there' "$(CONTAINER_CONFIG=$T/odd.json state_of memory)" warning
is 'a kernel.path that does not exist' "$(CONTAINER_CONFIG=$T/odd.json state_of kernel)" missing
every_fix 'odd configuration' CONTAINER_CONFIG="$T/odd.json"
run setpriv --reuid 65534 --regid 65534 --clear-groups env -u CONTAINER_CONFIG XDG_CONFIG_HOME=/nonexistent CONTAINER_APP_ROOT=/tmp \
	CONTAINER_RUN_ROOT=/tmp/none "$C" system doctor --format json
is 'another user learns what it may not' "$(jq -r '.[] | select(.check == "nftables") | .state' <<<"$out")" "$(command -v passt >/dev/null && echo ok || echo warning)"
stop_system
done_testing
