#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# tree.pl list DIR: all that DIR's tree says, a line per path, sorted: path, type, mode, owner, group, size, mtime with nanoseconds,
#   device, link target, the first name of the same inode, SHA-256 of a file, attributes.
# tree.pl set PATH NAME HEX: an extended attribute, not following links.
# Needs find, and Linux on x86-64 or arm64.
use strict;
use warnings;
use Digest::SHA;
use POSIX qw(uname);

my %nr = (uname)[4] eq 'aarch64' ? (set => 6, get => 9, list => 12) : (set => 189, get => 192, list => 195);
my ($what, $dir, @args) = @ARGV;
if ($what eq 'set') {
	my $v = pack 'H*', $args[1];
	syscall($nr{set}, $dir, $args[0], $v, length $v, 0) == 0 or die "set $dir $args[0]: $!\n";
	exit 0;
}
my (%first, @lines);
chdir $dir or die "$dir: $!\n";
# A name may hold anything but a NUL.
open my $find, '-|', 'find', '.', '-printf', '%P\0%y\0%m\0%U\0%G\0%s\0%T@\0%n\0%D:%i\0%l\0' or die "find: $!\n";
local $/ = "\0";
my @all;
while (my $path = <$find>) {
	my @f = ($path, map { scalar <$find> } 1 .. 9);
	chomp @f;
	push @all, \@f;
}
close $find or die "find failed\n";
for my $f (sort { $a->[0] cmp $b->[0] } @all) {
	my ($path, $type, $mode, $uid, $gid, $size, $mtime, $links, $inode, $target) = @$f;
	my $file = length $path ? $path : '.';
	my @l = ($path, $type, $mode, $uid, $gid);
	push @l, $type eq 'd' ? '-' : $size, $mtime;
	push @l, $type =~ /[bc]/ ? (lstat $file)[6] : '-', $target;
	$first{$inode} //= $path;
	push @l, $type ne 'd' && $links > 1 ? "=$first{$inode}" : '-';
	push @l, $type eq 'f' ? Digest::SHA->new(256)->addfile($file, 'b')->hexdigest : '-';
	my $names = "\0" x 65536;
	my $n = syscall($nr{list}, $file, $names, length $names);
	die "attributes of $file: $!\n" if $n < 0;
	for my $name (sort split /\0/, substr $names, 0, $n) {
		my $v = "\0" x 65536;
		my $k = syscall($nr{get}, $file, $name, $v, length $v);
		die "attribute $name of $file: $!\n" if $k < 0;
		push @l, "$name=" . unpack 'H*', substr $v, 0, $k;
	}
	s/([^!-~])/sprintf '%%%02x', ord $1/ge for @l;
	push @lines, join "\t", @l;
}
print "$_\n" for @lines;
