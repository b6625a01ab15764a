# SPDX-License-Identifier: Apache-2.0
# leaks.sh - what a system holds of its host, to be the same again when its containers are gone. Sourced after system.sh.

# Prints all that is held now, a line each; descriptors are counted apart (descriptors).
held()
{
	ps -eo args= | sed -nE 's,^[^ ]*(container-[a-z-]+|qemu-system-[^ ]+).*,process \1,p' | sort | uniq -c
	ip -o link | sed -E 's/^[0-9]+: ([^:@]+).*/link \1/' | sort
	nft list ruleset 2>/dev/null | md5sum | sed 's/^/nftables /'
	awk -v t="$T" 'index($2, t) { print "mount " $2 }' /proc/self/mounts | sort
	find /sys/fs/cgroup -depth -type d -path '*container*' 2>/dev/null | sed 's/^/cgroup /' | sort
	find "$CONTAINER_APP_ROOT/containers" "$CONTAINER_RUN_ROOT" -mindepth 1 2>/dev/null | sed "s,$T,," | sort | sed 's/^/file /'
	jq -r 'if type == "object" then (.leases // .) else . end | length' "$CONTAINER_APP_ROOT"/networks/*/leases.json 2>/dev/null | sed 's/^/leases /'
}

# How many descriptors a service has open.
descriptors() # label
{
	ls "/proc/$(service_pid "$1")/fd" | wc -l
}

helpers() # how many containers' helpers are there
{
	pgrep -fc '^[^ ]*container-runtime-linux'
}
taps()
{
	ip -o link | grep -cE '^[0-9]+: ct[0-9a-f]+t[0-9]'
}
# No machine but n of them is left.
quiet() # n
{
	[ "$(helpers)" = "$1" ] && [ "$(taps)" = "$1" ] && [ "$(pgrep -fc '^[^ ]*qemu-system-')" -le "$1" ] && [ "$("$C" list -aq | wc -l)" = "$1" ] &&
		[ -z "$(find "$CONTAINER_APP_ROOT/containers" -mindepth 1 -maxdepth 1 -name '.*')" ]
}
