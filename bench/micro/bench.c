/* SPDX-License-Identifier: MIT */
/*
 * bench.c - helpers of the micro benchmarks, see bench.h. Nothing here runs while the clock does.
 */
#define _GNU_SOURCE
#include "bench.h"
#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <string.h>

void *(*volatile bench_malloc)(size_t) = malloc;
void *(*volatile bench_realloc)(void *, size_t) = realloc;
void (*volatile bench_free)(void *) = free;

static struct {
	pthread_mutex_t lock;
	pthread_cond_t arrived, opened;
	size_t waiting;		/* under lock, as is_open */
	bool is_open;
} gate = { .lock = PTHREAD_MUTEX_INITIALIZER, .arrived = PTHREAD_COND_INITIALIZER, .opened = PTHREAD_COND_INITIALIZER };

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

void wait_at_gate(void)
{
	pthread_mutex_lock(&gate.lock);
	gate.waiting++;
	pthread_cond_signal(&gate.arrived);
	while (!gate.is_open)
		pthread_cond_wait(&gate.opened, &gate.lock);
	pthread_mutex_unlock(&gate.lock);
}

uint64_t open_gate(size_t nr)
{
	uint64_t now;

	pthread_mutex_lock(&gate.lock);
	while (gate.waiting < nr)
		pthread_cond_wait(&gate.arrived, &gate.lock);
	gate.is_open = true;
	now = now_ns();
	pthread_cond_broadcast(&gate.opened);
	pthread_mutex_unlock(&gate.lock);
	return now;
}

pthread_t must_start(const pthread_attr_t *attr, void *(*body)(void *), void *arg)
{
	pthread_t thread;
	int err = pthread_create(&thread, attr, body, arg);

	if (err) {
		fprintf(stderr, "cannot create a thread: %s\n", strerror(err));
		exit(1);
	}
	return thread;
}
