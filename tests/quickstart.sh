#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# quickstart.sh: from a clean clone to a container in a microVM. Says what it does while it does it.
set -euo pipefail
cd "$(dirname "$0")/.."
t0=$(date +%s%N)
since()
{
	local ms=$((($(date +%s%N) - t0) / 1000000))
	printf '%d.%d' $((ms / 1000)) $((ms % 1000 / 100))
}
step()
{
	printf '\n==> [%5s s] %s\n' "$(since)" "$*"
}
C=build/container

step 'Packages (what is missing, by apt)'
third_party/deps.sh build quickstart
step 'Build'
make --no-print-directory -j"$(nproc)" all
ls -lh "$C" | awk '{print "  " $NF ": " $5 ", one static binary"}'

step 'Demo image from busybox-static'
tests/images/demo.sh build/images
ls -lh build/images/demo.oci.tar | awk '{print "  " $NF ": " $5}'

step 'Start the system'
"$C" system start

step 'Guest kernel'
if [ -s build/kernel/vmlinux ]; then
	"$C" system kernel set --force --binary build/kernel/vmlinux
else
	read -r kernel modules < <(third_party/distro-kernel.sh build/kernel/distro)
	echo "  $kernel"
	"$C" system kernel set --force --binary "$kernel" --modules "$modules"
fi

step 'Load the image'
"$C" image load -i build/images/demo.oci.tar
"$C" image list

step 'Engine'
"$C" system status | grep -i '^engine' | sed 's/^/  /'

step 'Run a container in a microVM of its own'
"$C" delete -f hello >/dev/null 2>&1 || true
run0=$(date +%s%N)
"$C" run --rm --name hello demo sh -c '
	echo "  kernel    $(uname -sr)"
	echo "  host name $(hostname)"
	echo "  PID 1     $(cat /proc/1/comm), and nothing of the host: $(ls -d /proc/[0-9]* | wc -l) processes"
	echo "  memory    $(sed -n "s/MemTotal: *//p" /proc/meminfo), $(nproc) CPUs"'
run1=$(date +%s%N)
echo "  (on this host: kernel $(uname -sr), host name $(hostname), PID 1 $(cat /proc/1/comm), $(ls -d /proc/[0-9]* | wc -l) processes)"
printf '  the run took %d ms\n' $(((run1 - run0) / 1000000))

step "Done in $(since) s. Try:
    $C run -it --rm demo
    $C list; $C system status; $C system stop"
