# SPDX-License-Identifier: Apache-2.0
# leaks.sh - what a system holds of its host, to be the same again when its containers are gone. Sourced after system.sh.

# What our cgroups and links are called by: the FNV-1a of the app root (core/roots.c). Other systems on this host have theirs.
system_tag()
{
	local s=$CONTAINER_APP_ROOT h=2166136261 i c
	for ((i = 0; i < ${#s}; i++)); do
		printf -v c %d "'${s:i:1}"
		h=$(((h ^ c) * 16777619 & 0xffffffff))
	done
	printf %08x $h
}

# Prints all that is held now, a line each; descriptors are counted apart (descriptors).
held()
{
	ps -eo args= | sed -nE 's,^[^ ]*(container-[a-z-]+|qemu-system-[^ ]+).*,process \1,p' | sort | uniq -c
	ip -o link | sed -E 's/^[0-9]+: ([^:@]+).*/link \1/' | sort
	nft list ruleset 2>/dev/null | md5sum | sed 's/^/nftables /'
	awk -v t="$T" 'index($2, t) { print "mount " $2 }' /proc/self/mounts | sort
	find /sys/fs/cgroup -depth -type d -path "*/container.$(system_tag)*" 2>/dev/null | sed 's/^/cgroup /' | sort
	find "$CONTAINER_APP_ROOT/containers" "$CONTAINER_RUN_ROOT" -mindepth 1 2>/dev/null | sed "s,$T,," | sort | sed 's/^/file /'
	echo "leases $(leases)"
}
leases() # how many addresses are given away
{
	jq -r '.leases | length' "$CONTAINER_APP_ROOT"/networks/*/leases.json 2>/dev/null | awk '{ n += $1 } END { print n + 0 }'
}

# How many descriptors a service has open.
descriptors() # label
{
	ls "/proc/$(service_pid "$1")/fd" | wc -l
}
# At most n; connections of commands that have just ended are counted for a moment.
few_descriptors() # label n
{
	[ "$(descriptors "$1")" -le "$2" ]
}

helpers() # how many containers' helpers are there
{
	pgrep -fc '^[^ ]*container-runtime-linux'
}
taps()
{
	ip -o link | grep -cE '^[0-9]+: ct[0-9a-f]+t[0-9]'
}
cgroups() # how many containers have one
{
	find /sys/fs/cgroup -type d -path "*/container.$(system_tag)/*" 2>/dev/null | wc -l
}
# No machine but n of them is left. Taps, leases and cgroups go a moment after their container.
quiet() # n
{
	[ "$(helpers)" = "$1" ] && [ "$(taps)" = "$1" ] && [ "$(leases)" = "$1" ] && [ "$(cgroups)" -le "$1" ] &&
		[ "$(pgrep -fc '^[^ ]*qemu-system-')" -le "$1" ] && [ "$("$C" list -aq | wc -l)" = "$1" ] &&
		[ -z "$(find "$CONTAINER_APP_ROOT/containers" -mindepth 1 -maxdepth 1 -name '.*')" ]
}
# What is held now is what is in the file; $T/now has it.
held_as() # file
{
	held >"$T/now"
	cmp -s "$1" "$T/now"
}
# No directory, mount or cgroup of a container is left.
none_held()
{
	! held | grep -E '^(file .*containers/.|mount|cgroup)' >"$T/still-held"
}
