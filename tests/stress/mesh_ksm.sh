#!/bin/sh
# SPDX-License-Identifier: MIT
#
# mesh_ksm.sh - the torture of meshing (mesh.c) by kernel samepage merging, in both modes of the sheaves. Switches that on for the whole
# machine and puts it back, so only with LIBKMM_TORTURE=1.
#
# timeout: 100

set -u
. "$(dirname "$0")/../common/machine.sh"
ksm=/sys/kernel/mm/ksm
may_change $ksm/run
tmp=$(mktemp -d) || exit 99
exec 9<$ksm/run
flock 9		# the setting is the machine's: so does tests/unit/mm/mesh_ksm_test
old_run=$(cat $ksm/run) old_pages=$(cat $ksm/pages_to_scan)
restore()
{
	echo "$old_pages" >$ksm/pages_to_scan
	echo "$old_run" >$ksm/run
	rm -rf "$tmp"
}
trap restore EXIT
trap 'exit 99' HUP INT TERM
echo 1 >$ksm/run
echo 4000 >$ksm/pages_to_scan

failed=0
for mode in auto lock; do
	KMM_COMPACT=ksm KMM_KTHREAD=1 KMM_DECAY_MS=50 KMM_PERCPU=$mode KMM_STATS="text:$tmp/stats.%p" LD_PRELOAD=$LIBKMM \
		"$top_builddir/tests/stress/mesh" 2>"$tmp/err" || { echo "$mode: status $?"; failed=1; }
	cat "$tmp/err"
	slabs=$(sed -n 's/^mesh_slab: *//p' "$tmp"/stats.* /dev/null | sort -n | tail -1)
	pages=$(sed -n 's/^mesh_page: *//p' "$tmp"/stats.* /dev/null | sort -n | tail -1)
	echo "$mode: ${slabs:-no} slabs made equal, ${pages:-no} pages merged"
	[ "${slabs:-0}" -gt 100 ] && [ "${pages:-0}" -gt 0 ] || failed=1
	rm -f "$tmp"/stats.*
done
exit $failed
