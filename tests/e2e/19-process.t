#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What processes may do and see, by the names of Apple's tests: capabilities, users, limits, paths, system calls, memory.
. "$(dirname "$0")/../lib/system.sh"
ready_system

config() # jq filter, flags…: what create writes into the configuration
{
	local filter=$1
	shift
	N=$BASHPID$RANDOM
	"$C" create --name "c-$N" --network none "$@" demo true >/dev/null && "$C" inspect "c-$N" | jq -c ".[0].configuration | $filter"
}
in_one() # script, flags…: the output of a container of its own
{
	local script=$1
	shift
	"$C" run --rm --network none -c 1 -m 256m "$@" demo sh -c "$script" 2>&1
}
CAPS='grep CapEff /proc/self/status | cut -f2'

# TestCLIRunCapabilities: parsing and storage.
run_rc 1 'testCapDropInvalid' "$C" create --cap-drop NONSENSE demo true
run_rc 1 'testCapAddInvalid' "$C" create --cap-add CAP_NONSENSE demo true
is 'testCapAddStored' "$(config .capAdd --cap-add NET_ADMIN)" '["CAP_NET_ADMIN"]'
is 'testCapDropStored' "$(config .capDrop --cap-drop MKNOD)" '["CAP_MKNOD"]'
is 'testCapAddDropALLStored' "$(config '[.capAdd, .capDrop]' --cap-add ALL --cap-drop ALL)" '[["ALL"],["ALL"]]'
is 'testCapAddALLStored' "$(config .capAdd --cap-add all)" '["ALL"]'
is 'testCapDropLowerCase' "$(config .capDrop --cap-drop cap_mknod)" '["CAP_MKNOD"]'
is 'testMultipleCapAddDrop' "$(config '[.capAdd, .capDrop]' --cap-add NET_ADMIN --cap-add SYS_TIME --cap-drop CHOWN --cap-drop KILL)" '[["CAP_NET_ADMIN","CAP_SYS_TIME"],["CAP_CHOWN","CAP_KILL"]]'

# The security paths' flags: TestCLIRunSecurityPaths.
run_rc 1 'testRelativePathsRejected' "$C" create --masked-path etc/passwd demo true
like 'with the path' "$err" 'etc/passwd'
run_rc 1 'testRelativePathsRejected: read-only' "$C" create --read-only-path x demo true
is 'testNoFlagsUsesRuntimeDefaults' "$(config '[.maskedPaths, .readonlyPaths]')" '[null,null]'
is 'testMaskedPathNoneClearsOnlyMaskedDefaults' "$(config '[.maskedPaths, .readonlyPaths]' --masked-path /x --masked-path NONE --masked-path /y)" '[["/y"],null]'
is 'testReadOnlyPathNoneClearsOnlyReadOnlyDefaults' "$(config '[.maskedPaths, .readonlyPaths]' --read-only-path NONE)" '[null,[]]'

# TestCLICreateCommand and other parsing.
run_ok 'testCreateArgsPassthrough' "$C" create --network none demo echo -n hello world
is 'testCreateWithFQDNName' "$("$C" create --name first.example.org --network none demo true)" first.example.org
run_rc 1 'testRunWithNonExistentInitImage' "$C" run --init-image nothing demo true
run_rc 1 '--runtime of none' "$C" create --runtime runc demo true
run_rc 1 '--security-opt of none' "$C" create --security-opt seccomp=/nothing demo true
run_rc 1 '--pids-limit of none' "$C" create --pids-limit many demo true

# One container for what needs no flags of its own.
run_ok 'run -d' "$C" run -d --name box --network none -m 256m -c 2 --hostname h.example --ulimit nofile=100:200 --ulimit nproc=50 \
	--shm-size 128m --tmpfs /scratch --masked-path /etc/demo-release --read-only-path /opt --group-add adm --group-add 4242 \
	--sysctl kernel.msgmax=9000 --pids-limit 60 --oom-score-adj 300 --init demo sleep 600
