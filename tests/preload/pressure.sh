#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 120
# modes: auto lock
# A program that frees memory and would keep it for an hour gives it back soon when its real control group is nearly full.
. "$(dirname "$0")/lib.sh"
builddir=${top_builddir:-$PWD}
program=$builddir/tests/preload/pressure

# Only version 1's controller, and only where groups may be made.
own=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
mount=$(awk '$0 ~ / - cgroup / && $NF ~ /(^|,)memory(,|$)/ { print $5; exit }' /proc/self/mountinfo)
[ -n "$own" ] && [ -n "$mount" ] || { echo "no memory controller of version 1"; exit 77; }
group=$mount${own%/}/kmm-pressure-$$
mkdir "$group" 2>/dev/null || { echo "no group can be made here"; exit 77; }
trap 'rmdir "$group"; rm -rf "$tmp"' EXIT
echo 80M >"$group/memory.limit_in_bytes" || { echo "no limit can be set here"; exit 77; }

# run IN KEEP FREE SECONDS: in the group or not.
run() {
	local in=$1
	shift
	(
		[ "$in" = no ] || echo 0 >"$group/cgroup.procs"
		KMM_STATS=json:$tmp/stats.$in KMM_KTHREAD=1 KMM_DECAY_MS=3600000 LD_PRELOAD=$lib exec "$program" "$@"
	) 2>"$tmp/err"
	clean_stderr "$in" "$tmp/err"
}

# 74 of 80 MiB were in use, and 50 of these are free: room enough when they have gone, so the last of them may stay.
out=$(run yes 24 50 20)
case $out in
[0-9].?" s") echo "nearly full: $out" ;;
*) fail "in a group that is nearly full: $out" ;;
esac
grep -qE '"vmpressure_(low|medium|critical)": *[1-9]' "$tmp/stats.yes" || fail "no pressure was counted"

# The same program outside of the group: nothing goes home for an hour.
out=$(run no 24 50 4)
[ "$out" = never ] || fail "without pressure: $out"
exit $failed
