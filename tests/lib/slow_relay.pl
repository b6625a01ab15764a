#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# slow_relay.pl PORT TO RATE: a way to port TO of this host whose answers come at RATE bytes a second and no faster, for what is to be seen
# while it is under way. One process per connection.
use strict;
use warnings;
use IO::Socket::INET;
use Time::HiRes qw(sleep time);

my ($port, $to, $rate) = @ARGV;
my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $port, Listen => 32, ReuseAddr => 1) or die "port $port: $!";
$SIG{CHLD} = $SIG{PIPE} = 'IGNORE';

sub pass
{
	my ($from, $out, $limit) = @_;
	my ($start, $sent) = (time, 0);
	while (sysread $from, my $b, 65536) {
		for (my $at = 0; $at < length $b;) {
			my $n = syswrite $out, $b, length($b) - $at, $at or return;
			$at += $n;
		}
		$sent += length $b;
		my $early = $limit ? $start + $sent / $limit - time : 0;
		sleep $early if $early > 0;
	}
	shutdown $out, 1;
}

while (1) {
	my $c = $l->accept or next;
	my $pid = fork;
	next if $pid;
	my $s = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => $to) or exit 1;
	if (fork) { pass($c, $s, 0) } else { pass($s, $c, $rate) }
	exit 0;
}