box()
{
	"$C" exec box "$@" 2>&1
}
is 'testNoCapFlagsUsesDefaultCaps' "$(box sh -c "$CAPS")" 00000000a80425fb
is 'testDefaultCapChown, testDefaultCapFowner' "$(box sh -c 'echo x >/tmp/f; chown 33 /tmp/f && chmod 600 /tmp/f && stat -c "%u %a" /tmp/f')" '33 600'
is 'testNonRootUserCannotReadShadow' "$(box sh -c 'echo s >/etc/shadow; chmod 600 /etc/shadow'; "$C" exec -u 1000 box cat /etc/shadow 2>&1 | grep -c 'Permission denied')" 1
is 'testRunCommandCPUs' "$(box sh -c 'set -- $(cat /sys/fs/cgroup/cpu.max); echo $(($1 / $2)); grep -c ^processor /proc/cpuinfo' | tr '\n' ' ')" '2 2 '
is 'testRunCommandMemory' "$("$C" inspect box | jq '.[0].configuration.resources.memoryInBytes') $(box cat /sys/fs/cgroup/memory.max)" '268435456 268435456'
is 'pids.max, OOM score, sysctl, host name' "$(box sh -c 'cat /sys/fs/cgroup/pids.max /proc/self/oom_score_adj /proc/sys/kernel/msgmax; hostname' | tr '\n' ' ')" '60 300 9000 h.example '
is 'testRunCommandUlimitNofile, testRunCommandUlimitNproc, testRunCommandMultipleUlimits' "$(box sh -c 'ulimit -n; ulimit -Hn; ulimit -u' | tr '\n' ' ')" '100 200 50 '
is '--ulimit of exec' "$("$C" exec --ulimit nofile=77 box sh -c 'ulimit -n; ulimit -u' | tr '\n' ' ')" '77 50 '
like 'testRunCommandShmSize' "$(box mount)" 'on /dev/shm type tmpfs .*size=131072k'
like 'testRunCommandTmpfs' "$(box mount)" 'on /scratch type tmpfs'
is 'testCustomPathsAppendToDefaults' "$(box sh -c 'wc -c </etc/demo-release; touch /opt/x 2>&1; ls /proc/acpi 2>/dev/null | wc -l; echo 1 >/proc/sys/kernel/panic' | tr '\n' ' ')" "0 touch: /opt/x: Read-only file system 0 sh: can't create /proc/sys/kernel/panic: Read-only file system "
is 'testRunCommandInit' "$(box cat /proc/1/comm)" init
is 'testRunCommandInitReapsZombies' "$(box sh -c '(sleep 0.1 & exec true); sleep 1; for i in $(seq 200); do ps | grep -q "[Z]ombie\|\[sleep\]" || break; sleep 0.1; done; ps | grep -c "[Z]ombie\|\[sleep\]"')" 0
like 'supplemental groups, by name and id' "$(box id)" '4\(adm\).*4242'
like 'testRunCommandUser' "$("$C" exec -u www-data box id)" 'uid=33\(www-data\) gid=33\(www-data\) groups=.*4\(adm\)'
is 'testRunCommandUserIDGroupID' "$("$C" exec --uid 1000 --gid 7 box sh -c 'id -u; id -g' | tr '\n' ' ')" '1000 7 '
is 'user and group by names' "$("$C" exec -u www-data:adm box sh -c 'id -u; id -g' 2>&1 | tr '\n' ' ')" '33 4 '
# The user stays the container's, with its own groups: 7 is one more.
is '--gid alone is a supplemental group' "$("$C" exec --gid 7 box sh -c 'id -u; id -g; id -G' 2>&1 | tr '\n' ' ')" '0 0 0 4 7 4242 '
is 'testRunCommandCWD' "$("$C" exec -w /var/www box pwd)" /var/www
is 'testRunCommandEnv' "$("$C" exec -e A=b -e DEMO=2 box sh -c 'echo $A $DEMO')" 'b 2'
printf '# comment\n\nK=v = w\nL=two words\n' >"$T/env"
is 'testRunCommandEnvFile' "$("$C" exec --env-file "$T/env" box sh -c 'echo "$K|$L"')" 'v = w|two words'
is 'testRunCommandEnvFileFromNamedPipe' "$("$C" exec --env-file <(echo P=ipe) box sh -c 'echo $P')" ipe
is 'testCreateExecCommand' "$(box uname)" Linux
is 'testExecDetach' "$("$C" exec -d box sh -c 'echo done >/tmp/detached; sleep 300')" box
ok 'testExecDetach: the effect' wait_until 10 bash -c '"$1" exec box cat /tmp/detached' - "$C"
like 'testExecDetachProcessRunning' "$(box ps)" 'sleep 300'
run_rc 127 'testExecInvalidExecutable' "$C" exec box no-such-thing
run_rc 126 'what cannot be run' "$C" exec box /etc/passwd
run_rc 126 'an unknown user' "$C" exec -u nobody-here box true
ns()
{
	"$C" exec box sh -c "$1" | tr '\n' ' '
}
is 'exec joins every namespace and the cgroup' "$(ns 'for n in mnt pid uts ipc net cgroup; do [ $(readlink /proc/self/ns/$n) = $(readlink /proc/2/ns/$n) ] && echo $n; done; cat /proc/self/cgroup')" 'mnt pid uts ipc net cgroup 0::/ '

