#!/bin/bash
# SPDX-License-Identifier: MIT
# timeout: 300
# modes: auto lock
# Small programs under gdb, the program with the library and gdb without: run to the end, stop in malloc and go
# on, and step through malloc and free instruction by instruction: a critical section that is always aborted
# must not hang the program.
. "$(dirname "$0")/lib.sh"
need gdb gcc /bin/true sort

# debug LABEL COMMANDS PROGRAM [ARGS]: gdb's commands must leave the program ended with status 0.
debug() {
	local label=$1 script=$2
	shift 2
	printf '%s\n' "set pagination off" "set confirm off" "set debuginfod enabled off" "set startup-with-shell off" \
		"set environment LD_PRELOAD $lib" "$script" 'printf "\nmatrix exit code %d\n", $_exitcode' >"$tmp/$label.gdb"
	gdb -nx -batch -x "$tmp/$label.gdb" --args "$@" >"$tmp/$label.out" 2>"$tmp/$label.err" </dev/null
	if ! grep -q '^matrix exit code 0$' "$tmp/$label.out"; then
		fail "$label: the program did not end with 0 under gdb:"
		cat "$tmp/$label.out" "$tmp/$label.err" | tail -n 12
	fi
	clean_stderr "$label" "$tmp/$label.out"
	clean_stderr "$label" "$tmp/$label.err"
}

seq 3000 | awk '{ print $1 * 7919 % 3001, "line", $1 }' >"$tmp/in"
debug true run /bin/true
debug sort run "$(command -v sort)" --parallel=2 "$tmp/in"
[ ! -x $python ] || debug python run $python "$here/threads.py" 1

cat >"$tmp/pairs.c" <<'C'
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
void *(*volatile the_malloc)(size_t) = malloc;
void (*volatile the_free)(void *) = free;
static unsigned long sum;
__attribute__((noinline)) void first_stop(void) { __asm__ volatile(""); }
__attribute__((noinline)) void last_stop(void) { printf("sum %lu\n", sum); }
static void *pairs(void *arg)
{
	for (int i = 0; i < 2000; i++) {
		size_t size = 16 + i % 700;
		char *p = memset(the_malloc(size), i, size);
		__atomic_fetch_add(&sum, (unsigned char)p[size - 1], __ATOMIC_RELAXED);
		the_free(p);
	}
	return arg;
}
int main(int argc, char **argv)
{
	pthread_t thread;
	(void)argv;
	pairs(NULL);
	first_stop();
	if (argc > 1 && !pthread_create(&thread, NULL, pairs, NULL))
		pthread_join(thread, NULL);
	pairs(NULL);
	last_stop();
	return 0;
}
C
gcc -g -O1 -pthread -o "$tmp/pairs" "$tmp/pairs.c" || { fail "cannot compile"; finish; }

debug break 'break first_stop
run
break *the_malloc
ignore 2 500
continue
backtrace 3
stepi 300
continue
delete
continue' "$tmp/pairs"
grep -q '^Breakpoint 2, ' "$tmp/break.out" || fail "break: gdb did not stop in malloc"

debug step 'break first_stop
run
break last_stop
break *the_free
stepi 6000
info breakpoints
delete 3
stepi 6000
continue
printf "arrived at the end, sum %lu\n", sum
delete
continue' "$tmp/pairs" thread
grep -q 'breakpoint already hit' "$tmp/step.out" || fail "step: free was never reached by single steps"
grep -q '^arrived at the end, sum [1-9]' "$tmp/step.out" || fail "step: the program did not go on after single steps"
finish
