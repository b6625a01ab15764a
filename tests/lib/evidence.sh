# SPDX-License-Identifier: Apache-2.0
# evidence.sh - what a system that hangs looks like. Sourced by tap.sh, which calls t_evidence when a command did not end in time.
#
# Printed are each process of ours with the place it waits in (kernel stacks, and with gdb its own), and the ends of the logs. With
# TEST_CORES=dir the processes' memory goes there as well (gcore), the guest's with it: `strings` shows what its kernel said.

t_processes()
{
	local d
	for d in /proc/[0-9]*; do
		case $(tr '\0' ' ' <"$d/cmdline") in
		container* | */container* | *qemu-system*) echo "${d#/proc/}" ;;
		esac
	done
}

t_stacks() # pid
{
	local t
	echo "== $1: $(tr '\0' ' ' <"/proc/$1/cmdline" | cut -c1-200)"
	for t in /proc/"$1"/task/*; do
		echo "-- ${t##*/} $(cat "$t/comm") $(sed -n 's/^State:\t//p' "$t/status"): $(awk '{ print $2 }' "$t/stack" 2>/dev/null | head -4 | tr '\n' ' ')"
	done
	! command -v gdb >/dev/null || DEBUGINFOD_URLS= timeout 20 gdb -p "$1" -batch -nx -ex 'thread apply all bt 8' 2>/dev/null | grep -E '^(#|Thread)' | cut -c1-160
}

t_evidence()
{
	local p f
	{
		for p in $(t_processes); do
			t_stacks "$p"
			[ -z "${TEST_CORES:-}" ] || timeout 120 gcore -o "$TEST_CORES/$(cat "/proc/$p/comm")" "$p" >/dev/null 2>&1
		done
		for f in "${CONTAINER_LOG_ROOT:-/nowhere}"/* "${CONTAINER_APP_ROOT:-/nowhere}"/containers/*/boot.log; do
			[ ! -s "$f" ] || { echo "== $f" && tail -15 "$f" | cut -c1-240; }
		done
	} 2>/dev/null | sed 's/^/# /' >&2
}
