#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The runtime helper (and the qemu engine's child) of a running container as the host's /proc shows them, and that everything about a
# container still works from in there. Letter I: attack class "jail set-up".
. "$(dirname "$0")/../lib/system.sh"
# Whoever starts the system may leave descriptors open, a directory of the host's among them.
exec 8>"$T/leak" 9<"$T"
# So may its shell have logins, and a proxy with a password.
CONTAINER_REGISTRY_TOKEN=I-login HTTPS_PROXY=http://user:I-proxy@127.0.0.1:9 ready_system
exec 8>&- 9<&-
threads=512

field() # pid name
{
	sed -n "s/^$2:[[:space:]]*//p" "/proc/$1/status" | tr '\t' ' '
}
# Descriptors of a process that are not of the kinds named by a regex.
strangers() # pid regex
{
	local f t
	for f in /proc/"$1"/fd/*; do
		t=$(readlink "$f") || continue
		[[ $t =~ $2 ]] || echo "${f##*/}=$t"
	done
}
# A process's descriptor of a file.
open_as() # pid file
{
	local f
	for f in /proc/"$1"/fd/*; do
		[ "$f" -ef "$2" ] && echo "$f"
	done
}
confined() # pid who
{
	local u
	u=$(field "$1" Uid)
	u=${u%% *}
	ok "$2: a user of its own ($u)" [ "$u" -ge 1879048192 ]
	is "$2: and a group" "$(field "$1" Gid)" "$u $u $u $u"
	is "$2: no other groups" "$(field "$1" Groups)" ''
	is "$2: no_new_privs" "$(field "$1" NoNewPrivs)" 1
	is "$2: no capabilities" "$(field "$1" CapEff)$(field "$1" CapPrm)$(field "$1" CapInh)$(field "$1" CapBnd)$(field "$1" CapAmb)" \
		"$(printf '0%.0s' {1..80})"
	is "$2: every thread has a filter" "$(sed -n 's/^Seccomp:\t//p' /proc/"$1"/task/*/status | sort -u)" 2
	for n in net ipc uts mnt; do
		ok "$2: $n namespace of its own" [ "$(readlink "/proc/$1/ns/$n")" != "$(readlink "/proc/self/ns/$n")" ]
	done
	like "$2: no core files" "$(cat "/proc/$1/limits")" 'Max core file size +0 +0'
	like "$2: its user has no more than $threads threads" "$(cat "/proc/$1/limits")" "Max processes +$threads +$threads "
	like "$2: no more than 4096 descriptors" "$(cat "/proc/$1/limits")" 'Max open files +(4096|1024) +(4096|1024)'
}

run_ok 'a container' "$C" run -d --name one -c 2 -m 512m demo sh -c 'trap "exit 5" TERM; i=0; while :; do i=$((i+1)); echo $i; sleep 0.3; done'
h=$(service_pid container.runtime.one)
confined "$h" helper
is 'I: its root is empty' "$(ls -A "/proc/$h/root/")" ''
like 'I: and all it has mounted' "$(cat "/proc/$h/mounts")" '^jail / tmpfs ro,'
is 'I: nothing more' "$(wc -l <"/proc/$h/mounts")" 1
is 'I: not dumpable: its /proc is root'"'s" "$(stat -c %u "/proc/$h/fd")" 0
D=$CONTAINER_APP_ROOT/containers/one
is 'I: every descriptor is of a kind it needs' "$(strangers "$h" \
	"^(/dev/null|/dev/net/tun|/dev/kvm|anon_inode:.*|socket:.*|pipe:.*|/memfd:guest-memory.*|$D/(exit.json|stdio.log|stdio.log.1|boot.log|upper.ext4)|$CONTAINER_APP_ROOT/kernels/.*/vmlinux|$CONTAINER_APP_ROOT/(layers|rootfs)/.*|$CONTAINER_LOG_ROOT/container.runtime.one.log)$")" ''
