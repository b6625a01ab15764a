#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# PARITY.md, the page of every command and flag of Apple's tool, against what the commands say of themselves; and of the container and
# system commands: formats, keys, messages and exit statuses.
. "$(dirname "$0")/../lib/system.sh"

# The page, a flag a line: command, flag, state. Commands without flags have "—", those of which no flag is Apple's "…".
page()
{
	awk -F'|' '$2 ~ /^ `/ && NF == 5 {
		n = split($2, c, "`"); m = split($3, f, "`"); s = $4; gsub(/^ +| +$/, "", s)
		for (i = 2; i <= n; i += 2)
			if ($3 ~ /[—…]/) { t = $3; gsub(/ /, "", t); print c[i] "\t" t "\t" s }
			else for (j = 2; j <= m; j += 2) print c[i] "\t" f[j] "\t" s
	}' "$TOP/PARITY.md"
}
# What a command says of its flags: flag and, if that is so, "later". Those of every command are left out.
help_flags() # command
{
	"$C" ${1#container} --help | awk '
		function out() { if (f != "" && f !~ /^(--debug|--version|-h, --help)$/) print f "\t" (t ~ /\(not supported yet\)/ ? "later" : ""); f = "" }
		/^[A-Z]/ { out(); on = /^OPTIONS/; next }
		on && /^(  |      )-/ { out(); t = $0; f = $0; sub(/^ +/, "", f); sub(/  .*/, "", f); next }
		on { s = $0; sub(/^ +/, "", s); t = t " " s }
		END { out() }'
}
subcommands() # path of a group: names of what is below it
{
	"$C" $1 --help | awk '/SUBCOMMANDS:$/ { on = 1; next } /^[^ ]/ { on = 0 } on && /^  [a-z]/ { sub(/,$/, "", $1); print $1 }'
}
leaves() # path
{
	local s
	for s in $(subcommands "$1"); do
		case "$1 $s" in
		' image' | ' registry' | ' system' | ' volume' | 'system kernel' | 'system property') leaves "${1:+$1 }$s" ;;
		*) echo "${1:+$1 }$s" ;;
		esac
	done
}

page >"$T/page"
leaves '' | sort >"$T/commands"
ok 'the page is read' [ "$(wc -l <"$T/page")" -gt 200 ]
ok 'the commands are' [ "$(wc -l <"$T/commands")" -gt 50 ]
is 'no flag is on the page twice' "$(grep -v '—' "$T/page" | cut -f1,2 | sort | uniq -d)" ''
is 'its states are those it explains' "$(cut -f3 "$T/page" | sed 's/[:].*//' | sort -u | paste -sd,)" 'differs,later,not on Linux,ours,same'
is 'what differs says how' "$(awk -F'\t' '$3 ~ /^(differs|not on Linux)/ && length($3) < 20' "$T/page")" ''
awk -F'\t' '$2 != "—" || $3 !~ /^later/ { print $1 }' "$T/page" | grep -vx container | sort -u >"$T/on-page"
is 'it has every command and no other' "$(diff "$T/commands" "$T/on-page")" ''

# Flags, both ways.
while read -r cmd; do
	[ "$(awk -F'\t' -v c="$cmd" '$1 == c { print $2 }' "$T/page" | head -1)" != '…' ] || continue
	awk -F'\t' -v c="$cmd" '$1 == c && $2 != "—" && $3 !~ /^not on Linux/ { print $2 "\t" ($3 ~ /^later/ ? "later" : "") }' "$T/page" | sort >"$T/want"
	is "flags of $cmd" "$(diff "$T/want" <(help_flags "$cmd" | sort))" ''
