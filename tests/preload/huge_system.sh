#!/bin/sh
# SPDX-License-Identifier: MIT
#
# huge_system.sh - huge pages where the system's setting is always, madvise, never, or always for pages of 64 KiB: dense heaps
# get them, sparse ones are not made larger by them. Changes the settings of the machine and restores them, so only with
# LIBKMM_TORTURE=1.
#
# timeout: 90

set -u
. "$(dirname "$0")/../common/machine.sh"
sys=/sys/kernel/mm/transparent_hugepage
may_change $sys/enabled

# What a file has chosen: the word in brackets.
chosen()
{
	sed 's/.*\[\(.*\)\].*/\1/' "$1"
}
small=$sys/hugepages-64kB/enabled
old=$(chosen $sys/enabled)
old_small=
[ ! -w $small ] || old_small=$(chosen $small)
restore()
{
	echo "$old" >$sys/enabled
	[ -z "$old_small" ] || echo "$old_small" >$small
}
trap restore EXIT
trap 'exit 99' HUP INT TERM

failed=0
fail()
{
	echo "$*"
	failed=1
}

# $1: label, $2: KMM_THP. Without huge pages 90 % free come to 7.8 times the live bytes (bench/README.md).
sparse()
{
	got=$(KMM_COMPACT=off KMM_THP=$2 LD_PRELOAD=$LIBKMM "$top_builddir/bench/macro/ratchet" 128 8 | sed -n 's/^ratchet-1 \([0-9.]*\).*/\1/p')
	echo "system $1, KMM_THP=$2: resident/live $got"
	awk "BEGIN { exit !($got > 0 && $got < 9.0) }" || fail "system $1, KMM_THP=$2: a sparse heap has $got times its live bytes"
}

for setting in always madvise; do
	echo $setting >$sys/enabled
	LD_PRELOAD=$LIBKMM "$top_builddir/tests/preload/huge" || fail "system $setting: status $?"
	for mode in never auto always; do
		sparse $setting $mode
	done
done

# huge says 77 where it may not have any.
echo never >$sys/enabled
LD_PRELOAD=$LIBKMM "$top_builddir/tests/preload/huge" >/dev/null
[ $? -eq 77 ] || fail "system never: not skipped"
sparse never auto

if [ -n "$old_small" ]; then
	echo always >$small
	sparse "never, 64 KiB always" auto
fi
exit $failed
