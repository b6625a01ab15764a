#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# The filters of the runtime helper, and of what stands beside it, are no wider than what they do: everything a container's helper can be asked for is asked while strace looks
# on, and each system call that a rule allows must have been seen, with the argument the rule names, or stand below with the reason why it
# cannot be brought about here.
. "$(dirname "$0")/../lib/system.sh"
command -v strace >/dev/null || skip_all 'needs strace'
command -v objcopy >/dev/null || skip_all 'needs objcopy'
objcopy -O binary --only-section=filter_rules "$C" "$T/rules" 2>/dev/null && [ -s "$T/rules" ] || skip_all 'a binary without rules'
T_LIMIT=180
# What reads go through io_uring for, waiting, a tmpfs does not know.
if [ "$(stat -f -c %T "$T")" = tmpfs ]; then
	truncate -s 1G "$T/disk"
	mkfs.ext4 -q "$T/disk" && mount -o loop "$T/disk" "$T/s" || skip_all 'needs a file system for its roots that is no tmpfs'
	use_roots "$T/s"
fi
ready_system
# As numbers: the calls of which a rule names an argument.
strace -f -n -qq -e signal=none -e raw=ioctl,fcntl,pidfd_send_signal,tgkill,mmap,madvise,socket,socketpair,getsockopt,setsockopt,newfstatat,fallocate,preadv2,io_uring_enter,io_uring_register \
	-o "$T/calls" -p "$(service_pid container.apiserver)" -p "$(service_pid container.network.default)" 2>/dev/null &
tracer=$!
traced()
{
	[ -s "$T/calls" ] || { "$C" list >/dev/null; false; }
}
ok 'the tracer is there' wait_until 20 traced

gcc -O2 -static -o "$T/fileuse" "$TOP/tests/lib/fileuse.c" || bail 'fileuse compiles'
mkdir "$T/share"
# A share that is no piece of the roots' file system; no tmpfs, which has no user's attributes before Linux 6.6.
truncate -s 64M "$T/share.img"
mkfs.ext4 -q "$T/share.img" && mount -o loop "$T/share.img" "$T/share" || bail 'a file system for the share'
cp "$T/fileuse" "$T/share"
gcc -O2 -static -o "$T/share/udpecho" "$TOP/tests/lib/udpecho.c" || bail 'udpecho compiles'
run_ok 'a container' "$C" run -d -i --name one -v "$T/share:/share" -p 127.0.0.1:18080:80 -p 127.0.0.1:18081:81 -p 127.0.0.1:18082:82/udp demo sh -c 'trap "exit 0" TERM; while :; do echo x; sleep 1; done'
h=$(service_pid container.runtime.one)
run_ok 'exec' "$C" exec one sh -c 'echo out; echo err >&2'
out=$(head -c 3000000 /dev/zero | timeout 100 "$C" exec -i one wc -c)
is 'exec -i' "${out// /}" 3000000
run_ok 'a lot of output' "$C" exec one sh -c 'head -c 18000000 /dev/zero | tr "\0" x | fold -w 100 >/proc/1/fd/1'
# Its process has ended before it is read: the pipe is made larger for what no longer fits.
counted() { ! "$C" top one | grep -q 'seq 1'; }
is 'a reader that takes its time' "$(timeout "$T_LIMIT" "$C" exec one seq 1 60000 | (sleep 4; wait_until 60 counted; sleep 1; wc -l))" 60000
run_ok 'the disk' "$C" exec one sh -c 'dd if=/dev/zero of=/x bs=1M count=20 conv=fsync 2>/dev/null; rm /x; sync'
run_ok 'entropy' "$C" exec one sh -c 'head -c 64 /dev/hwrng 2>/dev/null | wc -c'
run "$C" exec one sh -c 'ping -c 1 -W 5 $(ip route | sed -n "s/default via \([0-9.]*\).*/\1/p")'
run_ok 'memory given back' "$C" exec one sh -c 'dd if=/dev/zero of=/dev/null bs=100M count=1 2>/dev/null; sleep 5'
run_ok 'pause' "$C" pause one
run_ok 'unpause' "$C" unpause one
run "$C" stats --no-stream one
run "$C" top one
(sleep 3) | timeout -s KILL 120 "$C" attach one >"$T/attached" 2>&1 &
attached=$!
ok 'a client is attached' wait_until 30 grep -q x "$T/attached"
run_rc 1 'a second client is refused' "$C" attach one
pkill -KILL -P $attached
wait $attached 2>/dev/null
(timeout 2 "$C" logs -f one >/dev/null 2>&1)
# What a share's server is asked for.
run_ok 'a share' "$C" exec one sh -c 'cd /share && echo 123456 >f && ./fileuse f && cat f >/dev/null && mkdir d && ln -s f s && readlink s && ln f d/h && mv f d/f &&
	mkfifo p && chmod 600 d/f && touch d/f && truncate -s 3 d/f && ls -lR . >/dev/null && df . && sync -f d/f && sync -d d/f && sync d/f && rm -r d s p &&
	fallocate -l 4096 g && chown 1:1 g'
