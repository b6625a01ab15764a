#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# hostile_registry.pl STATE PORT OTHER: a registry that misbehaves as the repository's name says (%modes below); each has an image of its own,
# of layers of a megabyte, mostly one. On OTHER listens another host, which should never hear who anybody is. Each request is a line in STATE/log:
# "<registry|other> METHOD PATH<TAB>Authorization header<TAB>Range header". One process per connection, one request each.
# hostile_registry.pl list: the modes.
use strict;
use warnings;
use Digest::SHA qw(sha256 sha256_hex);
use IO::Socket::INET;
use JSON::PP;
use POSIX qw(strftime);

my ($state, $port, $other) = @ARGV;
my $json = JSON::PP->new->utf8->canonical;
$SIG{CHLD} = 'IGNORE';
$SIG{PIPE} = 'IGNORE';
my $OCI = 'application/vnd.oci.image.manifest.v1+json';
my $INDEX = 'application/vnd.oci.image.index.v1+json';
my $noise = '';
$noise .= sha256("noise $_") for 1 .. 32768;

# The image of a mode: its layer is a tar of one file.
my ($data, $config, $manifest, $layer, $root, %bodies);
sub header
{
	my ($name, $size) = @_;
	my $h = pack 'a100 a8 a8 a8 a12 a12 A8 a1 a100 a6 a2 a247', $name, '0000644', '0000000', '0000000', sprintf('%011o', $size), '14500000000', '', '0', '', 'ustar', '00', '';
	substr($h, 148, 8) = sprintf "%06o\0 ", unpack '%32C*', $h;
	return $h;
}
sub descriptor { my ($type, $bytes) = @_; return { mediaType => $type, digest => 'sha256:' . sha256_hex($bytes), size => length $bytes } }
sub image
{
	my ($mode) = @_;
	my @layers;
	for my $i (reverse 1 .. ($mode eq 'barrier' ? 3 : 1)) {
		$data = header("$mode$i", length $noise) . $noise . "\0" x 1024;
		$layer = descriptor('application/vnd.oci.image.layer.v1.tar', $data);
		$bodies{$layer->{digest}} = $data;
		unshift @layers, $layer;
	}
	$config = $json->encode({ architecture => 'amd64', os => 'linux', config => {}, rootfs => { type => 'layers', diff_ids => [map { $_->{digest} } @layers] } });
	$manifest = { schemaVersion => 2, mediaType => $OCI, config => descriptor('application/vnd.oci.image.config.v1+json', $config), layers => \@layers };
	$root = descriptor($OCI, $json->encode($manifest));
}

# Counts the calls of a mode across processes.
sub nth
{
	my ($what) = @_;
	open my $h, '>>', "$state/n-$what" or die;
	syswrite $h, '.';
	return -s $h;
}

