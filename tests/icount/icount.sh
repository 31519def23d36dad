#!/bin/sh
# SPDX-License-Identifier: MIT
#
# icount.sh - instructions a malloc and a free, class by class, against ceilings: times vary, counts do not. icount.c is
# what is measured and tells how rseq comes to valgrind; counts.py has the ceilings and prints the table.
#
# timeout: 300
set -u
: "${top_srcdir:=$(cd "$(dirname "$0")/../.." && pwd)}" "${top_builddir:=$PWD}" "${PYTHON3:=/usr/bin/python3}"
: "${LIBKMM:=$top_builddir/lib/.libs/libkmm.so}"
program=$top_builddir/tests/icount/icount

skip() {
	echo "$*"
	exit 77
}
[ "$(uname -m)" = x86_64 ] || skip "rseq sections are for x86-64 only"
command -v valgrind >/dev/null || skip "valgrind is not installed"
command -v readelf >/dev/null && command -v objdump >/dev/null || skip "binutils are not installed"
valgrind --tool=none -q true >/dev/null 2>&1 || skip "valgrind does not run here"

dir=$(mktemp -d "${TMPDIR:-/tmp}/kmm-icount.XXXXXX") || exit 99
trap 'rm -rf "$dir"' EXIT

# Without debugging information: valgrind needs none here, and 3.19 gives up on clang's.
objcopy --strip-debug "$LIBKMM" "$dir/libkmm.so" && objcopy --strip-debug "$program" "$dir/icount" || exit 1

# libkmm writes constants into its code, which valgrind believes of no file otherwise. No second thread shall have a say, nor the
# clock: nothing decays, kmmd does not run.
count() {
	for mode in auto lock; do
		env KMM_PERCPU=$mode KMM_KTHREAD=0 KMM_DECAY_MS=86400000 LD_PRELOAD="$dir/libkmm.so" \
			valgrind --tool=callgrind --callgrind-out-file="$dir/$mode.out" --smc-check=all --combine-dumps=yes --dump-instr=yes \
			--dump-line=no --compress-strings=no --compress-pos=no --toggle-collect=malloc --toggle-collect=free \
			"$dir/icount" >"$dir/$mode.log" 2>&1
		status=$?
		[ $status -ne 77 ] || skip "$(cat "$dir/$mode.log")"
		[ $status -eq 0 ] || {
			tail -n 20 "$dir/$mode.log"
			echo "KMM_PERCPU=$mode: exit status $status"
			exit 1
		}
	done
	"$PYTHON3" "$top_srcdir/tests/icount/counts.py" "$dir/libkmm.so" "$dir/auto.out" "$dir/lock.out"
}
# The clock has one: how long taking caches back has lasted is how soon growth may do so again (page/vmscan.c), and one size
# pays for it. What is dearer in the code is so twice.
count || {
	echo "once more"
	count
}
