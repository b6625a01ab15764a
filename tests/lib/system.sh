# SPDX-License-Identifier: Apache-2.0
# system.sh - a system of its own for each test script. Sourced first thing: it starts the script again inside namespaces.
#
# Network namespace: loopback only; what the script and the product do to links, routes and nftables stays in there. PID namespace: when
# the script ends, however it ends, the kernel ends every process it started, daemons too. Mount namespace: for /proc, and for what a
# script hides. Roots are in a temporary directory.

TOP=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
BUILD=${BUILD:-$TOP/build}
if [ "${TEST_NS:-}" != "$0" ]; then
	if [ "$(id -u)" != 0 ]; then
		echo "1..0 # SKIP needs root: the test makes its own network namespace"
		exit 0
	fi
	# What comes from the distribution comes now: in there is no way out.
	[ ! -w "$BUILD" ] || "$TOP/third_party/distro-kernel.sh" "$BUILD/kernel/distro" >/dev/null || echo "# no guest kernel" >&2
	if [ -w "$BUILD" ] && grep -qs start_registry "$0" && ! command -v docker-registry >/dev/null; then
		"$TOP/third_party/fetch-deb.sh" docker-registry "$TOP/build/tools" >/dev/null || echo "# no docker-registry" >&2
	fi
	if [ -w "$BUILD" ] && grep -qs start_docker "$0"; then
		for deb in docker.io containerd runc; do
			"$TOP/third_party/fetch-deb.sh" $deb "$TOP/build/tools/docker" >/dev/null || echo "# no $deb" >&2
		done
	fi
	TEST_NS=$0 exec unshare --net --mount --pid --fork --kill-child --mount-proc --propagation private bash "$0" "$@"
fi
set -u
. "$TOP/tests/lib/tap.sh"
ip link set lo up

T=$(mktemp -d /tmp/ct.XXXXXX)
C=${CONTAINER_BIN:-$BUILD/container}
[ -x "$C" ] || bail "$C is built"
T_MAIN=$BASHPID
finish()
{
	local s=$?
	[ "$BASHPID" = "$T_MAIN" ] || exit $s # a subshell that was ended by a signal
	if [ $T_FAILED != 0 ] && [ -n "${TEST_KEEP:-}" ]; then
		diag "kept: $T"
	else
		# What the system still holds (overlay or tmpfs mounts) goes with the mount namespace.
		rm -rf --one-file-system "$T" 2>/dev/null
	fi
	rm -f "$T_OUT" "$T_ERR"
	exit $s
}
trap finish EXIT

use_roots() # dir: the system that commands talk to from now on
{
	mkdir -p "$1"
	export CONTAINER_APP_ROOT=$1/app CONTAINER_RUN_ROOT=$1/run CONTAINER_LOG_ROOT=$1/log CONTAINER_CONFIG=$1/config.json
	[ -e "$CONTAINER_CONFIG" ] || echo '{}' >"$CONTAINER_CONFIG"
}
unset CONTAINER_DEBUG CONTAINER_DEFAULT_PLATFORM CONTAINER_INSTALL_ROOT
export CONTAINER_ENGINE=${CONTAINER_ENGINE:-qemu}
use_roots "$T/s"

demo_images()
{
	[ -w "$BUILD" ] && "$TOP/tests/images/demo.sh" "$BUILD/images"
	IMAGES=$BUILD/images
}

# The guest kernel: the distribution's, or build/kernel/vmlinux with TEST_KERNEL=own.
set_kernel()
{
	local k m
	if [ "${TEST_KERNEL:-distro}" = own ]; then
		run "$C" system kernel set --binary "$BUILD/kernel/vmlinux"
	else
		read -r k m < <("$TOP/third_party/distro-kernel.sh" "$BUILD/kernel/distro")
		run "$C" system kernel set --binary "$k" --modules "$m"
	fi
	[ $rc = 0 ] || bail "the guest kernel is set"
}

start_system()
{
	run "$C" system start
	[ $rc = 0 ] || bail "the system starts"
}

# A started system with kernel and the demo image.
ready_system()
{
	demo_images
	start_system
	set_kernel
	run "$C" image load -i "$IMAGES/demo.oci.tar"
	[ $rc = 0 ] || bail "the demo image loads"
}