run_ok 'a user there' "$C" exec -u 7:7 one sh -c 'cat /share/g >/dev/null; echo x >/share/no; echo x >/tmp/yes'
chmod 777 "$T/share"
# What a forwarder of ports is asked for: a connection, one that the guest refuses, a datagram.
run_ok 'servers' "$C" exec -d one sh -c 'nc -ll -p 80 -e cat & exec /share/udpecho 82'
served() { [ "$(timeout 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/18080; echo tcp >&3; head -1 <&3')" = tcp ]; }
ok 'a connection' wait_until 30 served
run timeout 20 bash -c 'exec 3<>/dev/tcp/127.0.0.1/18081; echo no >&3; cat <&3'
answered() { [ "$(timeout 3 bash -c 'exec 3<>/dev/udp/127.0.0.1/18082; printf udp >&3; head -c 3 <&3')" = udp ]; }
ok 'a datagram' wait_until 30 answered
run_ok 'who may make files' "$C" exec -u 7:7 one sh -c 'echo x >/share/theirs'
# Reads in company that the host's page cache does not have: they go through io_uring. Every other block of the file is a hole, so what the
# guest reads ahead is no one request but some sixteen, and it notifies once for all of them; its own cache went with the stop.
run_ok 'a file with holes' "$C" exec one sh -c 'i=0; while [ $i -lt 128 ]; do
	dd if=/dev/urandom of=/holes bs=4k count=1 seek=$i conv=notrunc 2>/dev/null || exit; i=$((i + 2)); done; sync'
run_ok 'stop' "$C" stop -t 20 one
run_ok 'start' "$C" start one
sync "$CONTAINER_APP_ROOT/containers/one/upper.ext4"
dd if="$CONTAINER_APP_ROOT/containers/one/upper.ext4" iflag=nocache count=0 status=none
run_ok 'deep reads' "$C" exec one sh -c 'cat /holes >/dev/null'
# What follows the tracer does not see: the new one is not its child.
kill -KILL "$(service_pid container.apiserver)"
sleep 1
run_ok 'another apiserver' "$C" system start
# A machine that does not go by itself is ended from outside.
q=$(pgrep -P "$(service_pid container.runtime.one)" qemu-system | head -1)
[ -z "$q" ] || kill -STOP "$q"
run_ok 'stop' "$C" stop -t 1 one
kill "$tracer" 2>/dev/null
wait "$tracer" 2>/dev/null

