# SPDX-License-Identifier: MIT
# Builds nested hashes, matches and substitutes, sorts, forks and clones interpreters; prints digests.
use strict;
use warnings;
use Config;
use Digest::SHA qw(sha256_hex);

my $rounds = shift;

sub work {
	my ($seed) = @_;
	my (%words, @lines);
	my $x = $seed;
	for my $i (1 .. 30000) {
		$x = ($x * 1103515245 + 12345) & 0x7fffffff;
		push @lines, join(" ", map { sprintf "w%x", ($x >> $_) & 0xfff } 1 .. 6);
	}
	for (@lines) {
		$words{$1}{$2}++ while /\b(w[0-9a-f])([0-9a-f]*)\b/g;
	}
	my $text = join "\n", @lines;
	my $changed = ($text =~ s/w([0-9])([0-9a-f]+)/"<" . ($1 * 2) . reverse($2) . ">"/ge);
	my @sorted = sort { length($a) <=> length($b) || $a cmp $b } split /\s+/, $text;
	my @closures = map { my $n = $_; sub { $n . ":" . scalar(@_) } } 1 .. 20000;
	my $called = join ",", map { $_->(1, 2) } @closures;
	my $keys = join ",", map { my $k = $_; map { "$k$_=$words{$k}{$_}" } sort keys %{ $words{$k} } } sort keys %words;
	return sha256_hex($text, $keys, @sorted, $called) . " $changed";
}

print work($_), "\n" for 1 .. $rounds;

my @children;
for my $n (1 .. 4) {
	my $pid = open(my $pipe, "-|");
	die "fork: $!" unless defined $pid;
	if (!$pid) {
		print work(100 + $n), "\n";
		exit 0;
	}
	push @children, $pipe;
}
for my $pipe (@children) {
	print while <$pipe>;
	close $pipe or die "a child failed: $?";
}

if ($Config{useithreads}) {
	require threads;
	my @threads = map { my $n = $_; threads->create(sub { work(200 + $n) }) } 1 .. 4;
	print $_->join, "\n" for @threads;
}
