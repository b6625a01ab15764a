#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The kernel of `make kernel`: it is the recommended one, has every option that third_party/kernel.config says, does in a privileged container
# what container tools need, and has nothing else.
. "$(dirname "$0")/../lib/system.sh"
own=$BUILD/kernel/vmlinux
[ -s "$own" ] || skip_all 'no build/kernel/vmlinux: make kernel takes minutes'
command -v gcc >/dev/null || skip_all 'no compiler'
demo_images
start_system
run "$C" image load -i "$IMAGES/demo.oci.tar"

run_ok 'kernel set --recommended' "$C" system kernel set --recommended
like 'takes our own' "$("$C" system status)" '[0-9]+\.[0-9.]+-container'
is 'from the build directory' "$(jq -r .source "$CONTAINER_APP_ROOT/kernels/default/kernel.json")" "$own"
stop_system
mkdir -p "$T/prefix/share/container"
cp "$own" "$T/prefix/share/container/vmlinux"
CONTAINER_INSTALL_ROOT=$T/prefix run_ok 'start of an installed system' "$C" system start
run_ok 'kernel set --recommended' "$C" system kernel set --recommended
is 'takes the installed one' "$(jq -r .source "$CONTAINER_APP_ROOT/kernels/default/kernel.json")" "$T/prefix/share/container/vmlinux"

gcc -O2 -static -D_GNU_SOURCE -o "$T/probe" "$TOP/tests/lib/kernelprobe.c" || bail 'the probe compiles'

mkdir "$T/share" && echo of the host >"$T/share/f"
run_ok 'a privileged container' "$C" run -d --name box -m 512m --privileged -v "$T/share:/share" demo sleep 600
in_box()
{
	timeout "$T_LIMIT" "$C" exec box "$@" 2>&1
}
like 'uname' "$(in_box uname -r)" '-container$'

# Option by option.
in_box zcat /proc/config.gz >"$T/config"
wrong=$(while IFS= read -r line; do
	case $line in
	'# CONFIG_'*' is not set') o=${line#\# }; ! grep -q "^${o% is not set}=" "$T/config" || echo "$line" ;;
	CONFIG_*) grep -qxF "$line" "$T/config" || echo "$line" ;;
	esac
done <"$TOP/third_party/kernel.config")
is 'every option of kernel.config' "$wrong" ''
is 'nothing is a module' "$(grep -c '=m$' "$T/config")" 0
diag "$(grep -c '=y$' "$T/config") options"

"$C" cp "$T/probe" box:/tmp/probe >/dev/null
run_ok 'the probe runs' "$C" exec box /tmp/probe
for what in io_uring bpf-map bpf-prog bpf-runs vsock packet tun-passes fuse-serves fanotify userfaultfd namespaces user-namespace seccomp \
	seccomp-holds namespace-{mount,uts,ipc,net,pid,user,cgroup,time}; do
	like "$what" "$out" "(^|
)$what ok"
done

like 'overlay is the root' "$(in_box cat /proc/mounts)" '^overlay / overlay'
for fs in erofs ext4 overlay fuse virtiofs tmpfs binfmt_misc bpf cgroup2 mqueue hugetlbfs; do
	like "file system $fs" "$(in_box grep -w $fs /proc/filesystems)" "$fs"
done
run_ok 'overlay inside' "$C" exec box sh -c 'mkdir /tmp/o && mount -t tmpfs t /tmp/o && cd /tmp/o && mkdir l u w m && echo low >l/f &&
	mount -t overlay -o lowerdir=l,upperdir=u,workdir=w o m && echo up >m/f && grep low l/f && grep up u/f'
