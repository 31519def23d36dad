#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 120
# The quota of the process: absolute, as a share, auto, in a real control group where one can be made; and absurd values.
. "$(dirname "$0")/lib.sh"
need $python

# limits SETTING...: the root's max and high, as the statistics have them.
limits() {
	env "$@" KMM_STATS=json:"$tmp/stats" LD_PRELOAD=$lib $python -c 'print(len(bytes(1000)))' >"$tmp/out" 2>"$tmp/err" || fail "$*: status $?"
	[ "$(cat "$tmp/out")" = 1000 ] || fail "$*: the program did not run"
	$python -c 'import json, sys; g = json.load(open(sys.argv[1]))["memcg"]["groups"][0]; print(g["max"], g["high"])' "$tmp/stats"
}

# has WANTED SETTING...
has() {
	local wanted=$1 got
	shift
	got=$(limits "$@")
	[ "$got" = "$wanted" ] || fail "$*: \"$got\" instead of \"$wanted\""
}

mib() { echo $(($1 << 20)); }

has "max max"
has "$(mib 300) max" KMM_MEMORY_MAX=300M
has "$(mib 2048) $(mib 100)" KMM_MEMORY_MAX=2G KMM_MEMORY_HIGH=100M
clean_stderr absolute "$tmp/err"
has "$(($(mib 1024) * 1024 * 4096)) max" KMM_MEMORY_MAX=4096T		# larger than RAM: accepted

# Absurd: one line, and the default holds.
for bad in 0 1 100K 4M; do
	for setting in MAX HIGH; do
		has "max max" "KMM_MEMORY_$setting=$bad"
		[ "$(cat "$tmp/err")" = "kmm: KMM_MEMORY_$setting is below 4576 kB, which one slab of each size class needs: it is ignored" ] ||
			fail "KMM_MEMORY_$setting=$bad: $(cat "$tmp/err")"
	done
done
has "$((4576 << 10)) max" KMM_MEMORY_MAX=4576K KMM_KTHREAD=0 2>/dev/null
for bad in '' x -1 1x 1.5G 0x10 101% 0% nan '1 G' 99999999999999999999999; do
	for setting in MAX HIGH; do
		has "max max" "KMM_MEMORY_$setting=$bad"
		[ "$(grep -c "^kmm: .*KMM_MEMORY_$setting" "$tmp/err")" = 1 ] && [ "$(wc -l <"$tmp/err")" = 1 ] ||
			fail "KMM_MEMORY_$setting='$bad': $(cat "$tmp/err")"
	done
done

# Over max the program is told, below it is not; over high it goes on.
reach='
import sys
try:
    x = [bytes(1 << 20) for _ in range(int(sys.argv[1]))]
    print(len(x))
except MemoryError:
    print("MemoryError")'
for try in "MAX=100M 50 50" "MAX=100M 150 MemoryError" "HIGH=100M 102 102"; do
	set -- $try
	got=$(env "KMM_MEMORY_$1" LD_PRELOAD=$lib $python -c "$reach" "$2" 2>&1)
	[ "$got" = "$3" ] || fail "KMM_MEMORY_$1: $2 MiB: $got"
done

# Over high who allocates waits: measured, and shown. Below it, and without, nobody does.
root() {
	$python - "$tmp/stats" <<-EOF || fail "$1: the statistics: $2"
		import json, sys
		root = json.load(open(sys.argv[1]))["memcg"]["groups"][0]
		assert root["path"] == "/" and $2, root
	EOF
}
slow='
import time
begin = time.monotonic()
x = [bytes(1 << 16) for _ in range(640)]	# 40 MiB
print("waits" if time.monotonic() - begin > 0.3 else "does not wait")'
for try in "38M=waits" "100M=does not wait"; do
	got=$(KMM_MEMORY_HIGH=${try%=*} KMM_STATS=json:$tmp/stats LD_PRELOAD=$lib $python -c "$slow" 2>&1)
	[ "$got" = "${try#*=}" ] || fail "KMM_MEMORY_HIGH=$try: $got"
	case $try in
	38M*) root high 'root["ev_high"] > 0 and root["throttled_usec"] > 250000 and root["some_usec"] >= root["throttled_usec"]' ;;
	*) root high 'root["ev_high"] == root["throttled_usec"] == 0' ;;
	esac
done

# The policies of the process's quota.
for try in "enomem 0 MemoryError" "report 0 MemoryError" "abort 134" "exit 137"; do
	set -- $try
	got=$(KMM_MEMORY_MAX=100M KMM_MEMORY_OOM=$1 LD_PRELOAD=$lib $python -c "$reach" 150 2>"$tmp/err")
	[ $? = "$2" ] && [ "$got" = "${3-}" ] || fail "KMM_MEMORY_OOM=$1: $got"
	if [ "$1" = enomem ]; then
		clean_stderr enomem "$tmp/err"
	else
		grep -q "^kmm: oom: thread python3.* wants .* bytes at .* memory group / is at its limit" "$tmp/err" || fail "$1: $(cat "$tmp/err")"
		grep -q "^kmm: oom: group /: usage .*, limit 102400kB" "$tmp/err" || fail "$1: $(cat "$tmp/err")"
	fi
done
[ "$(KMM_MEMORY_OOM=callback LD_PRELOAD=$lib $python -c 'print(1)' 2>&1 | grep -c KMM_MEMORY_OOM)" = 1 ] || fail "KMM_MEMORY_OOM=callback"

# In a real control group of 256 MiB.
own=$(sed -n 's/^[0-9]*:\([a-z_,]*,\)\?memory\(,[a-z_,]*\)\?:/v1 /p; s/^0::/v2 /p' /proc/self/cgroup | sort | head -1)
v1=$(awk '$0 ~ / - cgroup / && $NF ~ /(^|,)memory(,|$)/ { print $5; exit }' /proc/self/mountinfo)
v2=$(awk '$0 ~ / - cgroup2 / { print $5; exit }' /proc/self/mountinfo)
case $own in
v1*) group=$v1${own#v1 }/kmm-test-$$ limit=memory.limit_in_bytes ;;
v2*) group=$v2${own#v2 }/kmm-test-$$ limit=memory.max ;;
*) group= ;;
esac
if [ -n "$group" ] && mkdir "$group" 2>/dev/null; then
	if echo $(mib 256) >"$group/$limit" 2>/dev/null; then
		(
			sh -c 'echo $PPID' >"$group/cgroup.procs" || exit 1
			has "$(mib 240) max" KMM_MEMORY_MAX=auto		# headroom: a sixteenth, at least 16 MiB
			has "max $(mib 240)" KMM_MEMORY_HIGH=auto
			half=$(($(mib 256) / 100 * 50 / 4096 * 4096))
			has "$half max" KMM_MEMORY_MAX=50%
			has "$half $(($(mib 256) / 100 * 10 / 4096 * 4096))" KMM_MEMORY_MAX=50% KMM_MEMORY_HIGH=10%
			got=$(KMM_MEMORY_MAX=auto LD_PRELOAD=$lib $python -c "$reach" 300 2>&1)
			[ "$got" = MemoryError ] || fail "auto: $got"
			exit $failed
		) || failed=1
		echo "# in a real control group of version ${own%% *}"
	else
		echo "# no control group with a limit of its own can be made here"
	fi
	rmdir "$group" 2>/dev/null || { sleep 1; rmdir "$group"; }
fi
# Where there is no limit auto is none. Nothing is said: the same settings serve everywhere.
[ -n "$(limits KMM_MEMORY_MAX=auto)" ] || fail "auto"
clean_stderr auto "$tmp/err"
finish