# System calls: the default profile.
is 'a filter is on' "$(box grep '^Seccomp:' /proc/self/status | cut -f2)" 2
is 'for other users as well' "$("$C" exec -u 33 box grep '^Seccomp:' /proc/self/status | cut -f2)" 2
like 'no namespaces' "$(box unshare -U true)" 'Operation not permitted'
like 'no mounts' "$(box mount -t tmpfs x /scratch)" 'ermission denied|not permitted'
run_ok 'stop' "$C" stop -t 1 box

# What cannot be run as the first process: through run, and through a start of what was created.
run_rc 126 'run of what is no program' "$C" run --rm --network none demo /etc/passwd
like 'names it' "$err" '/etc/passwd'
run_ok 'create' "$C" create --name no-program --network none demo /etc/passwd
run_rc 126 'start -a of what is no program' "$C" start -a no-program
like 'names it' "$err" '/etc/passwd'
run_ok 'create' "$C" create --name missing --network none demo no-such-thing
run_rc 127 'start -a of what is not there' "$C" start -a missing
like 'names it' "$err" 'no-such-thing'
# What comes to nothing before there is a machine is no word on the program, though it was missing the last time.
mkdir "$T/kernels"
mv "$CONTAINER_APP_ROOT"/kernels/* "$T/kernels"
sleep 1.1 # the time of an end is in whole seconds
run_rc 1 'start -a without a kernel, after a 127' "$C" start -a missing
mv "$T"/kernels/* "$CONTAINER_APP_ROOT/kernels"

# Init passes signals on: the command's own trap runs, and its exit status is the container's.
run_ok 'run -d --init' "$C" run -d --init --name heir --network none -c 1 -m 200m demo \
	sh -c 'trap "exit 5" TERM; echo up; while :; do sleep 0.2; done'
ok 'its command has its trap' wait_until 20 bash -c '"$1" logs heir | grep -q up' - "$C"
is 'init is the first process' "$("$C" exec heir cat /proc/1/comm)" init
run_ok 'stop' "$C" stop -t 600 heir
is 'testRunCommandInit: the signal got to the command' "$("$C" inspect heir | jq -c '.[0].status | [.state, .exitCode]')" '["stopped",5]'

# Capabilities at work, and the filter with them.
is 'testCapDropMknodCannotMknod' "$(in_one 'mknod /tmp/n c 1 3 2>/dev/null && echo made; chown 33 /tmp && echo chown' --cap-drop MKNOD)" chown
is 'testCapDropMknodLowerCaseCannotMknod' "$(in_one 'mknod /tmp/n c 1 3 2>/dev/null && echo made; chown 33 /tmp && echo chown' --cap-drop mknod)" chown
is 'testCapDropALLCannotMknod, testCapDropChown, testCapDropALLOnlyShowsZeroEffective' \
	"$(in_one "mknod /tmp/n c 1 3 2>/dev/null || echo no; chown 33 /tmp 2>/dev/null || echo no; $CAPS" --cap-drop ALL | tr '\n' ' ')" 'no no 0000000000000000 '
is 'testCapDropALLAddMknodCanMknod, testCapDropALLShowsZeroCaps' \
	"$(in_one "mknod /tmp/n c 1 3 && echo made; $CAPS" --cap-drop ALL --cap-add MKNOD --cap-add SETUID --cap-add SETGID | tr '\n' ' ')" 'made 00000000080000c0 '
is 'testCapAddALLShowsFullCaps, testCapAddALLCanDownInterface, mounts allowed by the filter' \
	"$(in_one "$CAPS; ip link set lo down && echo down; mkdir /m; mount -t tmpfs x /m && echo mounted" --cap-add ALL | tr '\n' ' ')" '000001ffffffffff down mounted '
is 'testCapAddALLDropNetAdminCannotDownInterface' "$(in_one 'ip link set lo down 2>/dev/null || echo no' --cap-add ALL --cap-drop NET_ADMIN)" no
is 'testCapAddNetAdminCanDownInterface, testRunCommandReadOnly, testRunCommandWithoutInitDefault, no-new-privileges' \
	"$(in_one 'ip link set lo down && echo down; touch /x 2>/dev/null || echo no; cat /proc/1/comm; grep NoNewPrivs /proc/self/status | cut -f2' \
		--cap-add NET_ADMIN --read-only --security-opt no-new-privileges | tr '\n' ' ')" 'down no sh 1 '
is '--privileged' "$(in_one 'grep "^Seccomp:" /proc/self/status | cut -f2; [ -c /dev/kmsg ] && echo kmsg; mkdir /sys/fs/cgroup/x && echo cgroup; echo 0 >/proc/sys/kernel/printk && echo sysctl' --privileged | tr '\n' ' ')" '0 kmsg cgroup sysctl '
# One that makes groups with controllers, as service managers and container engines do, has no process left in its own: whoever comes later joins
# its first one where that has gone.
run_ok 'a container that makes cgroups' "$C" run -d --name groups --privileged demo sh -c 'mkdir /sys/fs/cgroup/first /sys/fs/cgroup/below &&
	echo 0 >/sys/fs/cgroup/first/cgroup.procs && echo +pids >/sys/fs/cgroup/cgroup.subtree_control && cat /sys/fs/cgroup/below/pids.max && exec sleep 600'
ok 'which has their controllers' wait_until 30 sh -c "'$C' logs groups | grep -q max"
run_ok 'exec' "$C" exec groups cat /proc/self/cgroup
is 'where its first process is' "$out" '0::/first'
echo copied >"$T/copied"
run_ok 'copy' "$C" cp "$T/copied" groups:/tmp/copied
run_ok 'is in it' "$C" exec groups grep copied /tmp/copied
run_ok 'and it ends' "$C" delete -f groups
echo '{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdir","mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":28}]}' >"$T/profile.json"
like 'a profile of one'\''s own' "$(in_one 'mkdir /tmp/x' --security-opt seccomp="$T/profile.json" -u 1000)" 'No space left'
# That "no namespaces" above is the filter's doing shows here, where there is none. With class M and G, the guest's half: a container that hides its way in from the agent.
is 'seccomp=unconfined, kernel words, WORKDIR that is a link out' \
	"$(in_one 'grep "^Seccomp:" /proc/self/status | cut -f2; grep -c " demo.word=1" /proc/cmdline; pwd; unshare -U true && echo unshared' \
		--security-opt seccomp=unconfined --kernel-arg demo.word=1 -w /proc/self/root/tmp | tr '\n' ' ')" '0 1 /tmp unshared '

# Memory: what was asked for is all there is, and going beyond is told.
T_LIMIT=180
run_rc 137 'out of memory' "$C" run --name oom --network none -m 200m demo dd if=/dev/zero of=/dev/null bs=230M count=1
is 'is in inspect' "$("$C" inspect oom | jq -c '.[0].status | [.state, .exitCode, .oomKilled]')" '["stopped",137,true]'
is 'is an event, before its end' "$("$C" events --since 10m --until "$(date +%s.%N)" -f container=oom -f event=oom -f event=die --format '{{.Action}} {{.ID}}')" \
	$'oom oom\ndie oom'
stop_system
done_testing