is 'I: no directory among them' "$(find -L "/proc/$h/fd" -maxdepth 1 -mindepth 1 -type d 2>/dev/null)" ''
is 'I: the container directory stays root'"'s" "$(stat -c '%u %a' "$D")" '0 700'
is 'I: the login of the shell that started the system is in no process'"'"' environment' "$(grep -las I-login /proc/[0-9]*/environ)" ''
ok 'its proxy is where registries are spoken to' grep -qa I-proxy "/proc/$(service_pid container.images)/environ"
is 'I: and not in the helper' "$(grep -ca I-proxy "/proc/$h/environ")" 0
is 'I: which knows where the roots are' "$(tr '\0' '\n' <"/proc/$h/environ" | sed 's/=.*//' | grep -vxE 'CONTAINER_(APP|RUN|LOG|INSTALL)_ROOT|XDG_.*|HOME|PATH|LC_ALL|(A|UB)SAN_OPTIONS')" ''
say=$(cat "$CONTAINER_LOG_ROOT/container.runtime.one.log")
like 'all stages were done' "$say" 'stages 0x7f of 0x7f'
unlike 'I: nothing was inherited that is not on the list' "$say" 'were inherited'
unlike 'no warning' "$say" '"level":"warning","[^}]*jail'
for n in vCPU disk 'network card'; do
	like "a $n gets at most 27 system calls" "$say" ", (1?[0-9]|2[0-7]) for a $n"
done

q=$(pgrep -P "$h" | head -1)
if [ -n "$q" ]; then
	confined "$q" qemu
	is 'qemu is the same user' "$(field "$q" Uid)" "$(field "$h" Uid)"
	ok 'I: qemu: is process 1 of a pid namespace, and can name nobody' [ "$(field "$q" NSpid)" = "$q 1" ]
	is 'qemu: our filter and its own' "$(field "$q" Seccomp_filters)" 2
	# The kernel is "/": the root of a mount of its own, which is nowhere.
	is 'I: qemu: every descriptor is of a kind it needs' \
		"$(strangers "$q" "^(/dev/null|anon_inode:.*|socket:.*|pipe:.*|/memfd:(guest-memory|initramfs) .*|/|$CONTAINER_RUN_ROOT/c/one[.]d/nic[0-9]+[.]sock .deleted.)$")" ''
	is 'I: qemu: knows nothing of where it was started' "$(tr '\0' ' ' <"/proc/$q/environ")" 'LC_ALL=C '
	# Without root the kernel is its user's file, and a file that is open can be opened anew: through a mount that is read-only for root too.
	k=$(open_as "$q" "$CONTAINER_APP_ROOT/kernels/default/vmlinux")
	like 'I: qemu: and can never write to it' "$({ : >>"$k"; } 2>&1)" 'Read-only file system'
	# Of the host's files it has its own alone.
	is 'I: qemu: its root has no more than programs need' "$(ls -A "/proc/$q/root/" | grep -vxE 'lib|lib64|usr|etc|nix|gnu|proc')" ''
	is 'I: qemu: of /etc the cache of the libraries' "$(ls -A "/proc/$q/root/etc")" ld.so.cache
	is 'I: qemu: of /proc itself' "$(ls -A "/proc/$q/root/proc")" self
	is 'I: qemu: of the programs it is the only one' "$(ls -A "/proc/$q/root$(dirname "$(readlink "/proc/$q/exe")")/")" "$(basename "$(readlink "/proc/$q/exe")")"
	is 'I: qemu: no mount of it can be written to' "$(awk '$6 !~ /^ro,nosuid,nodev/' "/proc/$q/mountinfo")" ''
	is 'I: qemu has no directory open' "$(find -L "/proc/$q/fd" -maxdepth 1 -mindepth 1 -type d 2>/dev/null)" ''
else
	skip 'qemu' 'the kvm engine has no child'
fi

# The wall behind the machine's own size.
group=$(sed -n 's/^0:://p' "/proc/$h/cgroup")
top=$(findmnt -nt cgroup2 -o TARGET | head -1)
if [[ $group == */container.*/one ]]; then
	like 'cgroup: its CPUs' "$(cat "$top$group/cpu.max")" '^200000 100000$'
	like 'cgroup: its memory, and the machine'"'s" "$(cat "$top$group/memory.max")" '^(805306368|2013265920)$'
	like 'cgroup: its threads' "$(cat "$top$group/pids.max")" '^68$'
	is 'cgroup: it goes as a whole' "$(cat "$top$group/memory.oom.group")" 1
	# KVM's own thread is in there too, and of no number here.
	run_ok 'update --cpus' "$C" update --cpus 1 one
	like 'cgroup: its CPUs then' "$(cat "$top$group/cpu.max")" '^100000 100000$'
	is 'and inside' "$("$C" exec one cat /sys/fs/cgroup/cpu.max)" '100000 100000'
	run_rc 1 'not more than its machine has' "$C" update --cpus 3 one
	is 'cgroup: all that is in it' "$(grep -vx 0 "$top$group/cgroup.procs" | sort -n | tr '\n' ' ')" "$(printf '%s\n' "$h" $q | sort -n | tr '\n' ' ')"
