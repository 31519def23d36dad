#!/bin/sh
# SPDX-License-Identifier: MIT
#
# mesh_refused.sh - where userfaultfd is not allowed, compaction says so in one line if it was asked for by name, not at
# all in auto mode, and the rest of reclaim goes on.
#
# timeout: 120

set -u
out=$(mktemp) || exit 99
trap 'rm -f "$out"' EXIT

drop=
if [ "$(id -u)" -eq 0 ]; then
	drop='setpriv --bounding-set=-sys_ptrace'
	$drop true 2>/dev/null || { echo "setpriv is missing"; exit 77; }
fi
if [ "$(cat /proc/sys/vm/unprivileged_userfaultfd 2>/dev/null)" != 0 ]; then
	echo "userfaultfd is allowed to everybody, or not there at all"
	exit 77
fi

# $1: mode, $2: lines that are to be said
try()
{
	KMM_COMPACT=$1 LD_PRELOAD=$LIBKMM $drop "$top_builddir/bench/macro/ratchet" 96 3 >"$out" 2>&1 ||
		{ echo "$1: exit status $?"; return 1; }
	said=$(grep -c 'kmm: ' "$out")
	[ "$said" -eq "$2" ] || { echo "$1: $said lines instead of $2"; cat "$out"; return 1; }
	[ "$2" -eq 0 ] || grep -q 'mesh cannot work here .*CAP_SYS_PTRACE' "$out" || { grep 'kmm: ' "$out"; return 1; }
	# without reclaim, what was freed would stay: eleven times the live bytes and more
	awk '/^ratchet-1/ { seen = 1; exit !($2 < 9.5) } END { if (!seen) exit 1 }' "$out" || { grep ratchet "$out"; return 1; }
}
try mesh 1 && try auto 0 && try off 0