done < <(cat "$T/commands"; echo container)
while IFS=$'\t' read -r cmd flag state; do
	long=$(grep -oE -- '--[a-z-]+' <<<"$flag" | head -1)
	word=()
	[[ $flag != *'<'* ]] || word=(amd64)
	case $state in
	later*)
		if [ "$flag" = — ]; then
			run_rc 1 "$cmd is not there" "$C" $cmd
			like 'says so' "$err" "container $cmd is not supported yet"
		else
			run_rc 1 "$cmd $long is not there" "$C" $cmd "$long" "${word[@]}" $([[ $cmd = system* ]] || echo demo)
			like 'says so' "$err" "option $long is not supported yet"
		fi
		;;
	'not on Linux'*)
		run_rc 64 "$cmd $long is unknown" "$C" ${cmd#container} "$long" "${word[@]}"
		like 'says so' "$err" "Unknown option '$long'"
		;;
	esac
done <"$T/page"

# README: its commands are there, with their flags.
shown=
while read -r line; do
	cmd=
	for w in ${line#container }; do
		case $w in
		--*) help_flags "$cmd" | grep -qE -- "(^|[ ,])$w([ ,]|\$|	)" || shown+=" $cmd $w" ;;
		-?*) for ((i = 1; i < ${#w}; i++)); do help_flags "$cmd" | grep -q -- "^-${w:i:1}," || shown+=" $cmd -${w:i:1}"; done ;;
		*) ! "$C" $cmd $w --help >/dev/null 2>&1 || grep -qx "$cmd" "$T/commands" || cmd+=${cmd:+ }$w ;;
		esac
	done
	[ -n "$cmd" ] && "$C" $cmd --help >/dev/null 2>&1 || shown+=" '$line'"
done < <(sed -n 's/^    //p' "$TOP/README.md" | sed 's/#.*//' | grep -oE '(^|&& )container [^&]*' | sed 's/^&& //')
is 'what README shows is there' "$shown" ''

# What the parser refuses.
while read -r cmd; do
	bad=
	run "$C" $cmd --bogus
	[ "$rc" = 64 ] && [[ $err == *"Unknown option '--bogus'"* ]] || bad+=' --bogus'
	usage=$("$C" $cmd --help | sed -n 's/^USAGE: //p')
	if [[ $usage =~ (^|[^[])'<' ]]; then
		run "$C" $cmd
		[ "$rc" = 64 ] && [[ $err == *'Missing expected argument'* ]] || bad+=' no-words'
	fi
	grep -q -- '(json|table|yaml|toml)' <<<"$("$C" $cmd --help)" && {
		run "$C" $cmd --format xml
		[ "$rc" = 64 ] && [[ $err == *'Please provide one of: json|table|yaml|toml'* ]] || bad+=' --format'
	}
	run "$C" $cmd --version
	[ "$rc" = 0 ] && [[ $out == 'container CLI version '* ]] || bad+=' --version'
	grep -q -- '^      --debug  ' <<<"$("$C" $cmd --help)" || bad+=' --debug'
	is "$cmd: unknown options, missing words, bad choices, and debug too" "$bad" ''
done <"$T/commands"
for g in image registry system volume 'system kernel' 'system property'; do
	run_ok "--debug on the words $g" "$C" $g --debug
done
for s in bash zsh fish; do
	run_ok "--generate-completion-script $s" "$C" --generate-completion-script $s
	like 'is one' "$out" 'container'
done
is 'the page for bash is the one that is installed' "$("$C" --generate-completion-script bash)" "$(cat "$TOP/man/completions/container.bash")"
run_rc 64 'of a shell that is none of them' "$C" --generate-completion-script tcsh

# Nothing runs.
run_rc 1 'list without services' "$C" list
like 'says how to start them' "$err" 'container system start'
run_rc 1 'system status without services' "$C" system status
like 'is a table' "$out" '^FIELD +VALUE'
is 'as JSON it has the same keys, empty' "$("$C" system status --format json 2>/dev/null | jq -c '[.status, .appRoot, .apiServerVersion]')" '["not running","",""]'
is 'system version has one row' "$("$C" system version --format json | jq length)" 1
run_rc 64 'a word that is no command (testHelpfulMessageWhenPluginsUnavailable)' "$C" nosuch
like 'is taken for a plugin' "$err" "Plugin 'container-nosuch' not found"
like 'and names the start, and directories' "$err" 'container system start.*libexec/container-plugins/nosuch'

ready_system
# Formats of what is empty.
is 'list -q of none' "$("$C" list -q)" ''
is 'list: TOML of none' "$("$C" list --format toml)" 'items = []'
is 'list: the header' "$("$C" list)" 'ID  IMAGE  OS  ARCH  STATE  IP  CPUS  MEMORY  STARTED'
run_ok 'testContainerPruneNoContainers' "$C" prune
is 'testContainerPruneNoContainers: says how much' "$out$err" 'Reclaimed Zero KB in disk space'

run_ok 'run -d' "$C" run -d --name box -l a=b=c -l bare -m 256m --ulimit nofile=100:200 --tmpfs /scratch --cap-add net_admin --shm-size 64m \
	--network default,mac=F2-00-00-00-00-07,mtu=1400 --stop-signal INT demo sleep 600
is 'prints the id' "$out" box
j=$("$C" inspect box)
keys() # filter
{
	jq -c ".[0] | $1 | keys | join(\" \")" <<<"$j" | tr -d '"'
}
is 'keys of a container' "$(keys .)" 'configuration id status'
apple='capAdd capDrop creationDate dns id image initProcess labels mounts networks platform publishedPorts publishedSockets readOnly resources rosetta runtimeHandler ssh stopSignal sysctls useInit virtualization'
is "of its configuration: Apple's" "$(comm -13 <(keys .configuration | tr ' ' '\n') <(tr ' ' '\n' <<<"$apple") | paste -sd' ')" ''
is 'and our own' "$(comm -23 <(keys .configuration | tr ' ' '\n') <(tr ' ' '\n' <<<"$apple") | paste -sd' ')" 'kernelArgs log shmSize'
is 'of its image' "$(keys .configuration.image) $(keys .configuration.image.descriptor)" 'descriptor manifest reference digest mediaType size'
is 'of its process' "$(keys .configuration.initProcess)" 'arguments environment executable rlimits supplementalGroups terminal user workingDirectory'
is 'its user' "$(jq -c '.[0].configuration.initProcess.user' <<<"$j")" '{"id":{"gid":0,"uid":0}}'
is 'its limits' "$(jq -c '.[0].configuration.initProcess.rlimits' <<<"$j")" '[{"hard":200,"limit":"RLIMIT_NOFILE","soft":100}]'
is 'its resources' "$(jq -c '.[0].configuration.resources | del(.cpus)' <<<"$j")" '{"cpuOverhead":0,"memoryInBytes":268435456}'
is 'its mounts' "$(jq -c '.[0].configuration.mounts' <<<"$j")" '[{"destination":"/scratch","options":[],"source":"tmpfs","type":{"tmpfs":{}}}]'
is 'its capabilities' "$(jq -c '.[0].configuration.capAdd' <<<"$j")" '["CAP_NET_ADMIN"]'
is 'its labels' "$(jq -c '.[0].configuration.labels' <<<"$j")" '{"a":"b=c","bare":""}'
is 'keys of the status' "$(keys .status)" 'networks startedDate state'
is 'of its network' "$(keys '.status.networks[0]')" 'dns hostname ipv4Address ipv4Gateway macAddress mtu network'
is 'testCreateWithMACAddress' "$(jq -r '.[0].status.networks[0].macAddress' <<<"$j") $("$C" exec box cat /sys/class/net/eth0/address)" 'f2:00:00:00:00:07 f2:00:00:00:00:07'
run_ok 'testCreateWithMACAddress: it gets out by it' "$C" exec box ping -c 1 -W 5 "$(jq -r '.[0].status.networks[0].ipv4Gateway' <<<"$j")"
is 'the MTU' "$("$C" exec box cat /sys/class/net/eth0/mtu)" 1400
run_rc 1 'a MAC address of a group' "$C" create --network default,mac=01:00:5e:00:00:01 demo true
like 'is none of a card' "$err" 'invalid MAC address'
like 'dates have no fractions' "$(jq -r '.[0].configuration.creationDate' <<<"$j")" '^[0-9-]{10}T[0-9:]{8}Z$'
like 'inspect is indented' "$j" $'^\[\n  \{\n    "configuration" : \{'
run "$C" list --format json
is 'list: one line' "$(wc -l <<<"$out")" 1
is 'with sorted keys' "$(jq -c '.[0] | keys_unsorted == keys' <<<"$out")" true
like 'and slashes escaped' "$out" 'docker.io\\/library'
is 'complete objects' "$(jq -c '.[0]' <<<"$out")" "$(jq -c '.[0]' <<<"$j")"
like 'YAML' "$("$C" list --format yaml)" $'^- configuration:\n    capAdd:\n'
like 'TOML' "$("$C" list --format toml)" $'^\[\[items\]\]\n'
is 'quiet is for the table only' "$("$C" list -q --format json | jq length)" 1
like 'a row' "$("$C" list | tail -1)" '^box +docker.io/library/demo:latest  linux  amd64  running  [0-9.]+/24  [0-9]+ +256 MB  [0-9-]+T[0-9:]+Z$'

# Stats, by Apple's tests.
run_ok 'testStatsNoStreamJSONFormat' "$C" stats --no-stream --format json box
is 'testStatsNoStreamJSONFormat: keys' "$(jq -c '.[0] | keys | join(" ")' <<<"$out" | tr -d '"')" \
	'blockReadBytes blockWriteBytes cpuUsageUsec id memoryHostBytes memoryLimitBytes memoryUsageBytes networkRxBytes networkTxBytes numProcesses'
ok 'testStatsNoStreamJSONFormat: numbers' jq -e '.[0] | .id == "box" and .memoryUsageBytes > 0 and .numProcesses >= 1' <<<"$out"
like 'testStatsTableFormat' "$("$C" stats --no-stream)" $'^Container ID +Cpu % +Memory Usage +Net Rx/Tx +Block I/O +Pids +Host Memory\nbox '
# What is measured are two seconds between two answers, which take their time on a busy host.
percent() # least most
{
	p=$("$C" stats --no-stream --format '{{.CPUPerc}}' box | tr -d '%')
	awk -v p="$p" -v least="$1" -v most="$2" 'BEGIN { exit !(p != "" && p >= least && p < most) }'
}
ok 'testStatsIdleCPUPercentage' wait_until 20 percent 0 5 || diag "$p %"
run_ok 'a busy loop' "$C" exec -d box sh -c 'while :; do :; done'
ok 'testStatsHighCPUPercentage' wait_until 20 percent 50 150 || diag "$p %"
run_rc 1 'testStatsNonExistentContainer' "$C" stats --no-stream nothere

# Messages.
for cmd in 'stop nothere|testStopNonExistentContainer' 'kill nothere|testKillNonExistentContainer' 'delete nothere|testDeleteNonExistentContainer' \
	'inspect box nothere|testInspectMissingContainerFails' 'start nothere|start' 'logs nothere|logs' 'exec nothere true|exec' 'export nothere|export' \
	'copy nothere:/x y|copy'; do
	run_rc 1 "${cmd#*|}" "$C" ${cmd%|*}
	is "${cmd#*|}: the message" "$out$err" 'Error: notFound: "container not found: nothere"'
done
for cmd in stop kill delete; do
	run_rc 1 "$cmd of nothing$([ $cmd != delete ] || echo ' (testDeleteNoArgs)')" "$C" $cmd
	is 'the message' "$err" 'Error: invalidArgument: "no containers specified and --all not supplied"'
	run_rc 1 "$cmd of one and all$([ $cmd != delete ] || echo ' (testDeleteExplicitIdsConflictWithAll)')" "$C" $cmd --all box
	is 'the message' "$err" 'Error: invalidArgument: "explicitly supplied container(s) conflict with the --all flag"'
done
run_rc 1 'several failures' "$C" stop nothere neither
is 'are a line each' "$(sort <<<"$err")" $'Error: notFound: "container not found: neither"\nError: notFound: "container not found: nothere"'
run_rc 1 'a name that is taken' "$C" create --name box demo
like 'the message' "$err" '^Error: exists: '
run_rc 64 '--no-dns with --dns' "$C" run --no-dns --dns 1.1.1.1 demo true
run_rc 1 'a signal that is none' "$C" kill -s NOSIG box
run_rc 64 'a time that is none' "$C" stop -t soon box
run_rc 64 'start of two' "$C" start box box
run_ok 'testStartIdempotent' "$C" start box
is 'testStartIdempotent: prints the name' "$out" box
for how in -a -i -ai; do
	run_rc 1 "testStartIdempotentAttachFails: $how" "$C" start $how box
	like 'testStartIdempotentAttachFails: the message' "$err" 'attach'
done
run_rc 1 'delete of one that runs' "$C" delete box
like 'says so' "$err" '^Error: invalidState: .*running'

# Stop and delete, by Apple's tests.
is 'the stop signal that was asked for' "$(jq -r '.[0].configuration.stopSignal' <<<"$j")" INT
run_ok 'testStopWithExplicitSignal' "$C" stop -s KILL box
is 'testStopWithExplicitSignal: prints the id, and it is stopped' "$out $("$C" list -a --format '{{.State}}')" 'box stopped'
run_ok 'testStopIdempotent' "$C" stop box
run_rc 1 'exec in a stopped one' "$C" exec box true
like 'says so' "$err" 'not running'
run_rc 1 'kill of a stopped one' "$C" kill box
run_ok 'testDeleteStopped, testDeleteDuplicateIds' "$C" delete box box
is 'testDeleteDuplicateIds: printed once' "$out" box
is 'it is gone' "$("$C" list -aq)" ''
run_ok 'create' "$C" create --name aa demo true
is 'testStopSignalInInspect: absent when the image has none' "$("$C" inspect aa | jq '.[0].configuration | has("stopSignal")')" false
run_ok 'testDeleteAlias' "$C" rm aa
run_ok 'two' "$C" run -d --name bb -m 256m demo sleep 600
run_ok 'and one that does not run' "$C" create --name cc demo true
run_ok 'testStatsAllContainers' "$C" run -d --name dd -m 256m demo sleep 600
is 'testStatsAllContainers: both' "$("$C" stats --no-stream --format json | jq -c 'map(.id) | sort')" '["bb","dd"]'
run_ok 'testContainerPruneStoppedContainers' "$C" prune
is 'testContainerPruneStoppedContainers: the one' "$out" cc
like 'testContainerPruneStoppedContainers: and how much' "$err" 'Reclaimed [0-9.]+ [KMG]B in disk space'
run_ok 'testStopWithoutSignal' "$C" stop -t 1 bb
is 'testStopWithoutSignal: stopped' "$("$C" inspect bb | jq -r '.[0].status.state')" stopped
run_ok 'testDeleteAllSkipsRunning' "$C" delete --all
is 'testDeleteAllSkipsRunning, testDeleteAllStopped' "$out $("$C" list -aq)" 'bb dd'
run_ok 'testDeleteForceRunning' "$C" delete -f dd
is 'testDeleteForceRunning: gone' "$("$C" list -aq)" ''
run_ok 'testDeleteAllForce: one that runs' "$C" run -d --name ee -m 256m demo sleep 600
run_ok 'testDeleteAllForce: one that does not' "$C" create --name ff demo true
run_ok 'testDeleteAllForce' "$C" delete --all --force
is 'testDeleteAllForce: both' "$(sort <<<"$out" | paste -sd' ') $("$C" list -aq)" 'ee ff '

# System commands.
s=$("$C" system status --format json)
is 'keys of system status' "$(jq -r 'keys | join(" ")' <<<"$s")" \
	'apiServerAppName apiServerBuild apiServerCommit apiServerVersion appRoot engine engineReason installRoot kernel logRoot runRoot services status'
is 'statusFieldsMatch' "$("$C" system status | awk '$1 == "appRoot" || $1 == "apiserver.version" { print $2 }' | paste -sd' ')" "$(jq -r '"\(.appRoot) \(.apiServerVersion)"' <<<"$s")"
is 'prefixOption' "$("$C" system status -p container.images --format json | jq -c '.services | map(.label)')" '["container.images"]'
is 'keys of system version' "$("$C" system version --format json | jq -c '.[1] | keys | join(" ")')" '"appName buildType commit version"'
like 'YAML of it' "$("$C" system version --format yaml)" $'^- appName: container\n'
like 'testLogsRejectsInvalidLastUnit, testLogsRejectsNonNumericLast, testLogsRejectsZeroLast' \
	"$(for v in 1x abc 0m; do "$C" system logs --last $v 2>&1 | head -1; done | paste -sd,)" "^Error: invalid --last value '1x',Error: invalid --last value 'abc',Error: invalid --last value '0m'$"
is 'property list as JSON: sections' "$("$C" system property list --format json | jq -c '[.container.memory, .registry.domain]')" '["1g","docker.io"]'
like 'as TOML' "$("$C" system property list --format toml)" $'\[container\]\n'
stop_system
done_testing
