#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Apple's tests of run and of commands that cross each other, by their names, as far as no other script has them (tests/APPLE.md).
. "$(dirname "$0")/../lib/system.sh"
# A host with two nameservers, one of them its own.
printf 'nameserver 127.0.0.53\nnameserver 192.0.2.53\nsearch host.example\n' >"$T/resolv.conf"
mount --bind "$T/resolv.conf" /etc/resolv.conf
echo '{"dns": {"domain": "test.example"}}' >"$CONTAINER_CONFIG"
ready_system

# TestCLIRunCommand: names.
run_ok 'run -d' "$C" run -d --name dflt.example.org -m 256m demo sleep 600
j=$("$C" inspect dflt.example.org)
is 'testRunCommandDefaultResolvConf' "$("$C" exec dflt.example.org cat /etc/resolv.conf)" $'nameserver 192.0.2.53\ndomain test.example'
address=$(jq -r '.[0].status.networks[0].ipv4Address' <<<"$j")
is 'testRunDefaultHostsEntries' "$("$C" exec dflt.example.org cat /etc/hosts | tr -s '\t' ' ' | grep -v :)" "127.0.0.1 localhost
${address%/*} dflt"
is 'testCreateWithFQDNName: the host name is the first label' "$("$C" exec dflt.example.org hostname)" dflt
# An old file that is longer than the id.
echo something-longer-than-that >"$T/cid"
run_rc 1 'testRunCommandNoDNS' "$C" run --rm --name cids --no-dns -m 256m --cidfile "$T/cid" demo cat /etc/resolv.conf
like 'testRunCommandNoDNS: there is no such file' "$err" "can't open '/etc/resolv.conf': No such file"
run_ok 'create with it' "$C" create --name cidc --network none --cidfile "$T/cid2" demo true
is 'testRunCommandCidfile: the id, and no line break' "$(od -An -c "$T/cid" "$T/cid2" | tr -d ' \n')" cidscidc
run_rc 1 'a directory that is not there' "$C" create --name cidn --network none --cidfile "$T/none/cid" demo true
run_ok 'testRunCommandNonDefaultResolvConf' "$C" run --rm -m 256m --dns 8.8.8.8 --dns-domain example.com --dns-search test.com --dns-option debug demo cat /etc/resolv.conf
is 'testRunCommandNonDefaultResolvConf: four lines, in this order' "$out" $'nameserver 8.8.8.8\ndomain example.com\nsearch test.com\noptions debug'
run_rc 1 'a nameserver that is no address' "$C" create --dns example.com demo true

# TestCLIRunFilesystem: the writable disk is ext4 with a journal, and mounted with ordered data.
upper=$CONTAINER_APP_ROOT/containers/dflt.example.org/upper.ext4
features=$(dumpe2fs -h "$upper" 2>/dev/null)
like 'testRootFilesystemHasOrderedJournal: a journal' "$features" 'Filesystem features: +has_journal'
like 'testRootFilesystemHasOrderedJournal: ordered by default' "$features" 'Default mount options: +journal_data_ordered'
ok 'testRootFilesystemHasOrderedJournal: the guest mounts it so' \
	wait_until 20 bash -c '"$1" logs --boot dflt.example.org | grep -q "EXT4-fs (vd[a-z]): mounted filesystem.* with ordered data mode"' - "$C"

# TestCLIRunInitImage: the guest's init is in the binary; the flag is there and refused.
run_rc 1 'testRunWithNonExistentInitImage' "$C" run --rm --init-image nothing demo true
run_rc 1 'testCreateWithNonExistentInitImage' "$C" create --init-image nothing demo true
like 'testInitImageFlagInHelp' "$("$C" run --help)" '--init-image.*custom init image'

# TestCLIExecCommand: exec that meets the end of its container.
# The third exec says that it is to end, a second later.
run_ok 'a container that ends' "$C" run -d --name ending -m 256m demo sh -c 'until [ -e /end ]; do sleep 0.1; done; sleep 1'
worked=0 failed=0 odd=
for ((i = 0; i < 400 && failed < 5; i++)); do
	run "$C" exec ending $([ $i = 2 ] && echo touch /end || echo true)
	if [ $rc = 0 ]; then
		worked=$((worked + 1))
	else
		failed=$((failed + 1))
		# 137: it had begun, and went with the machine.
		[[ $rc = 137 || $err =~ ^Error:\ invalidState:.*not\ running ]] || odd+="$rc: $err;"
	fi
done
is "testExecOnExitingContainer: each works or is told why ($worked worked, $failed not)" "$odd" ''
ok 'testExecOnExitingContainer: there were both' [ $worked -gt 0 -a $failed = 5 ]
ok 'testExecOnExitingContainer: it ends' wait_until 30 in_state ending stopped
is 'testExecOnExitingContainer: it can still be asked for' "$("$C" inspect ending | jq -c '.[0].status | [.state, .exitCode]')" '["stopped",0]'

# TestCLIRmRaceCondition: delete straight after stop.
run_ok 'a container that does not hear TERM' "$C" run -d --name race -m 256m demo sh -c 'trap "" TERM; while :; do sleep 1; done'
timeout "$T_LIMIT" "$C" stop -t 2 race >"$T/stop" 2>&1 &
stop=$!
sleep 0.3
run "$C" delete race
ok "testStopRmRace: works, or says why not ($rc)" [ "$rc" = 0 -o "$rc$(grep -c 'Error: invalidState: .*\(running\|stopp\)' <<<"$err")" = 11 ]
ok 'testStopRmRace: stop ends well' wait $stop
run "$C" delete race
ok 'testStopRmRace: and delete works in the end' gone race
run_ok 'one that stops at once' "$C" run -d --name race2 -m 256m demo sleep 600
for cmd in 'stop -t 0' stop 'kill' 'delete --force' 'delete --force'; do
	timeout "$T_LIMIT" "$C" $cmd race2 >>"$T/crossing" 2>&1 &
done
wait
ok 'stop, kill and delete at once: it is gone' gone race2
unlike 'and no one was told of an internal error' "$(cat "$T/crossing")" 'internalError'
stop_system
done_testing
