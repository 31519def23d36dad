#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# redis-server and redis-benchmark over a unix socket. Debian's server links libjemalloc: the preloaded library
# must win for malloc. The same commands must leave the same data (DEBUG DIGEST), also after a reload from disk.
. "$(dirname "$0")/lib.sh"
need redis-server redis-cli redis-benchmark
requests=$(long && echo 500000 || echo 20000)

commands() {
	awk 'BEGIN {
		srand(7)
		for (i = 0; i < 30000; i++) {
			k = int(rand() * 3000); v = sprintf("%0*d", 1 + int(rand() * 300), i)
			if (i % 5 == 0) printf "SET s%d %s\r\n", k, v
			else if (i % 5 == 1) printf "HSET h%d f%d %s\r\n", k % 300, i % 50, v
			else if (i % 5 == 2) printf "RPUSH l%d %s\r\n", k % 100, v
			else if (i % 5 == 3) printf "ZADD z%d %d m%d\r\n", k % 100, i, k
			else printf "DEL s%d\r\n", int(rand() * 3000)
		}
	}'
}
commands >"$tmp/commands"

# Leaves the digest and a few figures on stdout, stops the server whatever happened.
session() {
	local pid status=0 i
	redis-server --port 0 --unixsocket ./sock --save '' --appendonly no --enable-debug-command yes --io-threads 2 \
		--daemonize no >server.log 2>&1 &
	pid=$!
	for i in $(seq 100); do
		redis-cli -s ./sock ping >/dev/null 2>&1 && break
		sleep 0.1
	done
	[ -z "${LD_PRELOAD-}" ] || is_loaded $pid || { echo "the server does not have the library"; status=1; }
	redis-cli -s ./sock --pipe <"$tmp/commands" | tail -1
	redis-cli -s ./sock dbsize
	redis-cli -s ./sock debug digest
	redis-cli -s ./sock debug reload
	redis-cli -s ./sock debug digest
	redis-benchmark -s ./sock -n "$requests" -c 20 -P 8 -r 10000 -d 64 -q --csv --threads 2 \
		-t set,get,incr,lpush,rpop,sadd,hset,zadd,lrange_100 >bench.csv 2>bench.err || status=1
	cut -d, -f1 bench.csv
	redis-cli -s ./sock info >info
	redis-cli -s ./sock memory stats >/dev/null
	redis-cli -s ./sock memory purge
	redis-cli -s ./sock bgsave >/dev/null
	for i in $(seq 100); do
		redis-cli -s ./sock info persistence | grep -q rdb_bgsave_in_progress:0 && break
		sleep 0.1
	done
	redis-cli -s ./sock info persistence | grep -a rdb_last_bgsave_status | tr -d '\r'
	grep -a -c -E '^(used_memory|used_memory_rss|mem_allocator):' info
	redis-cli -s ./sock flushall
	redis-cli -s ./sock shutdown nosave 2>/dev/null
	wait $pid || status=1
	cat server.log bench.err >&2
	! grep -a -E 'kmm: |BUG REPORT' server.log || status=1
	return $status
}
same server session
finish
