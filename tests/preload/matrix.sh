#!/bin/bash
# SPDX-License-Identifier: MIT
# Runs the tests of this folder one after another and prints a table: matrix.sh [NAME...]. Each is a test of its
# own as well; LIBKMM, KMM_PERCPU and MATRIX_LONG are read by lib.sh.
here=$(dirname "$0")
tests="python-testsuite python-threads gcc gxx git sqlite redis perl node compress text gdb valgrind"
failed=0
for t in ${*:-$tests}; do
	start=$(date +%s.%N)
	output=$(bash "$here/$t.sh" 2>&1)
	status=$?
	case $status in
	0) verdict=PASS ;;
	77) verdict=SKIP ;;
	*) verdict=FAIL failed=1 ;;
	esac
	printf '%-4s %-18s %6.1f s\n' $verdict "$t" "$(echo "$(date +%s.%N) $start" | awk '{ print $1 - $2 }')"
	[ $status -eq 0 ] || printf '%s\n' "$output" | sed 's/^/     | /'
done
exit $failed