mkdir "$T/tree" && echo read-only >"$T/tree/f" && mkfs.erofs "$T/img" "$T/tree" >/dev/null 2>&1
"$C" cp "$T/img" box:/tmp/img >/dev/null
run_ok 'erofs on a loop device' "$C" exec box sh -c 'mknod /dev/loop-control c 10 237; mknod /dev/loop0 b 7 0; mkdir /tmp/i &&
	losetup -f >/dev/null && losetup /dev/loop0 /tmp/img && mount -t erofs -o ro /dev/loop0 /tmp/i && grep read-only /tmp/i/f'
"$C" exec box mknod /dev/loop1 b 7 1
mke2fs -q -t ext4 -d "$T/tree" "$T/ext4.img" 16m >/dev/null 2>&1 || bail 'mke2fs'
"$C" cp "$T/ext4.img" box:/tmp/ext4.img >/dev/null || bail 'the image is copied'
run_ok 'ext4 on a loop device' "$C" exec box sh -c 'losetup -f && losetup /dev/loop1 /tmp/ext4.img && mkdir /tmp/e && mount -t ext4 /dev/loop1 /tmp/e &&
	grep read-only /tmp/e/f && echo more >/tmp/e/g && umount /tmp/e && mount -t ext4 -o ro /dev/loop1 /tmp/e && grep more /tmp/e/g'
run_ok 'virtio-fs' "$C" exec box sh -c 'grep " /share virtiofs " /proc/mounts && grep "of the host" /share/f && echo of the guest >/share/g'
is 'both ways' "$(cat "$T/share/g")" 'of the guest'
for p in cpu memory io; do
	like "PSI: $p" "$(in_box cat /proc/pressure/$p)" 'some avg10='
done
run_ok 'binfmt_misc' "$C" exec box sh -c 'mkdir /tmp/b && mount -t binfmt_misc b /tmp/b && echo ":t:M::TEST::/bin/busybox:" >/tmp/b/register &&
	grep enabled /tmp/b/t'
run_ok 'and runs what it knows' "$C" exec box sh -c 'echo ":cat:M::CATME::/bin/cat:" >/tmp/b/register && echo CATME, it said >/tmp/c && chmod +x /tmp/c &&
	/tmp/c | grep "CATME, it said"'
run_ok 'bpf file system' "$C" exec box sh -c 'mkdir /tmp/bpf && mount -t bpf bpf /tmp/bpf'
is 'BPF is compiled' "$(in_box cat /proc/sys/net/core/bpf_jit_enable)" 1
controllers=$(in_box cat /proc/cgroups | awk '$4 == 1 { print $1 }' | sort | xargs)
is 'cgroup controllers' "$controllers" 'blkio cpu cpuset devices hugetlb memory perf_event pids'
# Version 2: each controller that a container has holds what it is told. Processes go to a leaf first.
run_ok 'cgroup v2: a group of its own' "$C" exec box sh -c 'cd /sys/fs/cgroup && mkdir leaf box && for p in $(cat cgroup.procs); do
	echo $p >leaf/cgroup.procs; done 2>/dev/null; echo "+cpu +io +memory +pids" >cgroup.subtree_control && cat box/cgroup.controllers'
is 'its controllers' "$out" 'cpu io memory pids'
in_group() # script: in the group
{
	run "$C" exec box sh -c "echo 0 >/sys/fs/cgroup/box/cgroup.procs; cd /sys/fs/cgroup/box; $1"
}
in_group 'echo 24M >memory.max; echo 0 >memory.swap.max; /tmp/probe 64; echo status $?; cat memory.events; echo max >memory.max'
like 'memory' "$out" 'status 137.*oom_kill 1'
unlike 'what is beyond it is not taken' "$out" 'took'
in_group 'echo 1 >pids.max; (true); echo unseen' # a shell that may not fork says so, and ends
like 'pids' "$err" "can't fork"
in_group 'echo 10000 100000 >cpu.max; echo max >pids.max; timeout 1 sh -c "while :; do :; done"; cat cpu.stat; echo max >cpu.max'
like 'cpu' "$out" 'nr_throttled [1-9]'
in_group 'echo "$(cat /sys/class/block/vdb/dev) wbps=1048576" >io.max; cat io.max; dd if=/dev/zero of=/tmp/z bs=64k count=32 conv=fsync; cat io.stat'
like 'io' "$out" 'wbps=1048576.*wbytes=[1-9][0-9]{6}'
in_group '(sleep 100 & echo $! >/tmp/frozen); echo 0 >../leaf/cgroup.procs; echo 1 >cgroup.freeze; sleep 1; cat cgroup.events; echo 0 >cgroup.freeze;
	echo 1 >cgroup.kill; sleep 1; cat cgroup.events'
