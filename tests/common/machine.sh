# SPDX-License-Identifier: MIT
#
# machine.sh - for tests that change a setting of the whole machine and put it back; sourced, never run.

# may_change FILE: ends the test as skipped where that is not wanted, or cannot be.
may_change()
{
	if [ "${LIBKMM_TORTURE:-0}" = 0 ]; then
		echo "only with LIBKMM_TORTURE=1: it changes a setting of the machine"
		exit 77
	fi
	if [ ! -w "$1" ]; then
		echo "$1 cannot be written"
		exit 77
	fi
}
