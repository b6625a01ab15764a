#!/bin/busybox sh
# SPDX-License-Identifier: Apache-2.0
# PID 1 of the lab: the host's files below, a tmpfs above, the modules a host of ours has, then the job.
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
while read -r m; do
	insmod "/lib/modules/$m" || echo "lab: insmod $m failed"
done </modules.list
[ -e /job/cmd ] || { echo "lab: no job"; reboot -f; }
date -s "@$(cat /job/now)" >/dev/null

mkdir -p /host /rw
mount -t virtiofs -o ro host /host || { echo "lab: no host file system"; reboot -f; }
mount -t tmpfs -o size=75% rw /rw
mkdir -p /rw/up /rw/work
mount -t overlay -o lowerdir=/host,upperdir=/rw/up,workdir=/rw/work root /new
for d in tmp run var/lib/container out root; do
	mkdir -p "/new/$d"
	mount -t tmpfs -o mode=755,size=75% "$d" "/new/$d"
done
chmod 1777 /new/tmp
# A checkout below one of those comes back.
top=$(cat /job/top)
if [ ! -d "/new$top" ]; then
	mkdir -p "/new$top" /rw/top-up /rw/top-work
	mount -t overlay -o "lowerdir=/host$top,upperdir=/rw/top-up,workdir=/rw/top-work" top "/new$top"
fi
cp -a /job/copy/. /new/ 2>/dev/null
rel=$(uname -r)
mods=$(cat /job/modules)
if [ "$mods" != "/lib/modules/$rel" ] && [ "$mods" != "/usr/lib/modules/$rel" ]; then
	mkdir -p "/new/lib/modules/$rel"
	mount -o bind "/new$mods" "/new/lib/modules/$rel"
fi
for d in proc sys dev; do
	mkdir -p "/new/$d"
	mount -o move "/$d" "/new/$d"
done
ln -sfn /proc/self/fd /new/dev/fd
ln -sfn /proc/self/fd/0 /new/dev/stdin
ln -sfn /proc/self/fd/1 /new/dev/stdout
ln -sfn /proc/self/fd/2 /new/dev/stderr
mkdir -p /new/dev/pts /new/dev/shm
mount -t devpts -o gid=5,mode=620,ptmxmode=666 devpts /new/dev/pts
mount -t tmpfs shm /new/dev/shm
mount -t cgroup2 cgroup /new/sys/fs/cgroup
cp /job/cmd /new/run/lab-cmd
cp /job/top /new/run/lab-top
cat >/new/run/lab-job <<'JOB'
export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for p in /sys/class/virtio-ports/*; do
	case $(cat "$p/name") in
	out) out=/dev/${p##*/} ;;
	status) status=/dev/${p##*/} ;;
	esac
done
hostname lab
ip link set lo up
echo 1 >/proc/sys/kernel/panic_on_oops
for m in irqbypass kvm kvm-amd tun bridge nf_tables nft_chain_nat nft_masq veth loop; do
	modprobe "$m" || echo "lab: no module $m" >/dev/console
done
"$(cat /run/lab-top)/tests/lab/machine.pl" </dev/null &
while kill -0 $! && [ ! -p /run/lab-machine ]; do
	sleep 0.1
done
[ -c /dev/net/tun ] || { mkdir -p /dev/net; mknod /dev/net/tun c 10 200; }
setsid bash /run/lab-cmd </dev/null >"$out" 2>&1
rc=$?
tar -C /out -cf - . 2>/dev/null | dd of=/dev/vda bs=64k 2>/dev/null
sync
echo "$rc" >"$status"
sleep 0.2
echo b >/proc/sysrq-trigger
sleep 5
JOB
exec chroot /new /bin/bash /run/lab-job </dev/console >/dev/console 2>&1