like 'freezing and killing' "$out" 'populated 1.*frozen 1.*populated 0'
like 'memory can be given back' "$(zgrep -h PAGE_REPORTING "$T/config")" =y

# The host's own nft and ip, brought along with their libraries.
mkdir "$T/tools"
for p in nft ip; do
	cp "$(command -v $p)" "$T/tools/$p"
	ldd "$(command -v $p)" | awk '$3 ~ "^/" { print $3 } $1 ~ "^/" { print $1 }' | xargs -I{} cp -n {} "$T/tools/"
done
"$C" cp "$T/tools" box:/tools >/dev/null
tool() # program arguments…
{
	local p=$1
	shift
	run "$C" exec box /tools/ld-linux-x86-64.so.2 --library-path /tools "/tools/$p" "$@"
}
tool nft 'add table inet t; add chain inet t post { type nat hook postrouting priority srcnat; }; add rule inet t post oifname "eth0" masquerade;
	add chain inet t in { type filter hook input priority filter; }; add rule inet t in ct state established,related counter accept;
	add rule inet t in tcp dport 80 limit rate 5/second log reject; add table bridge b; add chain bridge b f { type filter hook forward priority 0; }'
is 'nft takes NAT, conntrack, limits and a bridge table' "$rc $err" '0 '
tool nft list ruleset
like 'and has them' "$out" 'masquerade.*ct state established,related'
for kind in bridge veth 'vlan id 7' 'vxlan id 9 dstport 4789 dev eth0' 'macvlan mode bridge'; do
	case $kind in
	veth) tool ip link add ve0 type veth peer name ve1 ;;
	bridge) tool ip link add br0 type bridge ;;
	vxlan*) tool ip link add vx0 type $kind ;;
	*) tool ip link add link eth0 name "x${kind%% *}" type $kind ;;
	esac
	is "a link of type ${kind%% *}" "$rc $err" '0 '
done
tool ip link set ve0 master br0
is 'veth in a bridge' "$rc $err" '0 '
# What they are for: a neighbour in a namespace behind them. A packet filter that says no, and an address that is translated.
in_box sh -c 'unshare -n sleep 500 >/dev/null 2>&1 & echo $! >/tmp/other' >/dev/null
other=$(in_box cat /tmp/other)
tool ip link set ve1 netns "$other"
is 'one end of it in another namespace' "$rc $err" '0 '
run_ok 'packets pass veth and bridge' "$C" exec box sh -c "nsenter -t $other -n ifconfig ve1 10.78.0.2 netmask 255.255.255.0 up && ifconfig ve0 up &&
	nsenter -t $other -n route add default gw 10.78.0.1 && ifconfig br0 10.78.0.1 netmask 255.255.255.0 up && ping -c 3 -W 5 10.78.0.2"
