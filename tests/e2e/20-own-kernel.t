#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The kernel of `make kernel`: it is the recommended one, has every option that third_party/kernel.config says, and a privileged
# container finds in it what container tools need.
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

# What no program of the demo image asks for: one system call each.
cat >"$T/probe.c" <<'C'
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/io_uring.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <stdio.h>
#include <string.h>
#include <sys/fanotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

static void say(const char *what, long rc)
{
	printf("%s %s\n", what, rc >= 0 ? "ok" : strerror(errno));
}

static long bpf_prog(void)
{
	/* r0 = 0; exit */
	struct bpf_insn code[] = {{.code = BPF_ALU64 | BPF_MOV | BPF_K}, {.code = BPF_JMP | BPF_EXIT}};
	union bpf_attr a = {.prog_type = BPF_PROG_TYPE_CGROUP_SKB, .insns = (unsigned long)code,
			    .insn_cnt = 2, .license = (unsigned long)"GPL"};

	return syscall(SYS_bpf, BPF_PROG_LOAD, &a, sizeof(a));
}

static long bpf_map(void)
{
	union bpf_attr a = {.map_type = BPF_MAP_TYPE_HASH, .key_size = 4, .value_size = 4, .max_entries = 4};

	return syscall(SYS_bpf, BPF_MAP_CREATE, &a, sizeof(a));
}

static long seccomp_filter(void)
{
	struct sock_filter code[] = {BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
	struct sock_fprog p = {1, code};

	return syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, &p);
}

int main(void)
{
	struct io_uring_params ring = {0};

	say("io_uring", syscall(SYS_io_uring_setup, 8, &ring));
	say("bpf-map", bpf_map());
	say("bpf-prog", bpf_prog());
	say("vsock", socket(AF_VSOCK, SOCK_STREAM, 0));
	say("packet", socket(AF_PACKET, SOCK_RAW, 0));
	say("fanotify", fanotify_init(FAN_CLASS_NOTIF, O_RDONLY));
	say("userfaultfd", syscall(SYS_userfaultfd, O_CLOEXEC));
	say("namespaces", unshare(CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWIPC | CLONE_NEWNET | CLONE_NEWCGROUP | CLONE_NEWPID));
	say("user-namespace", unshare(CLONE_NEWUSER));
	say("seccomp", seccomp_filter());
	return 0;
}
C
gcc -O2 -static -D_GNU_SOURCE -o "$T/probe" "$T/probe.c" || bail 'the probe compiles'

run_ok 'a privileged container' "$C" run -d --name box -m 512m --privileged demo sleep 600
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
for what in io_uring bpf-map bpf-prog vsock packet fanotify userfaultfd namespaces user-namespace seccomp; do
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
for p in cpu memory io; do
	like "PSI: $p" "$(in_box cat /proc/pressure/$p)" 'some avg10='
done
run_ok 'binfmt_misc' "$C" exec box sh -c 'mkdir /tmp/b && mount -t binfmt_misc b /tmp/b && echo ":t:M::TEST::/bin/busybox:" >/tmp/b/register &&
	grep enabled /tmp/b/t'
run_ok 'bpf file system' "$C" exec box sh -c 'mkdir /tmp/bpf && mount -t bpf bpf /tmp/bpf'
is 'BPF is compiled' "$(in_box cat /proc/sys/net/core/bpf_jit_enable)" 1
controllers=$(in_box cat /proc/cgroups | awk '$4 == 1 { print $1 }' | sort | xargs)
is 'cgroup controllers' "$controllers" 'blkio cpu cpuset devices hugetlb memory perf_event pids'
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
in_box sh -c '[ -c /dev/net/tun ] || { mkdir -p /dev/net; mknod /dev/net/tun c 10 200; }' >/dev/null
tool ip tuntap add tap0 mode tap
is 'tun' "$rc $err" '0 '
drivers=$(in_box ls /sys/bus/virtio/drivers)
for d in virtio_blk virtio_net virtio_console virtio_rng virtio_balloon virtio_pmem virtiofs vmw_vsock_virtio_transport; do
	like "driver $d" "$drivers" "$d"
done
like 'kvmclock or the time stamp counter' "$(in_box cat /sys/devices/system/clocksource/clocksource0/current_clocksource)" 'kvm-clock|tsc'
run "$C" delete -f box
stop_system
done_testing
