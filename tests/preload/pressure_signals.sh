#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 180
# A program that would keep free memory for an hour gives it back because the kernel signals that others wait for memory: by the
# machine's pressure stall information, and by version 1's memory.pressure_level of its own control group. It has no limit of its own.
. "$(dirname "$0")/lib.sh"
builddir=${top_builddir:-$PWD}
MIB=80 LIMIT=40M HOGS=6 WAIT=40

own=$(sed -n 's/^[0-9]*:memory://p' /proc/self/cgroup)
mount=$(awk '$0 ~ / - cgroup / && $NF ~ /(^|,)memory(,|$)/ { print $5; exit }' /proc/self/mountinfo)
[ -n "$own" ] && [ -n "$mount" ] || { echo "no memory controller of version 1"; exit 77; }
case $(stat -f -c %T "$tmp") in
tmpfs | ramfs) echo "no file that can be read again in $tmp"; exit 77 ;;
esac
top=$mount${own%/}/kmm-signals-$$
mkdir "$top" "$top/program" "$top/hogs" 2>/dev/null || { rmdir "$top" 2>/dev/null; echo "no group can be made here"; exit 77; }
hogs=
end_hogs() {
	[ -z "$hogs" ] || kill $hogs 2>/dev/null
	wait $hogs 2>/dev/null
	hogs=
}
trap 'end_hogs; sleep 0.2; rmdir "$top/hogs" "$top/program" "$top"; rm -rf "$tmp"' EXIT
echo $LIMIT >"$top/hogs/memory.limit_in_bytes" || { echo "no limit can be set here"; exit 77; }

# hog: reads a file of which the half is too much for its group. Written there, so that its pages are charged to it.
(
	echo 0 >"$top/hogs/cgroup.procs"
	exec dd if=/dev/zero of="$tmp/file" bs=1M count=$MIB conv=fsync 2>/dev/null
)
start_hogs() {
	local i
	for ((i = 0; i < HOGS; i++)); do
		(
			echo 0 >"$top/hogs/cgroup.procs"
			exec "$builddir/tests/preload/thrash" "$tmp/file" $((WAIT + 10))
		) &
		hogs+=" $!"
	done
}

# run LABEL GROUP [COMMAND...]: the program in the group, by the command, says when its free memory has gone home.
run() {
	local label=$1 in=$2
	shift 2
	(
		echo 0 >"$in/cgroup.procs"
		KMM_STATS=json:$tmp/stats.$label KMM_KTHREAD=1 KMM_DECAY_MS=3600000 exec "$@" env LD_PRELOAD="$lib" "$builddir/tests/preload/pressure" 4 50 $WAIT
	) 2>"$tmp/err"
	clean_stderr "$label" "$tmp/err"
}

signals() { sed -n 's/.*"vmpressure_signal": *\([0-9]*\).*/\1/p' "$tmp/stats.$1" | head -1; }

# check LABEL OUTPUT
check() {
	local nr
	nr=$(signals "$1")
	echo "$1: $2, ${nr:-no} signals"
	case $2 in
	*" s") ;;
	*) fail "$1: $2" ;;
	esac
	[ "${nr:-0}" -gt 0 ] || fail "$1: no signal came"
}

start_hogs
# Those who wait are in another branch: no signal of the own group.
if [ -w /proc/pressure/memory ]; then
	check psi "$(run psi "$top/program")"
else
	echo "no /proc/pressure/memory"
fi
# They are below the own group, and the machine's file is out of sight.
if unshare -m true 2>/dev/null; then
	check level "$(run level "$top" unshare -m sh -c '[ ! -e /proc/pressure/memory ] || mount --bind /dev/null /proc/pressure/memory; exec "$@"' sh)"
else
	echo "no mount namespace for the signals of the group alone"
fi
end_hogs
finish
