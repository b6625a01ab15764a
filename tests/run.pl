#!/usr/bin/perl
# SPDX-License-Identifier: Apache-2.0
# run.pl [--build DIR] [--timeout S] [--jobs N] [--lab] [--again N] unit|e2e|FILE…: runs tests under prove's own harness and sums them up.
# --jobs N (1): at once. There are two queues: unit tests and the scripts that mostly wait, and the rest, where what is measured or killed
# at a moment is.
# The last line counts single assertions: "N passed, N failed, N skipped"; the exit status says whether all is well.
# --lab runs each end-to-end script in a lab of its own (tests/lab/run.sh, with the options of the script's line "# lab: …"), on the kvm engine.
# --again N: end-to-end scripts that failed, if they are no more than N, run once more, and that run counts. Both outputs are printed, and a
# line says which scripts needed it: each is a race to be found. Unit tests have no second chance.
use strict;
use warnings;
use File::Basename qw(basename dirname);
use Cwd qw(abs_path);
use Getopt::Long;
use TAP::Harness;

my ($build, $timeout, $jobs, $lab, $again, $verbose) = ('build', 0, 1, 0, 0, $ENV{TEST_VERBOSE} // 0);
GetOptions('build=s' => \$build, 'timeout=i' => \$timeout, 'jobs=i' => \$jobs, 'lab' => \$lab, 'again=i' => \$again, 'verbose' => \$verbose)
	or exit 64;
chdir dirname(abs_path($0)) . '/..' or die;

my @files;
for my $what (@ARGV) {
	if ($what eq 'unit') {
		# What the sources say there is, so that a program that was not built is a failure and not an absence.
		push @files, map { "$build/unit/" . basename($_, '.c') } sort glob 'tests/unit/test_*.c';
	} elsif ($what eq 'e2e') {
		push @files, sort glob 'tests/e2e/*.t';
	} else {
		push @files, $what;
	}
}
@files or die "run.pl: no tests\n";

# cmocka speaks TAP when asked to.
$ENV{CMOCKA_MESSAGE_OUTPUT} = 'TAP';
$ENV{ASAN_OPTIONS}  //= 'detect_leaks=1:abort_on_error=0';
$ENV{UBSAN_OPTIONS} //= 'halt_on_error=1:print_stacktrace=1';

my $beside = '01-binary|03-kernel|04-image|05-pull|13-image-more|16-(?:disk|interop)|17-(?:events|image-parity)|18-(?:again|hostile-(?:registry|tar))|20-unpack|21-.*';
my @queue = grep { !/\.t$/ || m{/(?:$beside)\.t$} } @files;
my $rules = { par => [{ seq => @queue ? \@queue : ['none'] }, { seq => '**' }] };
$rules = { par => '**' } if !grep { /\.t$/ } @files;

# A script may need a lab of another shape: a comment of its own says "lab: OPTION…" (of tests/lab/run.sh).
sub lab_options
{
	open my $in, '<', $_[0] or die "$_[0]: $!\n";
	return map { /^# lab: (--.*)/ ? split ' ', $1 : () } <$in>;
}

my $harness = TAP::Harness->new({
	rules     => $rules,
	verbosity => $verbose ? 1 : 0,
	timer     => 1,
	jobs      => $jobs,
	merge     => 0,
	failures  => 1,
	comments  => 1, # cmocka's reasons are some
	exec      => sub {
		my (undef, $file) = @_;
		my $limit = $timeout || ($lab || $file =~ /\.t$/ ? 900 : 180); # for what hangs: a busy host takes three times as long
		my @cmd = ('timeout', '-k', '10', $limit);
		push @cmd, 'tests/lab/run.sh', '--timeout', $limit - 20, lab_options($file), '--' if $lab;
		# In the lab what a failed assertion saw comes with the rest.
		my $comments = $lab ? '-e "/^#/{w /dev/stderr" -e "d}"' : '"/^#/d"';
		return ['bash', '-o', 'pipefail', '-c', "\"\$@\" | sed -u $comments", 'run', @cmd, 'bash', $file] if $file =~ /\.t$/;
		# cmocka's TAP calls a skipped test "not ok", which is a failure to everyone else.
		return ['bash', '-o', 'pipefail', '-c', '"$@" | sed "/^# ok - /d; s/^not ok \\([0-9]*\\) # SKIP/ok \\1 # SKIP/"', 'run', @cmd, $file];
	},
});
my @reasons;
$harness->callback(made_parser => sub {
	my ($parser) = @_;
	$parser->callback(test => sub { push @reasons, $_[0]->description . ': ' . $_[0]->explanation if $_[0]->has_skip });
});
my $result = $harness->runtests(@files);
my %parser = map { $_ => $result->parsers($_) } $result->descriptions;

# A program that died, ran out of time or kept less than its plan is a failure even if each line it printed was fine.
sub failures
{
	my ($p) = @_;
	return $p->actual_failed || ($p->has_problems ? 1 : 0);
}

my @bad = grep { failures($parser{$_}) } @files;
my @twice;
if (@bad && @bad <= $again && !grep { !/\.t$/ } @bad) {
	print "again: @bad\n";
	my $second = $harness->runtests(@bad);
	($parser{$_}) = $second->parsers($_) for @bad;
	@twice = grep { !failures($parser{$_}) } @bad;
}

my ($passed, $failed, $skipped) = (0, 0, 0);
for my $p (map { $parser{$_} } @files) {
	my @skips = $p->skipped;
	$skipped += @skips;
	$passed += $p->actual_passed - @skips;
	$failed += failures($p);
	if ($p->skip_all) {
		$skipped++;
		push @reasons, $p->skip_all;
	}
}
my %seen;
print "skipped: $_\n" for grep { !$seen{$_}++ } @reasons;
print "failed at first, passed when run again: $_\n" for @twice;
print "$passed passed, $failed failed, $skipped skipped\n";
exit($failed || !$passed ? 1 : 0);
