# SPDX-License-Identifier: MIT
#
# lib.sh - common part of the preload matrix; sourced, never run.
#
# A test of the matrix runs an unmodified program twice, in two fresh directories: bare, and under libkmm by
# LD_PRELOAD. Exit status and standard output must be the same, and stderr must hold no line of libkmm's or of
# the dynamic linker's complaints. tests/run starts it, once for each mode that the test's head names, and sets
# LIBKMM, the library to test; MATRIX_LONG asks for the long form (make torture). Exit status: 0 passed,
# 1 failed, 77 skipped (program not installed).

set -u
export LC_ALL=C

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
top=$(cd "$here/../.." && pwd)
name=$(basename "$0" .sh)
python=${PYTHON3:-/usr/bin/python3}

if [ -z "${LIBKMM-}" ]; then
	LIBKMM=$PWD/lib/.libs/libkmm.so
	[ -e "$LIBKMM" ] || LIBKMM=$top/lib/.libs/libkmm.so
fi
if ! [ -e "$LIBKMM" ]; then
	echo "$name: FAILED: no library at $LIBKMM"
	exit 1
fi
lib=$(cd "$(dirname "$LIBKMM")" && pwd)/$(basename "$LIBKMM")
unset LIBKMM LIBKMM_DEBUG LIBKMM_TOOL LIBKMM_TORTURE
unset KMM_STATS KMM_VERBOSE LD_PRELOAD

long() { [ -n "${MATRIX_LONG-}" ]; }

failed=0
fail() {
	echo "$name: FAILED: $*"
	failed=1
}

need() {
	local program
	for program; do
		command -v "$program" >/dev/null || { echo "$name: skipped, $program is not installed"; exit 77; }
	done
}

tmp=$(mktemp -d "${TMPDIR:-/tmp}/matrix.XXXXXX") || exit 1
trap 'rm -rf "$tmp"' EXIT
trap 'exit 143' TERM INT

# Exported functions' and commands' children get the library, the shell itself does not.
with_lib() { LD_PRELOAD=$lib "$@"; }

# clean_stderr LABEL FILE: nothing from libkmm, nothing from ld.so.
clean_stderr() {
	if grep -a -E '(^|[^[:alnum:]])kmm: |^ERROR: ld\.so' "$2" >"$tmp/lines"; then
		fail "$1: a message of libkmm or of ld.so:"
		head -5 "$tmp/lines"
	fi
}

# is_loaded PID: the process really has the library mapped.
is_loaded() { grep -q -F "$(readlink -f "$lib")" "/proc/$1/maps"; }

# In a subshell of its own: LABEL's working directory for one side, output and status beside it.
one_side() {
	local side=$1 label=$2
	shift 2
	(
		mkdir -p "$tmp/$label.$side" && cd "$tmp/$label.$side" || exit 1
		[ "$side" = bare ] || export LD_PRELOAD=$lib
		"$@" </dev/null
	) >"$tmp/$label.$side.out" 2>"$tmp/$label.$side.err"
	echo $? >"$tmp/$label.$side.status"
}

# same LABEL COMMAND|FUNCTION [ARGS]: both sides at the same time; they must agree, and the bare side must succeed.
same() {
	local label=$1
	shift
	one_side bare "$label" "$@" &
	one_side kmm "$label" "$@"
	wait $!
	local bare kmm
	bare=$(cat "$tmp/$label.bare.status") kmm=$(cat "$tmp/$label.kmm.status")
	if [ "$bare" -ne 0 ]; then
		fail "$label: exit status $bare without the library:"
		tail -5 "$tmp/$label.bare.err"
	fi
	if [ "$bare" -ne "$kmm" ]; then
		fail "$label: exit status $bare without, $kmm with the library; its last words:"
		tail -n 12 "$tmp/$label.kmm.out"
		tail -n 12 "$tmp/$label.kmm.err"
	elif ! cmp -s "$tmp/$label.bare.out" "$tmp/$label.kmm.out"; then
		fail "$label: the output differs (< without, > with the library):"
		diff -a "$tmp/$label.bare.out" "$tmp/$label.kmm.out" | head -12
	elif ! [ -s "$tmp/$label.kmm.out" ]; then
		fail "$label: printed nothing, so nothing was compared"
	fi
	clean_stderr "$label" "$tmp/$label.kmm.err"
}

# same_file LABEL FILE...: files that both sides made must be byte for byte the same.
same_file() {
	local label=$1 file
	shift
	for file; do
		cmp "$tmp/$label.bare/$file" "$tmp/$label.kmm/$file" || fail "$label: $file differs"
	done
}

finish() {
	[ $failed -ne 0 ] || echo "$name: passed"
	exit $failed
}

# The library is mapped by a preloaded program at all: without this every comparison below would hold.
with_lib cat /proc/self/maps >"$tmp/maps" 2>"$tmp/maps.err"
if ! grep -q -F "$(readlink -f "$lib")" "$tmp/maps"; then
	echo "$name: FAILED: $lib is not loaded by LD_PRELOAD"
	cat "$tmp/maps.err"
	exit 1
fi