cat >"$T/compare.pl" <<'PERL'
# Usage: compare.pl rules calls. Lines "profile number" for what is allowed and was never seen, "profile number/i=value" where the rule is for
# one value of argument i (from 0); "profile: seen of allowed" at the end.
use strict;
my ($rules, $calls) = @ARGV;
my %bit = (main => 1 | ($ENV{CONTAINER_ENGINE} eq 'kvm' ? 16 : 32), vcpu => 2, blk => 4, net => 64, fs => 128, forward => 256);
my (%allowed, %seen, %len, %by_arg);
open(my $r, '<:raw', $rules) or die;
local $/ = \16;
while (<$r>) {
	my ($nr, $who, $arg, $mask, $value) = unpack('vvVVV', $_);
	my $rule = $arg ? sprintf('%d/%d=%d', $nr, $arg - 1, $value) : $nr;
	$by_arg{$nr}{$rule} = [$arg - 1, $mask, $value] if $arg;
	for (keys %bit) { $allowed{$_}{$rule} = 1 if $who & $bit{$_} }
}
# Where a call is allowed whatever its arguments are, a rule for one value adds nothing.
for my $a (values %allowed) {
	delete @$a{grep { m{^(\d+)/} && $a->{$1} } keys %$a};
}
sub fits # the rules of one call whose argument is in the text of its arguments, as numbers
{
	my ($of, $text) = @_;
	my @arg = split /, /, $text =~ /^\w+\(([^)<]*)/ ? $1 : '';
	return grep {
		my ($i, $mask, $value) = @{$of->{$_}};
		my $a = ($arg[$i] // '') =~ /^(0x[0-9a-f]+|\d+)\s*$/ ? oct($1) : undef;
		defined($a) && ($a & $mask) == $value;
	} keys %$of;
}
local $/ = "\n";
# Which thread took which filter on: all but a helper's first have a name by then.
open(my $c, '<', $calls) or die;
my (%used, %arm, %name);
while (<$c>) {
	my ($tid, $nr, $rest) = /^(\d+)\s+\[\s*(\d+)\] (.*)/ or next;
	$arm{$tid} = 1 if $rest =~ /^prctl\(PR_SET_DUMPABLE, SUID_DUMP_DISABLE/; # a helper's main thread
	$name{$tid} = $1 if $rest =~ /^prctl\(PR_SET_NAME, "(vcpu|blk|net)\d+"/;
	$name{$tid} = 'fs' if $rest =~ /^prctl\(PR_SET_NAME, "(?:share\d|container-share)/;
	$name{$tid} = 'blk' if $rest =~ /^prctl\(PR_SET_NAME, "fs\d+"/; # the device's worker
	$name{$tid} = 'forward' if $rest =~ /^prctl\(PR_SET_NAME, "forward"/;
	if ($rest =~ /^seccomp\(SECCOMP_SET_MODE_FILTER, \d+, \{len=(\d+)/) {
		$len{$tid} = $1;
		next;
	}
	next if !$len{$tid} || $rest =~ /^<\.\.\. seccomp resumed/;
	$used{$tid}{$_} = 1 for $nr, $by_arg{$nr} ? fits($by_arg{$nr}, $rest) : ();
	delete $len{$tid} if $nr == 59; # exec: QEMU
}
my %main = map { $_ => 1 } keys %arm;
for my $t (keys %used) {
	my $p = $name{$t} || ($main{$t} ? 'main' : next); # QEMU's threads have its own filter
	$seen{$p}{$_} = 1 for keys %{$used{$t}};
}
for my $p (sort keys %seen) {
	print "$p $_\n" for sort { $a <=> $b } grep { !$seen{$p}{$_} } keys %{$allowed{$p}};
	printf STDERR "%s: %d of %d allowed calls were seen\n", $p, scalar(grep { $seen{$p}{$_} } keys %{$allowed{$p}}),
		scalar keys %{$allowed{$p}};
}
PERL
perl "$T/compare.pl" "$T/rules" "$T/calls" >"$T/unused" 2>"$T/sum"
diag "$(cat "$T/sum")"

# What may stay unseen, and why.
cat >"$T/excused" <<'EOF'
main 5 fstat() of other C libraries
main 9/2=0 memory, when there is none left of what was there
main 14 abort(), and kicks of vCPUs
main 25 memory, the same
main 28 the same
main 44 journald, where there is no log directory
main 77 the log, when it is full
main 186 abort()
main 219 after a stop signal
main 228 the clock, where the vDSO cannot read it
main 234/0=4294967294 abort(), and kicks of vCPUs; the value stands for its own process
blk 11 memory, for a record in the log
blk 12 the same
blk 18 zeroes, where the file system cannot punch holes
blk 28 the end of a thread
blk 39 a record in the log
blk 44 the same, to journald
blk 77 the same, when the file is full
blk 186 abort()
blk 202 a lock that another thread holds
blk 228 the clock, where the vDSO cannot read it
blk 234/0=4294967294 abort()
net 9/2=0 memory, for a record in the log
net 11 the same
net 12 the same
net 28 the end of a thread
net 39 a record in the log
net 44 the same, to journald
net 45 a stream from passt, see 16-passt.t
net 46 the same
net 77 a record in the log, when the file is full
net 186 abort()
net 202 a lock that another thread holds
net 228 the clock, where the vDSO cannot read it
net 234/0=4294967294 abort()
fs 9/2=0 memory, for its tables
fs 11 the same
fs 12 the same
fs 25 the same
fs 28 the same
fs 228 the clock, where the vDSO cannot read it
fs 231 its helper's end, where a signal was not faster
forward 9/2=0 memory, for what an end does not take
forward 11 the same
forward 12 the same
forward 14 abort()
forward 25 memory, the same
forward 28 the same
forward 39 abort()
forward 186 abort()
forward 202 a lock, were there a second thread
forward 219 after a stop signal
forward 228 the clock, where the vDSO cannot read it
forward 234/0=4294967294 abort()
vcpu 9/2=0 memory, for console output
vcpu 11 the same
vcpu 12 the same
vcpu 14 abort(), and kicks
vcpu 16/1=2156965505 where a guest was that KVM cannot carry on with: vmm_hostile has such
vcpu 28 the end of a thread
vcpu 39 a record in the log, a kick
vcpu 44 a record in the log
vcpu 77 the same, when the file is full
vcpu 186 abort()
vcpu 228 the clock, where the vDSO cannot read it
vcpu 234/0=4294967294 a kick of another vCPU
EOF
for p in main blk net fs forward $([ "$CONTAINER_ENGINE" != kvm ] || echo vcpu); do
	ok "the $p thread was seen" grep -q "^$p:" "$T/sum"
done
is 'no filter is wider than what was seen' "$(grep -vxFf <(cut -d' ' -f1,2 "$T/excused") "$T/unused")" ''
stop_system
done_testing
