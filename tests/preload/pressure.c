/* SPDX-License-Identifier: MIT */
/*
 * pressure.c - holds KEEP MiB, frees FREE MiB and waits until half of the latter have gone home: `SECONDS s`, or `never` after WAIT s.
 * usage: pressure KEEP FREE WAIT
 */
#include "../../bench/macro/resident.h"

#include <pthread.h>

#define BLOCK 2000u

static long pss_kib(void)
{
	return proc_kib("/proc/self/smaps_rollup", "\nPss:");
}

static void **fill(long mib)
{
	size_t nr = ((size_t)mib << 20) / BLOCK;
	void **p = malloc((nr + 1) * sizeof(*p));

	for (size_t i = 0; p && i < nr; i++) {
		p[i] = malloc(BLOCK);
		if (!p[i])
			exit(1);
		memset(p[i], 1, BLOCK);
	}
	if (!p)
		exit(1);
	p[nr] = NULL;
	return p;
}

static pthread_barrier_t ready;

static void *other(void *arg)
{
	for (size_t size = 16; size < 100000; size *= 2)	/* so that libkmm knows of it */
		free(malloc(size));
	pthread_barrier_wait(&ready);
	pause();
	return arg;
}

int main(int argc, char **argv)
{
	long keep = argc > 3 ? atol(argv[1]) : 0, give = argc > 3 ? atol(argv[2]) : 0, wait = argc > 3 ? atol(argv[3]) : 0, peak;
	void **kept = fill(keep), **p = fill(give);
	pthread_t thread;

	/* Its memory comes before the rest is free: a heap that grows gives back what is free (balance_growth). */
	if (pthread_barrier_init(&ready, NULL, 2) || pthread_create(&thread, NULL, other, NULL))
		return 1;
	pthread_barrier_wait(&ready);
	free(malloc(10000));
	peak = pss_kib();
	for (size_t i = 0; p[i]; i++)
		free(p[i]);
	for (long tenth = 0; tenth < wait * 10; tenth++) {
		struct timespec ts = { 0, 100000000 };

		free(malloc(10000));
		if (pss_kib() < peak - give * 1024 / 2) {
			printf("%ld.%ld s\n", tenth / 10, tenth % 10);
			return kept[0] == NULL;
		}
		nanosleep(&ts, NULL);
	}
	puts("never");
	return kept[0] == NULL;
}
