#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# dns.pl - one DNS question on stdin, its answer on stdout: 203.0.113.77 for A, nothing for the rest.
use strict;
use warnings;
sysread(STDIN, my $q, 512) or exit 1;
my ($id, $flags) = unpack 'nn', $q;
my $name = substr($q, 12) =~ /^((?:[^\0]{1,63})*?\0)/s ? $1 : exit 1;
my ($type) = unpack 'n', substr($q, 12 + length $name);
my $a = $type == 1;
my $r = pack('nnnnnn', $id, 0x8180, 1, $a ? 1 : 0, 0, 0) . $name . pack('nn', $type, 1);
$r .= pack('nnnNnC4', 0xc00c, 1, 1, 60, 4, 203, 0, 113, 77) if $a;
syswrite STDOUT, $r;
