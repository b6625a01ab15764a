#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# container run: streams, exit codes, environment, user, directory, resources, what the process finds around it.
. "$(dirname "$0")/../lib/system.sh"
ready_system

# One container, many questions: a start costs seconds on an emulated CPU.
run_ok 'run (testRunCommand)' "$C" run --name one -e A=1 -e B='two words' -e HOSTVAR -c 2 -m 300m --rm demo sh -c '
	echo out; echo err >&2
	echo "host=$(hostname)"; echo "kernel=$(uname -r)"; echo "pid=$$"; echo "first=$(tr "\0" " " </proc/1/cmdline | cut -c1-20)"
	echo "A=$A B=$B DEMO=$DEMO HOSTVAR=$HOSTVAR."; echo "PATH=$PATH"; echo "HOME=$HOME"; echo "cwd=$(pwd)"; echo "id=$(id -u):$(id -g)"
	echo "cpus=$(cat /sys/fs/cgroup/cpu.max 2>/dev/null)"; echo "mem=$(cat /sys/fs/cgroup/memory.max 2>/dev/null)"
	echo "nproc=$(nproc)"; echo "total=$(sed -n "s/MemTotal: *\([0-9]*\) kB/\1/p" /proc/meminfo)"
	echo "caps=$(sed -n "s/CapEff:.//p" /proc/self/status)"; echo "bnd=$(sed -n "s/CapBnd:.//p" /proc/self/status)"
	echo "nnp=$(sed -n "s/NoNewPrivs:.//p" /proc/self/status)"
	echo "root=$(awk "\$2 == \"/\" {print \$3}" /proc/mounts)"
	for m in /proc /sys /dev /dev/pts /dev/shm /dev/mqueue; do echo "mount=$m=$(awk -v m=$m "\$2 == m {print \$3}" /proc/mounts)"; done
	for n in null zero full random urandom tty ptmx fd stdin stdout stderr; do [ -e /dev/$n ] && echo "dev=$n"; done
	echo "vda=$(ls /dev/vda 2>&1)"
	echo "cgroup=$(awk "\$2 == \"/sys/fs/cgroup\" {print \$3}" /proc/mounts)"
	echo "lost=$(ls /etc/lost 2>&1)"; echo "fresh=$(ls /data/old)"
	echo "motd=$(cat /etc/motd)"; echo x >>/etc/motd && echo "written=$(wc -l </etc/motd)"
	echo "kcore=$(head -c 1 /proc/kcore 2>/dev/null | wc -c)"
	(echo 1 >/proc/sys/kernel/hostname) 2>/dev/null && echo procsys=writable
	stat -c "mode=%n=%a" /tmp /opt/suid
	stat -c "links=%h" /data/kept/file; [ /data/kept/file -ef /data/kept/hardlink ] && echo one-file; echo "tty=$(tty)"; exit 0' 
is 'stderr apart' "$err" err
say=$out
has() # name regex
{
	like "$1" "$say" "$2"
}
nl=$'\n'
has 'stdout' "^out$nl"
has 'host name is the name' 'host=one'
ok "its kernel is its own" [ -n "$(sed -n 's/^kernel=//p' <<<"$say")" ]
has 'PID 1 is its process' 'pid=1'
unlike "PID 1 is not the host's" "$say" "first=$(tr '\0' ' ' </proc/1/cmdline | cut -c1-12)"
has '-e' 'A=1 B=two words DEMO=1 HOSTVAR=\.'
has 'PATH of the image' 'PATH=/usr/local/sbin:/usr/local/bin'
has 'HOME from passwd' 'HOME=/root'
has 'working directory' 'cwd=/'
has 'root' 'id=0:0'
has '-c limits CPU time' 'cpus=200000 100000'
has '-m limits memory' 'mem=314572800'
total=$(sed -n 's/^total=//p' <<<"$say")
ok "guest memory fits -m ($total kB)" [ "${total:-0}" -ge 290000 ] && [ "${total:-0}" -le 480000 ]
has 'default capabilities' 'caps=00000000a80425fb'
has 'and no more in the bounding set' 'bnd=00000000a80425fb'
has 'root is an overlay' 'root=overlay'
has '/proc' 'mount=/proc=proc'
has '/sys' 'mount=/sys=sysfs'
has '/dev' 'mount=/dev=(dev)?tmpfs'
has '/dev/pts' 'mount=/dev/pts=devpts'
has '/dev/shm' 'mount=/dev/shm=tmpfs'
has '/dev/mqueue' 'mount=/dev/mqueue=mqueue'
has 'cgroup v2' 'cgroup=cgroup2'
for n in null zero full random urandom tty ptmx fd stdin stdout stderr; do
	has "/dev/$n" "dev=$n"
done
unlike "the machine's disks are not in /dev" "$say" 'vda=/dev/vda'
has 'whiteout' 'lost=ls: /etc/lost: No such file'
has 'opaque directory' 'fresh=fresh'
has 'upper layer' 'motd=a microVM of its own'
has 'root is writable' 'written=2'
has 'sticky bit' 'mode=/tmp=1777'
has 'set-uid bit' 'mode=/opt/suid=4755'
has 'hard links are counted' 'links=2'
has 'and one file' 'one-file'
has '/proc/kcore is masked' 'kcore=0'
unlike '/proc/sys is read-only' "$say" 'procsys=writable'
is '--rm leaves nothing' "$("$C" list -aq)" ''
ok 'nor its directory' test ! -e "$CONTAINER_APP_ROOT/containers/one"

