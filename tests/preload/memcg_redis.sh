#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 180
# modes: auto lock
# Memory groups by rules alone: an unmodified redis-server with a module that leaks, and one that is over its own high. In
# both cases it goes on answering.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark $python
builddir=${top_builddir:-$PWD}

ask() { timeout 20 redis-cli -s "$tmp/sock" "$@"; }

# wants LABEL WANTED COMMAND...: redis says exactly that.
wants() {
	local label=$1 wanted=$2 got
	shift 2
	got=$(ask "$@" 2>&1)
	[ "$got" = "$wanted" ] || fail "$label: $*: \"$got\" instead of \"$wanted\""
}

# start RULE OPTION...
start() {
	local i
	rm -f "$tmp/dump.rdb"		# of a reload
	KMM_MEMCG=$1 KMM_STATS=json:$tmp/stats LD_PRELOAD=$lib redis-server --port 0 --unixsocket "$tmp/sock" --save '' \
		--dir "$tmp" --appendonly no --enable-debug-command yes --daemonize no "${@:2}" >"$tmp/log" 2>&1 &
	server=$!
	for i in $(seq 100); do
		[ "$(ask ping 2>&1)" = PONG ] && break
		sleep 0.1
	done
	is_loaded $server || fail "the server does not have the library"
}

stop() {
	ask shutdown nosave 2>/dev/null
	wait $server || fail "$1: status $?: $(tail -3 "$tmp/log")"
	clean_stderr "$1" "$tmp/log"
}

# groups PYTHON: of the statistics.
groups() {
	$python - "$tmp/stats" <<-EOF || fail "the statistics: $1"
		import json, sys
		groups = {g["path"]: g for g in json.load(open(sys.argv[1]))["memcg"]["groups"]}
		assert $1, groups
	EOF
}

# So many bytes of values.
fill() { timeout 60 redis-benchmark -s "$tmp/sock" -n $(($1 / 1000)) -c 10 -P 8 -d 900 -r 1000000 -q -t set >/dev/null || fail "fill: $?"; }

# The module leaks, and is refused; the server has more than that for itself, and serves it.
start 'plug:max=16M,oom=enomem,lib=leaky.so' --loadmodule "$builddir/tests/preload/leaky.so"
wants plug OK set key value
got=$(ask leak 1000000)
[ "$got" -gt 12000 ] && [ "$got" -lt 16800 ] || fail "plug: leaked $got blocks"
# full LABEL: what is left is what the last refusal left over on another CPU, and what the reserve has for that size.
full() {
	got=$(ask leak 10000)
	[ "$got" -lt 100 ] || fail "$1: leaked $got blocks more"
}
wants plug value get key
full plug
fill 40000000
full plug
wants plug value get key
wants plug OK debug reload
wants plug value get key
stop plug
groups 'groups["/plug"]["ev_oom"] > 0 and 12 << 20 < groups["/plug"]["current"] <= 16 << 20 and groups["/"]["peak"] > 56 << 20'

# The server over its own high: it waits now and then, and answers; when the data are gone it does not wait any more.
start 'redis:high=18M,comm=redis-server'
fill 16000000
wants high OK set key value
fill 1000000
wants high value get key
wants high PONG ping
wants high OK flushall
wants high OK set key value
wants high value get key
stop high
groups 'groups["/redis"]["ev_high"] > 0 and groups["/redis"]["throttled_usec"] > 0 and groups["/redis"]["ev_max"] == 0'
groups 'groups["/redis"]["peak"] > 18 << 20 and groups["/redis"]["some_usec"] >= groups["/redis"]["throttled_usec"]'
finish