# What a user without rights needs of this tree, as copies in $T/u, since it may not read everything: the program, the demo image, and a kernel,
# which `"${kernel[@]}"` names to `system kernel set --binary`. Who calls gives it to the user.
user_files()
{
	local k m
	chmod 755 "$T"
	mkdir -p "$T/u"
	cp "$C" "$T/u/container"
	cp "$IMAGES/demo.oci.tar" "$T/u/"
	if [ "${TEST_KERNEL:-distro}" = own ]; then
		cp "$BUILD/kernel/vmlinux" "$T/u/vmlinux"
		kernel=("$T/u/vmlinux")
	else
		read -r k m < <("$TOP/third_party/distro-kernel.sh" "$BUILD/kernel/distro")
		cp "$k" "$T/u/vmlinuz"
		cp -r "$m" "$T/u/modules"
		kernel=("$T/u/vmlinuz" --modules "$T/u/modules")
	fi
}

stop_system()
{
	run "$C" system stop
}

# pid of a service of the current system by label, from system status.
service_pid()
{
	"$C" system status --format json | jq -r --arg l "$1" '.services[] | select(.label == $l) | .pid'
}

# Is the container in that state?
in_state() # id state
{
	[ "$("$C" list -a --format json | jq -r --arg i "$1" '.[] | select(.id == $i) | .status.state')" = "$2" ]
}
gone()
{
	! "$C" inspect "$1" >/dev/null 2>&1
}

# What a restart of the host leaves of a system: its files. Every process is killed, and what lives in memory is gone.
host_restarts()
{
	local l
	pkill -KILL -f '^[^ ]*(container-|qemu-system-)' # of this PID namespace
	wait_until 10 bash -c '! pgrep -f "^[^ ]*(container-|qemu-system-)"'
	rm -rf "$CONTAINER_RUN_ROOT"
	for l in $(ip -o link | sed -nE 's/^[0-9]+: (ct[^:@]+).*/\1/p'); do ip link del "$l" 2>/dev/null; done
	nft flush ruleset
}

# The world: a namespace behind a veth pair, 203.0.113.2, with no route back to containers. $world is a process in it.
make_world()
{
	world=$(unshare --net bash -c 'sleep 1000 >/dev/null 2>&1 & echo $!')
	ip link add out type veth peer name in netns "$world"
	ip addr add 203.0.113.1/24 dev out
	ip link set out up
	ip route add default via 203.0.113.2
	nsenter -t "$world" -n ip link set lo up
	nsenter -t "$world" -n ip addr add 203.0.113.2/24 dev in
	nsenter -t "$world" -n ip link set in up
}

# A port of this network namespace that nobody has: T_PORT. Below those that the kernel gives to outgoing connections.
T_PORT=20000
free_port()
{
	T_PORT=$((T_PORT + 1))
}

# Debian's docker-registry in this network namespace; REGISTRY is host:port, the log $T/<name>.log. With REGISTRY_HTTP_TLS_CERTIFICATE and
# _KEY it speaks https.
start_registry() # [name [user password]]
{
	local name=${1:-registry} port scheme=${REGISTRY_HTTP_TLS_CERTIFICATE:+https}
	free_port
	port=$T_PORT REGISTRY=127.0.0.1:$T_PORT
	bash "$TOP/tests/images/registry.sh" "$T/$name" "$port" "${@:2}" >"$T/$name.log" 2>&1 &
	wait_until 60 curl -fsk ${2:+-u "$2:$3"} "${scheme:-http}://$REGISTRY/v2/" || { diag "$(cat "$T/$name.log")"; bail "the registry runs"; }
}
# Docker itself, the distribution's, with a daemon of its own that makes no links and no rules; docker=(…) is the client. Registries on
# loopback need no TLS for it. False where it cannot run.
start_docker()
{
	local bin=$TOP/build/tools/docker/usr
	[ -x "$bin/sbin/dockerd" ] || return 1
	mkdir -p "$T/docker"
	PATH=$bin/sbin:$bin/bin:$PATH dockerd --data-root "$T/docker/data" --exec-root "$T/docker/exec" -p "$T/docker/pid" -H "unix://$T/docker.sock" \
		-s vfs --iptables=false --ip6tables=false --bridge=none >"$T/docker.log" 2>&1 &
	docker=("$bin/bin/docker" -H "unix://$T/docker.sock")
	wait_until 60 eval '"${docker[@]}" info >/dev/null 2>&1' || { diag "$(tail -3 "$T/docker.log")"; return 1; }
}
# A self-signed certificate for 127.0.0.1: $T/cert.pem, $T/key.pem.
make_certificate()
{
	openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -subj /CN=test -addext subjectAltName=IP:127.0.0.1 \
		-keyout "$T/key.pem" -out "$T/cert.pem" 2>/dev/null || bail 'a certificate is made'
}
