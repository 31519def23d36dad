/* SPDX-License-Identifier: MIT */
/*
 * stall.c - how long a thread waits that writes into memory while that is being compacted. usage: stall [ROUNDS [SEED]]
 *
 * Each round fills 16 MiB with objects of 256 bytes, frees nine in ten at random, and then one thread writes to those that
 * are left, at random, for a second: in that time an allocator that compacts does so. Every write is timed. A write
 * that takes more than a microsecond is a stall: a fault, a wait, or another thread that has got the CPU. The writer is the only
 * runnable thread of the program; an allocator's own thread may be the second.
 *
 * What is printed: the percentiles of the stalls in microseconds, how many there were, and what share of the time they took.
 * The machine's own interruptions are among them, so compare with a run without compaction.
 */
#define _GNU_SOURCE
#include "bench.h"
#include <string.h>

#define NR_OBJECTS   65536u
#define OBJECT_SIZE  256u
#define ROUND_NS     1000000000ull
#define STALL_NS     1000u
#define MAX_STALLS   (1u << 22)

static uint32_t *stalls;
static size_t nr_stalls;
static uint64_t nr_writes, stalled_ns;

static size_t fill(unsigned char **object, uint64_t *random)
{
	size_t kept = 0;

	for (unsigned i = 0; i < NR_OBJECTS; i++) {
		object[i] = must_malloc(OBJECT_SIZE);
		memset(object[i], (int)i, OBJECT_SIZE);
	}
	for (unsigned i = 0; i < NR_OBJECTS; i++) {
		if (random_below(random, 10) != 0)
			bench_free(object[i]);
		else
			object[kept++] = object[i];
	}
	return kept;
}

static void write_to(unsigned char **object, size_t nr, uint64_t *random)
{
	uint64_t start = now_ns(), before = start, after;

	do {
		++*(volatile unsigned char *)&object[random_below(random, (uint32_t)nr)][random_below(random, OBJECT_SIZE)];
		after = now_ns();
		nr_writes++;
		if (after - before > STALL_NS) {
			if (nr_stalls < MAX_STALLS)
				stalls[nr_stalls++] = (uint32_t)(after - before);
			stalled_ns += after - before;
		}
		before = after;
	} while (after - start < ROUND_NS);
}

static int by_length(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;

	return x < y ? -1 : x > y;
}

static double percentile(double share)
{
	size_t i = (size_t)(share * (double)nr_stalls);

	return nr_stalls ? stalls[i < nr_stalls ? i : nr_stalls - 1] / 1e3 : 0;
}

static unsigned long rounds;

/* A thread of its own, so that the program has two: some allocators start theirs only then. */
static void *work(void *seed)
{
	unsigned char **object = must_malloc(NR_OBJECTS * sizeof(*object));
	uint64_t random = *(unsigned long *)seed;

	for (unsigned long i = 0; i < rounds; i++) {
		size_t kept = fill(object, &random);

		write_to(object, kept, &random);
		while (kept > 0)
			bench_free(object[--kept]);
	}
	return NULL;
}

int main(int argc, char **argv)
{
	unsigned long seed = argument(argc, argv, 2, "seed", 1);

	rounds = argument(argc, argv, 1, "rounds", 10);
	stalls = must_malloc(MAX_STALLS * sizeof(*stalls));
	pthread_join(must_start(NULL, work, &seed), NULL);
	qsort(stalls, nr_stalls, sizeof(*stalls), by_length);
	report("stall-p50", percentile(0.5), "us");
	report("stall-p99", percentile(0.99), "us");
	report("stall-p99.9", percentile(0.999), "us");
	report("stall-max", percentile(1), "us");
	report("stalls", (double)nr_stalls / (double)rounds, "a second");
	report("stalled", 100.0 * (double)stalled_ns / (double)(rounds * ROUND_NS), "percent of the time");
	return 0;
}