# Exit codes, and each its own way to say the process.
run_rc 7 'exit 7' "$C" run --rm demo sh -c 'exit 7'
run_rc 143 'ended by SIGTERM: 143' "$C" run --rm demo sh -c 'sh -c "kill -TERM \$\$"; exit $?'
run_rc 137 'PID 1 ended by SIGKILL from outside: 137' bash -c '
	"$1" run --rm --name k9 demo sleep 300 & p=$!
	for i in $(seq 600); do [ "$("$1" list -q)" = k9 ] && break; sleep 0.1; done
	"$1" kill k9 >/dev/null; wait $p' - "$C"
# Signals to the command are the process's; the third that asks for an end ends the command alone.
"$C" run --name relay -c 1 -m 256m demo sh -c 'n=0; trap "n=\$((n + 1)); echo got \$n" TERM; trap "exit 42" USR1; echo up; while :; do sleep 0.1; done' >"$T/relay" 2>"$T/relay.err" &
cli=$!
ok 'a command that is attached' wait_until "$T_LIMIT" grep -q up "$T/relay"
for n in 1 2; do
	kill -TERM $cli
	ok "SIGTERM to the command reaches the process, $n" wait_until 20 grep -q "got $n" "$T/relay"
done
kill -TERM $cli
rc=0
wait $cli || rc=$?
is 'the third ends the command' "$rc" 1
is 'and not the container' "$("$C" list -q)" relay
timeout "$T_LIMIT" "$C" attach relay >"$T/relay2" 2>&1 &
cli=$!
hears()
{
	"$C" kill -s TERM relay && grep -q got "$T/relay2"
}
ok 'another is attached' wait_until 20 hears
pkill -USR1 -P $cli
rc=0
wait $cli || rc=$?
is 'SIGUSR1 through that one, and the exit status' "$rc" 42
run_ok 'delete' "$C" delete relay
run_rc 127 'testRunInvalidExecutable: a program that is not there' "$C" run --rm demo no-such-program
like 'is named' "$err" 'no-such-program'
run_rc 126 'testRunFailureCleanup: an unknown user' "$C" run --rm -u nosuchuser demo true
like 'is named' "$err" 'nosuchuser'
is 'testRunFailureCleanup: failed starts leave nothing' "$("$C" list -aq)" ''

printf '# comment\n\nF1=one\nF2=a=b\nA=file\n' >"$T/env"
run_ok 'user by name, env file, directory, label, cidfile' "$C" run --rm --name two -u www-data -w /var/www --env-file "$T/env" -e A=flag \
	-l k=v -l bare --cidfile "$T/cid" demo sh -c 'echo "$(id -u):$(id -g):$(id -G)"; pwd; echo "$F1 $F2 $A"; echo $HOME; sed -n "s/CapEff:.//p" /proc/self/status; /bin/busybox id -un'
is 'all of it' "$out" "33:33:33 4
/var/www
one a=b flag
/var/www
0000000000000000
www-data"
is 'cidfile' "$(cat "$T/cid")" two
run_ok 'user by number; a directory that is not there is made; entrypoint' "$C" run --rm -u 1234:56 -w /srv/new --entrypoint /bin/sh demo -c 'id -u; id -g; pwd'
is 'all of it' "$out" "1234
56
/srv/new"

# Standard input.
rc=0
out=$(echo data | timeout "$T_LIMIT" "$C" run --rm -i demo cat) || rc=$?
is 'echo data | run -i cat ends by itself' "$rc:$out" '0:data'
head -c 3000000 /dev/urandom >"$T/blob"
out=$(timeout "$T_LIMIT" "$C" run --rm -i demo sh -c 'tee /tmp/x | sha256sum; sha256sum /tmp/x' <"$T/blob" | cut -d' ' -f1 | sort -u)
is '3 MB through stdin' "$out" "$(sha256sum <"$T/blob" | cut -d' ' -f1)"
out=$(timeout "$T_LIMIT" "$C" run --rm -i demo cat <"$T/blob" | sha256sum)
is '3 MB through both' "$out" "$(sha256sum <"$T/blob")"
run_ok 'without -i standard input is empty' bash -c 'echo data | "$1" run --rm demo cat' - "$C"
is 'nothing came' "$out" ''

# The image's own command; orphans; zombies; fsync'd data of a killed writer is not asked for here.
run_ok 'orphans are reaped' "$C" run --rm demo sh -c '
	for i in 1 2 3 4 5; do (sh -c "sleep 0.2 & exit" &) ; done; sleep 2
	for i in $(seq 200); do z=$(ps -o stat,comm | grep -c "^Z"); [ $z != 0 ] || break; sleep 0.1; done; echo zombies=$z'
is 'no zombie is left' "$out" zombies=0
run_ok 'with the child gone, what it left ends with it' "$C" run --rm demo sh -c 'sleep 1000 & echo started'
is 'and run returns' "$out" started

# Bad arguments.
run "$C" run --rm -m 1m demo true
ok 'too little memory is refused' [ "$rc" = 1 ] || [ "$rc" = 64 ]
run "$C" run --rm -m nonsense demo true
ok 'memory that is no size is refused' [ "$rc" = 1 ] || [ "$rc" = 64 ]
run "$C" run --rm -c 0 demo true
ok 'no CPUs are refused' [ "$rc" = 1 ] || [ "$rc" = 64 ]
run "$C" run --rm --name 'bad name' demo true
ok 'a bad name is refused' [ "$rc" = 1 ] || [ "$rc" = 64 ]
run_rc 1 'an env file that is not there' "$C" run --rm --env-file "$T/none" demo true
is 'nothing is left of them' "$("$C" list -aq)" ''
is 'and no runtime helper' "$("$C" system status --format json | jq '[.services[] | select(.label | startswith("container.runtime"))] | length')" 0
stop_system
done_testing