else
	group=
	like 'without a cgroup the log says why' "$(cat "$CONTAINER_LOG_ROOT/container.apiserver.log")" 'no cgroups of their own: '
	skip 'cgroup' 'the host has no cgroup v2 with controllers'
fi

run_ok 'a second container' "$C" run -d --name two demo sleep 1000
h2=$(service_pid container.runtime.two)
ok 'I: each has another user' [ "$(field "$h" Uid)" != "$(field "$h2" Uid)" ]

# All that goes through the helper.
run_ok 'exec' "$C" exec one sh -c 'echo out; echo err >&2; exit 0'
is 'its streams' "$out/$err" out/err
run_rc 3 'exec: exit code' "$C" exec one sh -c 'exit 3'
out=$(head -c 300000 /dev/zero | timeout 60 "$C" exec -i one wc -c)
is 'exec -i' "${out// /}" 300000
run_ok 'the network' "$C" exec one sh -c 'ping -c 1 -W 5 $(ip route | sed -n "s/default via \([0-9.]*\).*/\1/p")'
run_ok 'its disk' "$C" exec one sh -c 'dd if=/dev/zero of=/x bs=1M count=20 conv=fsync 2>/dev/null && rm /x && sync'
says()
{
	[ -n "$("$C" logs -n 1 one)" ]
}
ok 'it says something' wait_until 20 says
run_ok 'logs' "$C" logs -n 1 one
like 'what it wrote' "$out" '^[0-9]+$'
# The log is turned over within the jail.
run_ok 'more than a log holds' "$C" exec one sh -c 'head -c 18000000 /dev/zero | tr "\0" "x" | fold -w 100 >/proc/1/fd/1'
turned()
{
	[ "$(stat -c %s "$D/stdio.log")" -lt 16777217 ] && [ "$(stat -c %s "$D/stdio.log.1")" -gt 1000000 ]
}
ok 'stdio.log was turned over' wait_until 30 turned
a=$("$C" logs -n 1 one)
moves()
{
	[ "$("$C" logs -n 1 one)" != "$a" ]
}
ok 'and goes on' wait_until 20 moves

# An apiserver that was killed finds it again.
old=$(service_pid container.apiserver)
kill -KILL "$old"
sleep 0.5
run_ok 'the next apiserver' "$C" system start
is 'has the same helper' "$(service_pid container.runtime.one)" "$h"
run_ok 'exec works' "$C" exec one true

# The exit record is written from inside; one that is hostile is not believed.
run_ok 'stop' "$C" stop -t 20 one
is 'the exit code is recorded' "$(jq .exitCode "$D/exit.json")" 5
like 'and when' "$(jq -r .exitedAt "$D/exit.json")" '^20[0-9-]+T[0-9:.]+Z$'
ok 'nothing is left in the run directory' test ! -e "$CONTAINER_RUN_ROOT/c/one.sock" -a ! -e "$CONTAINER_RUN_ROOT/c/one.d"
[ -z "$group" ] || ok 'cgroup: gone' wait_until 10 test ! -e "$top$group"
ln "$D/exit.json" "$T/hard"
rm "$D/exit.json"
ln "$T/hard" "$D/exit.json"
ln -sf /etc/passwd "$D/stdio.log.1"
run_ok 'I: it starts over links' "$C" start one
ok 'I: follows no symlink' test ! -L "$D/stdio.log.1"
is 'I: and writes through no hard link' "$(jq .exitCode "$T/hard")" 5
run_ok 'delete --force' "$C" delete --force one
ok 'it is gone' wait_until 10 gone one
run_ok 'kill' "$C" kill two
ok 'it ended' wait_until 20 in_state two stopped
is 'with 137' "$(jq .exitCode "$CONTAINER_APP_ROOT/containers/two/exit.json")" 137
printf '{"exitCode": 7, "exitedAt": "\\u001b[31mred"}' >"$CONTAINER_APP_ROOT/containers/two/exit.json"
kill -KILL "$(service_pid container.apiserver)"
sleep 0.5
run_ok 'system start' "$C" system start
unlike 'I: a hostile exit record reaches no terminal' "$("$C" inspect two)" 'red'
stop_system
[ -z "$group" ] || ok 'cgroup: nothing is left' test ! -e "$top${group%/*}"
done_testing
