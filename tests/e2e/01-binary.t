#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# One static binary, its names, and what it says without a system.
. "$(dirname "$0")/../lib/system.sh"

run file -b "$C"
[ $rc = 127 ] || unlike 'not a dynamic executable' "$out" 'dynamically linked|interpreter'
run_rc 1 'ldd finds nothing to load' bash -c 'ldd "$1" 2>&1 | grep -v -e "not a dynamic" -e "statically linked" | grep .' - "$C"
size=$(stat -c %s "$C")
ok "stripped, at most 8 MB ($size bytes)" [ "$size" -le 8388608 ]
run readelf -lW "$C"
like 'RELRO' "$out" 'GNU_RELRO'
unlike 'stack is not executable' "$(grep GNU_STACK <<<"$out")" 'RWE'
run readelf -hW "$C"
like 'position independent' "$out" 'DYN'

run_ok '--version' "$C" --version
like 'version names the program' "$out" 'container'
run_ok 'testHelp: --help' "$C" --help
for w in run exec list image system; do
	like "help names $w" "$out" "(^|[^a-z])$w([^a-z]|$)"
done
run_ok 'testDebugHelp' "$C" --debug --help
like 'testDebugHelp: is the same' "$out" '^OVERVIEW: '
run_ok 'run --help' "$C" run --help
for w in --env --env-file --workdir --user --cpus --memory --entrypoint --cidfile --detach --name --network; do
	like "run's help names $w" "$out" "[^a-z]$w[^-a-z]"
done

# Roles by the name they are called by, and by the first argument.
mkdir "$T/bin"
cp "$C" "$T/bin/container"
for r in apiserver core-images network-vmnet runtime-linux; do
	ln -s container "$T/bin/container-$r"
	run_ok "container-$r --help" "$T/bin/container-$r" --help
	by_name=$out$err
	like "container-$r answers to its name" "$by_name" "USAGE: container-$r start"
	run_rc 64 "container-$r without a verb" "$T/bin/container-$r"
	run_rc 64 "container-$r start with an unknown option" "$T/bin/container-$r" start --no-such-option
	like "container-$r says how it is used" "$err" "Usage: container-$r start"
	run "$T/bin/container" "$r" --help
	is "container $r is the same" "$out$err" "$by_name"
done

# A usage error is 64, anything else 1.
run_rc 64 'unknown option' "$C" list --no-such-option
run_rc 64 'missing argument' "$C" run
run_rc 64 'bad value of an enumeration' "$C" list --format nonsense
run "$C" no-such-command
ok 'unknown command fails' [ "$rc" != 0 ]

# Without a system each command says so and names the remedy.
for cmd in 'list' 'run demo true' 'exec x true' 'image list' 'inspect x' 'logs x' 'stop x' 'kill x' 'delete x' 'start x' 'pull demo'; do
	# shellcheck disable=SC2086
	run_rc 1 "no system: $cmd" "$C" $cmd
	like "no system: $cmd names system start" "$err" 'container system start'
	is "no system: $cmd prints nothing to stdout" "$out" ''
done
run_rc 1 'status without a system' "$C" system status
like 'status says it is not running' "$out$err" 'not running|unregistered'

# An empty root with nothing but the binary, /proc and /dev.
e=$T/empty
mkdir -p "$e"/{proc,dev,tmp}
cp "$C" "$e/container"
mount -t proc proc "$e/proc"
mount --bind /dev "$e/dev"
run_ok 'runs in an empty root' env -i "PATH=$PATH" CONTAINER_APP_ROOT=/tmp/a CONTAINER_RUN_ROOT=/tmp/r chroot "$e" /container --version
run_ok 'a system starts in an empty root' env -i "PATH=$PATH" CONTAINER_APP_ROOT=/tmp/a CONTAINER_RUN_ROOT=/tmp/r chroot "$e" /container system start
run_ok 'and answers there' env -i "PATH=$PATH" CONTAINER_APP_ROOT=/tmp/a CONTAINER_RUN_ROOT=/tmp/r chroot "$e" /container list
like 'with an empty table' "$out" '^ID '
run_ok 'and stops' env -i "PATH=$PATH" CONTAINER_APP_ROOT=/tmp/a CONTAINER_RUN_ROOT=/tmp/r chroot "$e" /container system stop
umount "$e/proc" "$e/dev"
done_testing
