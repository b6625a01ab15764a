#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# hostile_tar.pl DIR: a corpus of layers that nobody should believe, each in an OCI image layout of its own: DIR/<case>.tar is the image
# hostile/<case>:1. Names that try to get out of the root have "ct-hostile" in them, for whoever looks where they went.
# hostile_tar.pl list: the cases. Needs zstd.
use strict;
use warnings;
use Compress::Zlib;
use Digest::SHA qw(sha256_hex);
use JSON::PP;

my $json = JSON::PP->new->utf8->canonical;
my $END = "\0" x 1024;
my $OUT = '../' x 12 . 'tmp/ct-hostile';

# ---- tar ----
sub checked
{
	my ($h) = @_;
	substr($h, 148, 8) = ' ' x 8;
	substr($h, 148, 8) = sprintf "%06o\0 ", unpack '%32C*', $h;
	return $h;
}
sub padded { my ($data) = @_; return $data . "\0" x (-length($data) % 512) }
# raw => [offset, bytes, …] goes over what the other fields say.
sub header
{
	my ($name, %o) = @_;
	my $h = pack 'a100 a8 a8 a8 a12 a12 A8 a1 a100 a6 a2 a32 a32 a8 a8 a155 a12', $name, sprintf('%07o', $o{mode} // 0644),
		sprintf('%07o', $o{uid} // 0), sprintf('%07o', $o{gid} // 0), sprintf('%011o', $o{size} // 0), '14500000000', '', $o{type} // '0',
		$o{link} // '', 'ustar', '00', '', '', sprintf('%07o', $o{major} // 0), sprintf('%07o', $o{minor} // 0), '', '';
	my @raw = @{$o{raw} // []};
	while (my ($at, $bytes) = splice @raw, 0, 2) { substr($h, $at, length $bytes) = $bytes }
	return checked($h);
}
sub file { my ($name, $data, %o) = @_; return header($name, size => length $data, %o) . padded($data) }
sub dir { my ($name, %o) = @_; return header($name, type => '5', mode => 0755, %o) }
sub sym { my ($name, $to) = @_; return header($name, type => '2', link => $to) }
sub hard { my ($name, $to) = @_; return header($name, type => '1', link => $to) }
# A pax header of these records; one that is no reference is taken as it is.
sub record
{
	my ($key, $value) = @_;
	my $rest = length(" $key=$value\n");
	my $n = $rest + length($rest);
	$n = $rest + length $n;
	return "$n $key=$value\n";
}
sub pax { my $r = join '', map { ref ? record(@$_) : $_ } @_; return file('PaxHeaders/x', $r, type => 'x') }
sub long { my ($type, $name) = @_; return file('././@LongLink', "$name\0", type => $type) }
sub sparse { my ($map, $size, $data) = @_; return pax(['GNU.sparse.map', $map], ['GNU.sparse.size', $size]) . file('sparse', $data) }
sub zstd
{
	my ($write, @options) = @_;
	my $tmp = "$ENV{TMPDIR}/hostile.zst";
	my $sum = Digest::SHA->new(256);
	open my $z, '|-', 'zstd', '-q', '-f', '-1', @options, '-o', $tmp or die "zstd: $!";
	binmode $z;
	$write->(sub { print $z $_[0]; $sum->add($_[0]) });
	close $z or die 'zstd';
	open my $in, '<:raw', $tmp or die;
	local $/;
	my $blob = <$in>;
	unlink $tmp;
	return { blob => $blob, diff => $sum->hexdigest };
}
sub gzipped { my ($tar, $change) = @_; my $z = Compress::Zlib::memGzip($tar); $change->($z) if $change; return { blob => $z, diff => sha256_hex($tar) } }

# ---- the cases: a layer, or several; with its end unless it says otherwise ----
my $noise = join '', map { Digest::SHA::sha256("noise $_") } 1 .. 4096;
my $many = 400_000; # unit tests have a million, e2e 20-big four
my %cases = (
	# Names that lead out.
	dotdot => sub { file($OUT, 'x') },
	dotdotmid => sub { dir('a') . file("a/b/../../../$OUT", 'x') },
	escapes => sub { file("../\e]0;title\a\e[31mct-hostile", 'x') },
	absolute => sub { file('/tmp/ct-hostile-absolute', 'in the image') },
	parentlink => sub { sym('d', $OUT) . sym('abs', '/tmp/ct-hostile-abs') . file('d/f', 'below') . file('abs/f', 'below') },
	parentloop => sub { sym('a', 'b') . sym('b', 'a') . file('a/f', 'x') },
	parentfile => sub { file('a', 'x') . file('a/f', 'y') },
	hardout => sub { hard('h', "$OUT/passwd") },
	hardabsolute => sub { hard('h', '/etc/passwd') },
	hardnothing => sub { file('a', 'x') . hard('h', 'nothing') },
	harddir => sub { dir('a') . hard('h', 'a') },
	hardself => sub { hard('h', 'h') },
	hardroot => sub { hard('h', '/') },
	hardlink => sub { sym('l', '/etc/ct-hostile') . hard('h', 'l') },
	# Whiteouts.
	whiteoutdots => sub { file('.wh...', '') },
	whiteoutdot => sub { file('.wh..', '') },
	whiteoutnothing => sub { file('d/.wh.', '') },
	whiteoutup => sub { file("d/.wh...", '') },
	whiteoutdir => sub { file('.wh.d/f', 'x') },
	whiteoutlink => sub { [sym('d', $OUT) . file('keep', 'kept')], [file('d/.wh.f', '') . file('.wh.none', '')] },
	opaquefile => sub { [file('f', 'x') . file('keep', 'kept')], [file('f/.wh..wh..opq', '')] },
	opaqueroot => sub { [file('f', 'x')], [file('.wh..wh..opq', '') . file('new', 'kept')] },
	# Numbers.
	devicerange => sub { header('d', type => '3', raw => [329, "\x80\0\0\0\0\1\0\0"]) },
	deviceminor => sub { header('d', type => '4', raw => [337, '77777777']) },
	sizenegative => sub { header('f', raw => [124, "\xff" x 12]) },
	sizeoverflow => sub { header('f', raw => [124, "\x80" . "\xff" x 11]) },
	sizewords => sub { header('f', raw => [124, '12 34 56 78 ']) },
	sizebeyond => sub { [header('f', size => 1 << 30) . 'x' x 512, 'cut'] },
	sizepax => sub { [pax(['size', '9223372036854775807']) . header('f') . 'x' x 512, 'cut'] },
	owner => sub { header('f', raw => [108, "\x80\0\0\xff\xff\xff\xff\xff"]) },
	ownernegative => sub { header('f', raw => [116, "\xff" x 8]) },
	checksum => sub { my $h = file('f', 'x'); substr($h, 0, 1) = 'g'; $h },
	kind => sub { header('f', type => 'Z') },
	# Long and odd names.
	paxnul => sub { pax(['path', "a\0b"]) . file('f', 'x') },
	name5000 => sub { pax(['path', 'n' x 5000]) . file('f', 'x') },
	path5000 => sub { pax(['path', 'dir/' x 1250 . 'f']) . file('f', 'x') },
	name256 => sub { pax(['path', 'n' x 256]) . file('f', 'x') },
	link5000 => sub { pax(['linkpath', 'l/' x 2500]) . sym('l', 'x') },
	noname => sub { file('', 'x') },
	longname => sub { [header('././@LongLink', type => 'L', size => 100 << 20) . 'n' x 4096, 'cut'] },
	millioncomponents => sub { long('L', 'd/' x 1_000_000 . 'f') . file('f', 'x') },
	millionpax => sub { pax(['path', 'd/' x 1_000_000 . 'f']) . file('f', 'x') },
	# 40 links, each to 2040 directories more.
	deep => sub { my $t = ''; my $at = ''; for my $i (1 .. 38) { my $d = $at . 'd/' x (2000 - 10); $t .= pax(['path', $d]) . dir('d'); $t .= pax(['linkpath', $d]) . sym("l$i", 'x'); $at = "l$i/" } $t . file('l38/bottom', 'x') },
	# Lies of pax.
	paxshort => sub { pax("5 path=abcdef\n") . file('f', 'x') },
	paxlong => sub { pax("999 path=abcdef\n") . file('f', 'x') },
	paxzero => sub { pax("0 path=a\n") . file('f', 'x') },
	paxwrap => sub { pax("18446744073709551617 path=a\n") . file('f', 'x') },
	paxhuge => sub { [header('x', type => 'x', size => 1 << 30) . 'x' x 512, 'cut'] },
	paxend => sub { pax(['path', 'nobody follows']) },
	paxglobal => sub { file('g', record('path', 'all'), type => 'g') . file('f', 'x') },
	# Sparse maps.
	sparseoverlap => sub { sparse('0,512,256,512', 2048, 'x' x 1024) },
	sparsedescend => sub { sparse('1024,512,0,512', 2048, 'x' x 1024) },
	sparsewrap => sub { sparse('9223372036854775800,512', 2048, 'x' x 512) },
	sparsebeyond => sub { sparse('4096,512', 2048, 'x' x 512) },
	sparsemore => sub { sparse('0,1024', 2048, 'x' x 512) },
	sparsehuge => sub { sparse('0,512', 1 << 62, 'x' x 512) },
	sparseold => sub { header('s', type => 'S', size => 512, raw => [386, "\x80" . "\xff" x 11, 398, '00000001000', 483, '00000010000']) . 'x' x 512 },
	# Compression.
	gzipcut => sub { gzipped(file('f', $noise) . $END, sub { substr($_[0], -5000) = '' }) },
	gzipgarbage => sub { gzipped(file('f', $noise) . $END, sub { $_[0] .= 'garbage behind the end' }) },
	gzipchanged => sub { gzipped(file('f', $noise) . $END, sub { substr($_[0], 60000, 1) ^= "\x01" }) },
	gzipsum => sub { gzipped(file('f', $noise) . $END, sub { substr($_[0], -8, 1) ^= "\x01" }) },
	zstdcut => sub { my $l = zstd(sub { $_[0]->(file('f', $noise) . $END) }); substr($l->{blob}, -5000) = ''; $l },
	zstdwindow => sub { zstd(sub { $_[0]->(file('f', $noise) . $END); $_[0]->("\0" x (1 << 20)) for 1 .. 40 }, '--ultra', '--long=31') },
	zstdtail => sub { zstd(sub { $_[0]->($END); $_[0]->("\0" x (1 << 20)) for 1 .. 200 }) },
	zstdbomb => sub { zstd(sub { $_[0]->(header('zeros', size => 512 << 20)); $_[0]->("\0" x (1 << 20)) for 1 .. 512; $_[0]->($END) }) },
	# What a tree cannot say, and what it can.
	duplicates => sub { file('a', 'first') . dir('a') . file('a/b', 'in') . sym('a', 'b') . header('a', type => '6') . file('a', 'last') . dir('b') . file('b/c', 'x') . file('b', 'a file') },
	rootfile => sub { file('.', 'x') },
	rootlink => sub { sym('/', $OUT) },
	rootdevice => sub { header('./', type => '3', major => 1, minor => 3) },
	rootslashes => sub { file('.//./', 'x') },
	rootmode => sub { dir('.', mode => 01711, uid => 7) . file('f', 'x') },
	aclbad => sub { pax(['SCHILY.xattr.system.posix_acl_access', "\2\0\0\0junk"]) . file('f', 'x') },
	capbad => sub { pax(['SCHILY.xattr.security.capability', "\1\2\3"]) . file('f', 'x') },
	xattrname => sub { pax(['SCHILY.xattr.user.' . 'n' x 300, 'x']) . file('f', 'x') },
	xattrmany => sub { pax(map { ["SCHILY.xattr.user.a$_", 'v' x 1000] } 1 .. 1000) . file('f', 'x') },
	xattrlong => sub { pax(['SCHILY.xattr.user.a', 'v' x 70000]) . file('f', 'x') },
	xattrs => sub { pax(['SCHILY.xattr.trusted.overlay.opaque', 'y'], ['SCHILY.xattr.trusted.overlay.redirect', '/ct-hostile'], ['SCHILY.xattr.user.overlay.whiteout', 'y'],
		['SCHILY.xattr.security.selinux', 'a:b'], ['SCHILY.xattr.trusted.thing', 'kept']) . dir('d') . file('d/f', 'x') },
	# All that a host should never do for an image.
	everything => sub {
		file('ct-hostile-suid', $noise, mode => 06755, uid => 1234, gid => 4321) . header('ct-hostile-char', type => '3', major => 1, minor => 5, mode => 0666) .
			header('ct-hostile-block', type => '4', major => 8, mode => 0666) . header('ct-hostile-fifo', type => '6') . sym('ct-hostile-sym', '/etc/shadow') .
			hard('ct-hostile-hard', 'ct-hostile-suid') . dir('ct-hostile-dir', mode => 03777, uid => 77) .
			pax(['SCHILY.xattr.security.capability', pack('H*', '0100000202000000000000000000000000000000')], ['SCHILY.xattr.user.u', 'v']) . file('ct-hostile-cap', 'x')
	},
	many => sub {
		zstd(sub {
			my $h = header('d000/f000', mode => 0644);
			my ($before, $after) = (substr($h, 9, 139), substr($h, 156));
			my $base = unpack('%32C*', substr($h, 0, 148) . ' ' x 8 . $after) - unpack('%32C*', 'd000/f000');
			for my $d (0 .. $many / 1000 - 1) {
				$_[0]->(join '', map { my $n = sprintf 'd%03d/f%03d', $d, $_; $n . $before . sprintf("%06o\0 ", $base + unpack '%32C*', $n) . $after } 0 .. 999);
			}
			$_[0]->($END);
		})
	},
);

# ---- images ----
sub descriptor { my ($type, $bytes) = @_; return { mediaType => $type, digest => 'sha256:' . sha256_hex($bytes), size => length $bytes } }
sub layer_of
{
	my ($l) = @_;
	return $l if ref $l eq 'HASH';
	my ($tar, $cut) = ref $l ? @$l : $l;
	$tar .= $END unless $cut;
	return { blob => $tar, diff => sha256_hex($tar) };
}
sub image
{
	my ($name, @layers) = @_;
	my $oci = 'application/vnd.oci.image';
	my $config = $json->encode({ architecture => 'amd64', os => 'linux', config => {}, rootfs => { type => 'layers', diff_ids => [map { "sha256:$_->{diff}" } @layers] } });
	my $manifest = $json->encode({ schemaVersion => 2, mediaType => "$oci.manifest.v1+json", config => descriptor("$oci.config.v1+json", $config),
		layers => [map { descriptor("$oci.layer.v1.tar", $_->{blob}) } @layers] });
	my $entry = descriptor("$oci.manifest.v1+json", $manifest);
	$entry->{annotations} = { 'org.opencontainers.image.ref.name' => "docker.io/hostile/$name:1" };
	my $tar = file('oci-layout', '{"imageLayoutVersion":"1.0.0"}') . file('index.json', $json->encode({ schemaVersion => 2, manifests => [$entry] }));
	$tar .= file('blobs/sha256/' . sha256_hex($_), $_) for $config, $manifest, map { $_->{blob} } @layers;
	return $tar . $END;
}

if ($ARGV[0] eq 'list') {
	print "$_\n" for sort keys %cases;
	exit 0;
}
my ($dir, @only) = @ARGV;
$ENV{TMPDIR} = $dir;
for my $name (@only ? @only : sort keys %cases) {
	open my $f, '>:raw', "$dir/$name.tar" or die "$dir/$name.tar: $!\n";
	print $f image($name, map { layer_of($_) } $cases{$name}->());
	close $f or die "$dir/$name.tar: $!\n";
}