my ($s, $req); # the connection, the request
sub out { my ($data) = @_; my $at = 0; while ($at < length $data) { my $n = syswrite $s, $data, length($data) - $at, $at; exit 0 unless $n; $at += $n } }
sub head
{
	my ($status, @headers) = @_;
	out("HTTP/1.1 $status\r\nConnection: close\r\n" . join('', map { "$_\r\n" } @headers) . "\r\n");
}
sub answer
{
	my ($status, $body, @headers) = @_;
	head($status, 'Content-Length: ' . length $body, @headers);
	out($body) unless $req->{method} eq 'HEAD';
	exit 0;
}
sub forever { my ($piece, $pause) = @_; while (1) { out($piece); select undef, undef, undef, $pause if $pause } }
sub drip { my ($text, $pause) = @_; for (split //, $text) { out($_); select undef, undef, undef, $pause } }
sub manifest_is { my ($doc, $type) = @_; answer('200 OK', ref $doc ? $json->encode($doc) : $doc, "Content-Type: " . ($type // $OCI)) }
sub changed { my ($fn) = @_; my $m = $json->decode($json->encode($manifest)); $fn->($m); manifest_is($m) }
# Large documents are put together by hand: the encoder is slow.
sub with_member
{
	my ($name, $text) = @_;
	my %rest = %$manifest;
	delete $rest{$name};
	$text = "[$text]" if $name eq 'layers';
	return $json->encode(\%rest) =~ s/\}$/,"$name":$text}/r;
}
sub challenge { my ($realm) = @_; answer('401 Unauthorized', '{}', "WWW-Authenticate: Bearer realm=\"$realm\",service=\"hostile\"") }
sub bearer { my ($realm) = @_; challenge($realm // "http://127.0.0.1:$port/token/$req->{mode}") unless $req->{auth} eq 'Bearer tok-VERY-s3cret' }
# The layer from where the client asks, but at most this much of it.
sub part
{
	my ($max, $from) = @_;
	$from //= $req->{range} =~ /bytes=(\d+)-/ ? $1 : 0;
	my $rest = substr $data, $from;
	head($from ? '206 Partial Content' : '200 OK', 'Content-Length: ' . length $rest,
		$from ? sprintf 'Content-Range: bytes %d-%d/%d', $from, length($data) - 1, length($data) : ());
	out(substr $rest, 0, $max);
	exit 0;
}
my $ok = sub { }; # as an honest registry
my $digits = '0123456789abcdef' x 4;

# mode => { manifest, layer, any, token: what is done instead of the honest thing; "any" comes first }
my %modes = (
	good => {},
	barrier => { blob => sub { # layers are answered once all three are asked for
		return if $_[0] eq $manifest->{config}{digest};
		nth("barrier-$_[0]");
		my $tries = 0;
		select undef, undef, undef, 0.05 while (my @asked = glob "$state/n-barrier-*") < 3 && $tries++ < 400;
		answer('400 Bad Request', '') if $tries >= 400;
	} },
	wrongbyte => { layer => sub { my $d = $data; substr($d, 5000, 1) ^= "\1"; answer('200 OK', $d) } },
	wrongmanifest => { manifest => sub { changed(sub { $_[0]{annotations} = { evil => 'yes' } }) } },
	shortbody => { layer => sub { answer('200 OK', 'short') } },
	longbody => { layer => sub { answer('200 OK', $data . 'more') } },
	emptybody => { layer => sub { answer('200 OK', '') } },
	endlessblob => { layer => sub { head('200 OK', 'Transfer-Encoding: chunked'); forever("4000\r\n" . ('x' x 0x4000) . "\r\n") } },
	endlessmanifest => { manifest => sub { head('200 OK', "Content-Type: $OCI"); forever(' ' x 65536) } },
	endlessconfig => { config => sub { head('200 OK'); forever('{' x 65536) } },
	endlessheaders => { manifest => sub { out("HTTP/1.1 200 OK\r\n"); forever('X-More: ' . ('y' x 4000) . "\r\n") } },
	endlessline => { manifest => sub { out("HTTP/1.1 200 OK\r\nX-Line: "); forever('y' x 65536) } },
	endless100 => { manifest => sub { forever("HTTP/1.1 100 Continue\r\n\r\n") } },
	hugelength => { layer => sub { head('200 OK', 'Content-Length: 1152921504606846976'); out('x' x 100000); exit 0 } },
	lengthwrap => { layer => sub { head('200 OK', 'Content-Length: 18446744073709551617'); out('x' x 100000); exit 0 } },
	twolengths => { layer => sub { head('200 OK', 'Content-Length: 5', 'Content-Length: 500000'); out('x' x 500000); exit 0 } },
	chunklie => { layer => sub { head('200 OK', 'Transfer-Encoding: chunked'); out("ffffffffffffffff0\r\n" . ('x' x 100000)); exit 0 } },
	chunkshort => { layer => sub { head('200 OK', 'Transfer-Encoding: chunked'); out("100000\r\nxxxx"); exit 0 } },
	chunkjunk => { layer => sub { head('200 OK', 'Transfer-Encoding: chunked'); out("zz\r\nxxxx\r\n0\r\n\r\n"); exit 0 } },
	nohttp => { manifest => sub { out("\0\1\2 this is no HTTP\n" x 1000); exit 0 } },
	silence => { manifest => sub { sleep 600 } },
	stall => { layer => sub { head('200 OK', "Content-Length: $layer->{size}"); out('x' x 1000); sleep 600 } },
	loris => { layer => sub { head('200 OK', "Content-Length: $layer->{size}"); forever('x', 0.2) } },
	lorishead => { layer => sub { out("HTTP/1.1 200 OK\r\n"); while (1) { drip('X-A: b', 0.1); out("\r\n") } } },
	cut => { layer => sub { part(int($layer->{size} * 0.4)) } },
	cutoften => { layer => sub { part(10) } },
	rangeignored => { layer => sub { nth('rangeignored') == 1 ? part(100000) : part(1 << 30, 0) } },
	rangelies => { layer => sub { nth('rangelies') == 1 ? part(100000) : answer('206 Partial Content', 'x' x 1000, 'Content-Range: bytes 7-1006/2000') } },
	rangejunk => { layer => sub { nth('rangejunk') == 1 ? part(100000) : answer('206 Partial Content', 'x' x 1000, 'Content-Range: bytes -1-99999999999999999999/*') } },
	range416 => { layer => sub { nth('range416') == 1 ? part(100000) : $req->{range} ? answer('416 Range Not Satisfiable', '') : part(1 << 30) } },
	later => { manifest => sub { answer('429 Too Many Requests', '', 'Retry-After: 1') if nth('later') <= 2 } },
	laterdate => { manifest => sub { answer('503 Service Unavailable', '', 'Retry-After: ' . strftime('%a, %d %b %Y %H:%M:%S GMT', gmtime(time + 2))) if nth('laterdate') == 1 } },
	never => { manifest => sub { answer('429 Too Many Requests', '{"errors":[{"code":"TOOMANYREQUESTS","message":"come back tomorrow"}]}', 'Retry-After: 86400') } },
	once500 => { any => sub { answer('500 Internal Server Error', '') if nth('once500-' . sha256_hex($req->{path})) == 1 } },
	always500 => { any => sub { answer('500 Internal Server Error', "oops \e[31m" x 100000) } },
	talk => { manifest => sub { answer('400 Bad Request', $json->encode({ errors => [{ code => 'X', message => "read \e[31m\x07this " . ('long ' x 1000) }] })) } },
	warning => { any => sub { head('200 OK', "Warning: 299 - \"no \e[31msoup\"", 'Content-Length: 2'); out('{}'); exit 0 } },
	redirloop => { manifest => sub { answer('302 Found', '', "Location: $req->{path}?again") } },
	redirfile => { layer => sub { answer('302 Found', '', 'Location: file:///etc/passwd') } },
	redirodd => { layer => sub { answer('302 Found', '', 'Location: gopher://127.0.0.1/x') } },
	redirnowhere => { layer => sub { answer('302 Found', '') } },
	redirauth => { any => \&bearer, blob => sub { answer('307 Temporary Redirect', '', "Location: http://127.0.0.1:$other$req->{path}") } },
	rediruser => { any => \&bearer, blob => sub { answer('307 Temporary Redirect', '', "Location: http://a:b\@127.0.0.1:$other$req->{path}") } },
	nosy => { any => \&bearer, blob => sub { answer('307 Temporary Redirect', '', "Location: http://127.0.0.1:$other/nosy$req->{path}") } },
	downgrade => { blob => sub { answer('307 Temporary Redirect', '', "Location: http://127.0.0.1:$other$req->{path}") } },
	realmdown => { any => sub { challenge("http://127.0.0.1:$other/token") } },
	realmodd => { any => sub { challenge('file:///etc/passwd') } },
	auth => { any => \&bearer },
	expires => { any => sub { my $n = nth('expires'); bearer(); challenge("http://127.0.0.1:$port/token/expires") if $n == 4 } },
	tokenendless => { any => \&bearer, token => sub { head('200 OK'); forever('{"token":"' . ('a' x 65536)) } },
	tokenhuge => { any => \&bearer, token => sub { answer('200 OK', $json->encode({ token => 'a' x 2000000 })) } },
	tokenlines => { any => \&bearer, token => sub { answer('200 OK', $json->encode({ token => "a\r\nX-Evil: 1" })) } },
	tokennever => { any => sub { challenge("http://127.0.0.1:$port/token/tokennever") } },
	kinds => { manifest => sub { changed(sub { $_[0]{manifests} = [$root] }) } },
	kind2 => { manifest => sub { manifest_is($manifest, $INDEX) } },
	schema1 => { manifest => sub { manifest_is({ schemaVersion => 1, fsLayers => [] }, 'application/vnd.docker.distribution.manifest.v1+json') } },
	artifact => { manifest => sub { changed(sub { $_[0]{artifactType} = 'application/x-helm-chart' }) } },
	manylayers => { manifest => sub { manifest_is(with_member('layers', join ',', ($json->encode($layer)) x 5000)) } },
	manyentries => { manifest => sub { manifest_is("{\"schemaVersion\":2,\"manifests\":[" . join(',', ($json->encode($root)) x 20000) . ']}', $INDEX) } },
	itself => { manifest => sub { manifest_is({ schemaVersion => 2, mediaType => $INDEX, manifests => [{ %$root, mediaType => $INDEX }] }, $INDEX) } },
	hugemanifest => { manifest => sub { manifest_is(with_member('annotations', '{"x":"' . 'y' x 6000000 . '"}')) } },
	deepjson => { manifest => sub { manifest_is(('[' x 200000) . (']' x 200000)) } },
	html => { manifest => sub { answer('200 OK', '<html>please log in to our fine wireless network</html>', 'Content-Type: text/html') } },
	foreign => { manifest => sub { changed(sub { $_ = { %$_, mediaType => 'application/vnd.oci.image.layer.nondistributable.v1.tar+gzip', urls => ["http://127.0.0.1:$other/layer"] } for @{$_[0]{layers}} }) } },
	urls => { any => \&bearer, manifest => sub { changed(sub { $_ = { %$_, urls => ["http://127.0.0.1:$other/layer"] } for @{$_[0]{layers}} }) } },
	sizebig => { manifest => sub { changed(sub { $_[0]{layers}[0]{size} = 4611686018427387904 }) } },
	sizeneg => { manifest => sub { changed(sub { $_[0]{layers}[0]{size} = -1 }) } },
	configbig => { manifest => sub { changed(sub { $_[0]{config}{size} = 1 << 40 }) } },
	digestpath => { manifest => sub { changed(sub { $_[0]{layers}[0]{digest} = 'sha256:../../../../etc/passwd' }) } },
	digest512 => { manifest => sub { changed(sub { $_[0]{layers}[0]{digest} = 'sha512:' . $digits x 2 }) } },
	digestcase => { manifest => sub { changed(sub { $_[0]{layers}[0]{digest} = 'sha256:' . uc $digits }) } },
	missing => { manifest => sub { changed(sub { $_[0]{layers}[0]{digest} = "sha256:$digits" }) } },
);

sub serve
{
	my ($who) = @_;
	my $text = '';
	alarm 300;
	while ($text !~ /\r\n\r\n/ && length $text < 65536) { sysread($s, $text, 4096, length $text) or exit 0 }
	my ($method, $path) = $text =~ /^(\S+) (\S+)/ or exit 0;
	my ($auth) = $text =~ /^Authorization: (.*?)\r$/mi;
	my ($range) = $text =~ /^Range: (.*?)\r$/mi;
	$req = { method => $method, path => $path, auth => $auth // '', range => $range // '' };
	open my $log, '>>', "$state/log" or die;
	syswrite $log, "$who $method $path\t$req->{auth}\t$req->{range}\n";
	if ($who eq 'other') {
		answer('200 OK', '{"token":"tok-VERY-s3cret"}') if $path =~ m{^/token};
		answer('401 Unauthorized', '', "WWW-Authenticate: Bearer realm=\"http://127.0.0.1:$other/token\",service=\"nosy\"") if $path =~ m{^/nosy};
	}
	if ($path =~ m{^/token/(\w+)}) {
		$req->{mode} = $1;
		($modes{$1}{token} // $ok)->();
		answer('401 Unauthorized', '{"details":"who are you?"}') unless $req->{auth} eq 'Basic dGVzdGVyOnMzY3JldC13b3Jk'; # tester:s3cret-word
		answer('200 OK', '{"token":"tok-VERY-s3cret"}');
	}
	answer('200 OK', '{}') if $path eq '/v2/';
	my ($mode, $kind, $what) = $path =~ m{^/v2/(\w+)/img/(manifests|blobs)/([^?]+)} or answer('404 Not Found', '{}');
	$req->{mode} = $mode;
	my $m = $modes{$mode} or answer('404 Not Found', '{}');
	image($mode);
	if ($who eq 'registry') {
		($m->{any} // $ok)->();
		($m->{manifest} // $ok)->() if $kind eq 'manifests';
		($m->{blob} // $ok)->($what) if $kind eq 'blobs';
		($m->{layer} // $ok)->() if $what eq $layer->{digest};
		($m->{config} // $ok)->() if $what eq $manifest->{config}{digest};
	}
	$bodies{$_} = $json->encode($manifest) for 1, $root->{digest};
	$bodies{$manifest->{config}{digest}} = $config;
	my $body = $bodies{$what} // answer('404 Not Found', '{}');
	answer('200 OK', $body, 'Content-Type: ' . ($kind eq 'manifests' ? $OCI : 'application/octet-stream'));
}

sub listen_on
{
	my ($who, $at) = @_;
	my $l = IO::Socket::INET->new(LocalAddr => '127.0.0.1', LocalPort => $at, Listen => 64, ReuseAddr => 1) or die "port $at: $!";
	while (1) {
		$s = $l->accept or next;
		next if fork;
		close $l;
		serve($who);
		exit 0;
	}
}
if ($state eq 'list') {
	print join(' ', sort keys %modes), "\n";
	exit 0;
}
if (!fork) { listen_on('other', $other) }
listen_on('registry', $port);
