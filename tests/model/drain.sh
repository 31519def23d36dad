#!/bin/sh
# SPDX-License-Identifier: MIT
#
# drain.sh - checks tests/model/drain.pml with spin: the protocol of drain_cpu() verifies, and each mutant of it gives
# a counterexample (else the model proves nothing). Some seconds.
#
# timeout: 300
set -u
: "${top_srcdir:=$(cd "$(dirname "$0")/../.." && pwd)}" "${CC:=gcc}"
model=$top_srcdir/tests/model/drain.pml

command -v spin >/dev/null || {
	echo "spin is not installed (Debian: spin)"
	exit 77
}
dir=$(mktemp -d "${TMPDIR:-/tmp}/kmm-model.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT
cd "$dir" || exit 99

# Prints pan's report for a variant of the model.
explore() {
	spin "$@" -a "$model" && "$CC" -O1 -DSAFETY -o pan pan.c && ./pan -m100000 && return
	echo "$*: the model does not build or run" >&2
	exit 1
}

# Every state within the bounds, none of them wrong, every statement reached.
explore >report || exit 1
if ! grep -q 'errors: 0$' report || grep -q 'max search depth too small' report; then
	cat report
	echo "the protocol fails"
	exit 1
fi
if sed -n '/^unreached in/,/^$/p' report | grep 'line\|drain.pml:' | grep -v -- '-end-'; then
	echo "these statements of the model are never reached"
	exit 1
fi
sed -n 's/^ *\([0-9]*\) states, stored.*/the protocol holds in \1 states/p' report

for mutant in NO_MEMBARRIER NO_SECOND_LOOK REPLACE_STOP; do
	explore -D$mutant >report || exit 1
	grep -q 'assertion violated' report || {
		cat report
		echo "$mutant: not found out"
		exit 1
	}
	echo "$mutant: counterexample found"
done