tool nft 'add chain inet t out { type filter hook output priority filter; }; add rule inet t out ip daddr 10.78.0.2 icmp type echo-request counter drop'
is 'nft takes a rule that drops' "$rc $err" '0 '
run "$C" exec box ping -c 1 -W 1 10.78.0.2
like 'which drops' "$rc $err" '^1 .*not permitted'
tool nft list chain inet t out
like 'and counts' "$out" 'counter packets [1-9]'
tool nft 'flush chain inet t out; add chain inet t there { type nat hook output priority -100; }; add rule inet t there ip daddr 10.99.0.1 dnat ip to 10.78.0.2'
is 'nft takes a rule that translates' "$rc $err" '0 '
run_ok 'which translates, there and back' "$C" exec box ping -c 3 -W 5 10.99.0.1
in_box sh -c '[ -c /dev/net/tun ] || { mkdir -p /dev/net; mknod /dev/net/tun c 10 200; }' >/dev/null
tool ip tuntap add tap0 mode tap
is 'tun' "$rc $err" '0 '
drivers=$(in_box ls /sys/bus/virtio/drivers)
for d in virtio_blk virtio_net virtio_console virtio_rng virtio_balloon virtiofs vmw_vsock_virtio_transport; do
	like "driver $d" "$drivers" "$d"
done
# What is not a machine of ours has no driver: all that there are, and all kinds of file systems and devices (hvc and virtio-portsdev where there is
# a virtio console: on the kvm engine).
is 'drivers' "$(in_box sh -c 'cd /sys/bus && echo */drivers/*')" "acpi/drivers/ec platform/drivers/acpi-ged platform/drivers/alarmtimer platform/drivers/serial8250 platform/drivers/virtio-mmio pnp/drivers/serial $(
	)pnp/drivers/system virtio/drivers/virtio_balloon virtio/drivers/virtio_blk virtio/drivers/virtio_console virtio/drivers/virtio_net $(
	)virtio/drivers/virtio_rng virtio/drivers/virtio_rproc_serial virtio/drivers/virtiofs $(
	)virtio/drivers/vmw_vsock_virtio_transport"
is 'file systems' "$(in_box awk '{ print $NF }' /proc/filesystems | sort | xargs)" "binfmt_misc bpf cgroup cgroup2 cpuset devpts devtmpfs erofs $(
	)ext3 ext4 fuse fuseblk fusectl hugetlbfs mqueue overlay pipefs proc ramfs sockfs sysfs tmpfs virtiofs"
is 'devices' "$(in_box awk '/^ *[0-9]/ { print $2 }' /proc/devices | grep -vxE 'hvc|virtio-portsdev' | sort -u | xargs)" "/dev/console /dev/ptmx /dev/tty blkext loop mem misc $(
	)ptm pts ttyS virtblk"
is 'and others' "$(in_box awk '{ print $2 }' /proc/misc | sort | xargs)" 'cpu_dma_latency fuse hw_random loop-control tun userfaultfd vsock'
is 'address families' "$(in_box awk 'NR > 1 { print $1 }' /proc/net/protocols | sort | xargs)" "AF_VSOCK NETLINK PACKET PING PINGv6 RAW RAWv6 TCP $(
	)TCPv6 UDP UDP-Lite UDPLITEv6 UDPv6 UNIX UNIX-STREAM"
is 'nothing of PCI' "$(in_box sh -c 'ls /sys/bus/pci/devices /sys/bus/pci/drivers' | grep -v '^/sys.*:$' | xargs)" ''
like 'it is no larger than that takes (MiB)' "$(($(stat -c %s "$own") / 1048576))" '^(1[0-9]|2[0-6])$'
ok 'nor does it have more options' [ "$(grep -c '=y$' "$T/config")" -le 770 ]

if [ "$CONTAINER_ENGINE" = kvm ]; then
	like 'it knows that it is a guest of KVM' "$(in_box dmesg)" 'Hypervisor detected: KVM'
	like 'whose clock it has' "$(in_box cat /sys/devices/system/clocksource/clocksource0/available_clocksource)" kvm-clock
else
	skip 'it knows that it is a guest of KVM' 'what runs the CPU is not KVM: in the lab'
fi
like 'kvmclock or the time stamp counter' "$(in_box cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" 'kvm-clock|tsc'
run "$C" delete -f box
stop_system
done_testing
