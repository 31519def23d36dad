/* SPDX-License-Identifier: MIT */
/*
 * bench.c - helpers of the micro benchmarks, see bench.h. Nothing here runs while the clock does.
 */
#define _GNU_SOURCE
#include "bench.h"
#include <errno.h>
#include <pthread.h>
#include <sched.h>

void *(*volatile bench_malloc)(size_t) = malloc;
void (*volatile bench_free)(void *) = free;

unsigned long argument(int argc, char **argv, int n, const char *what, unsigned long def)
{
	unsigned long value;
	char *end;

	if (n >= argc)
		return def;
	errno = 0;
	value = strtoul(argv[n], &end, 0);
	if (errno || end == argv[n] || *end || !value) {
		fprintf(stderr, "%s: \"%s\" is not a %s; expected a number above 0 (default %lu)\n",
			argv[0], argv[n], what, def);
		exit(2);
	}
	return value;
}

void *must_malloc(size_t size)
{
	void *p = bench_malloc(size);

	if (!p) {
		fprintf(stderr, "out of memory: %zu bytes\n", size);
		exit(1);
	}
	return p;
}

void bind_to_cpu(unsigned n)
{
	cpu_set_t all, one;
	unsigned nr, cpu;

	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	nr = (unsigned)CPU_COUNT(&all);
	n %= nr ? nr : 1;
	for (cpu = 0; cpu < CPU_SETSIZE; cpu++) {
		if (!CPU_ISSET(cpu, &all) || n--)
			continue;
		CPU_ZERO(&one);
		CPU_SET(cpu, &one);
		pthread_setaffinity_np(pthread_self(), sizeof(one), &one);
		return;
	}
}
