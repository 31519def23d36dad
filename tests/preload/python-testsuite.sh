#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# Modules of CPython's own test suite (Debian: libpython3.11-testsuite), with every object from malloc.
. "$(dirname "$0")/lib.sh"
need $python
$python -c 'import test.test_list' 2>/dev/null || { echo "$name: skipped, python3's test suite is not installed"; exit 77; }

# The suite's verdict on each single test, in a fixed order; times and progress lines are left out.
verdicts() {
	local status
	"$@" >log 2>&1
	status=$?
	grep -a -E -o '^test_[A-Za-z0-9_]+ \([^)]*\).* \.\.\. (ok|skipped|FAIL|ERROR|expected failure)$' log |
		sed -E 's/\).* \.\.\. /) /' | sort
	grep -a -E '^(Tests result|Total tests|test_[a-z0-9]+ (failed|crashed))' log
	[ $status -eq 0 ] || tail -40 log >&2
	! grep -a 'kmm: ' log >&2 || return 1
	return $status
}

containers="test_list test_dict test_bytes test_json test_collections test_re"
! long || containers="$containers test_set test_itertools test_queue test_zlib test_sort test_concurrent_futures"
set -f	# the patterns below are for unittest
# -m PATTERN... from the words given, nothing in the long form. A pattern must not match "test_subprocess" itself.
only() { long || printf -- '-m %s ' "$@"; }

export PYTHONMALLOC=malloc
same containers verdicts $python -m test -v $containers
same threading verdicts $python -m test -v $(only ThreadTests LockTests BarrierTests) test_threading
same subprocess verdicts $python -m test -v $(only 'test_st[adr]*' 'test_sh*' 'test_call*' 'test_pass*' 'test_close*' \
	'test_pipe*' 'test_preexec*' 'test_env*' 'test_run*' 'test_user*') test_subprocess
unset PYTHONMALLOC
same pymalloc verdicts $python -m test -v test_json test_deque
finish
