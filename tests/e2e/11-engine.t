#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Which engine and why; what a host with neither says.
. "$(dirname "$0")/../lib/system.sh"
demo_images

# auto: says which engine and gives a reason.
CONTAINER_ENGINE=auto run_ok 'start with engine auto' "$C" system start
run_ok 'status' "$C" system status
like 'which engine' "$out" 'engine +(kvm|qemu)'
reason=$("$C" system status --format json | jq -r .engineReason)
like 'and why' "$reason" '[a-z]{3}'
diag "engine auto: $("$C" system status --format json | jq -r .engine): $reason"
is 'in the lab it is kvm' "$([ -z "${LAB:-}" ] && echo kvm || "$C" system status --format json | jq -r .engine)" kvm
stop_system

# A host with neither: /dev/kvm hidden, no qemu on PATH nor at its usual place.
use_roots "$T/none"
mount -t tmpfs none "$T/s"
mkdir -p "$T/hide/bin"
for p in bash env cat jq timeout tr; do
	ln -s "$(command -v $p)" "$T/hide/bin/$p"
done
[ ! -e /dev/kvm ] || mount --bind /dev/null /dev/kvm
for q in $(type -ap qemu-system-x86_64 | sort -u); do
	mount --bind /dev/null "$q"
done
old=$PATH
PATH=$T/hide/bin
CONTAINER_ENGINE=auto run "$C" system start
said=$out$err
if [ $rc = 0 ]; then
	run "$C" system status
	said+=$out$err
	run "$C" image load -i "$IMAGES/demo.oci.tar"
	PATH=$old
	read -r k m < <("$TOP/third_party/distro-kernel.sh" "$BUILD/kernel/distro")
	run "$C" system kernel set --binary "$k" --modules "$m"
	run_rc 1 'run fails' "$C" run --rm demo true
	said+=$err
else
	PATH=$old
fi
like 'names one remedy' "$said" '/dev/kvm'
like 'names the other' "$said" 'qemu'
is 'no container is left' "$("$C" list -aq 2>/dev/null)" ''
for e in kvm qemu; do
	"$C" system stop >/dev/null 2>&1
	CONTAINER_ENGINE=$e run "$C" system start
	said=$out$err
	if [ $rc = 0 ]; then
		run_rc 1 "asked for $e, which is not there: run fails" "$C" run --rm demo true
		said+=$err
	fi
	like "the error names $e" "$said" "$e"
done
stop_system
done_testing
