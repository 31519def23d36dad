/* SPDX-License-Identifier: MIT */
/*
 * tail.c - the slow ones: how long a free and the malloc after it take at worst, from THREADS threads, each on a
 * CPU of its own, with blocks of 16 bytes to 32 KiB. usage: tail [PAIRS [THREADS [SLOTS]]]
 *
 * Every pair is timed by itself. The least time that two readings of the clock ever took is subtracted, and the
 * rest goes into a histogram with 32 steps to a power of two (3 % resolution). Percentiles are over all threads.
 * The machine's own interruptions are in the figures, so compare allocators in one run only.
 */
#define _GNU_SOURCE
#include "bench.h"
#include <string.h>

#define STEP_BITS 5u
#define BUCKETS	  (64u << STEP_BITS)
#define SIZE_POWERS 11u		/* 16 bytes to 32 KiB */

struct worker {
	pthread_t thread;
	unsigned index;
	size_t pairs;
	uint32_t slots;
	uint64_t overhead;
	uint32_t histogram[BUCKETS];
};

static unsigned bucket_of(uint64_t ns)
{
	unsigned top;

	if (ns < (1u << STEP_BITS))
		return (unsigned)ns;
	top = 63u - (unsigned)__builtin_clzll(ns);
	return ((top - STEP_BITS + 1) << STEP_BITS) + (unsigned)((ns >> (top - STEP_BITS)) & ((1u << STEP_BITS) - 1));
}

/* The least time that belongs to a bucket: the inverse of bucket_of(). */
static uint64_t bucket_start(unsigned b)
{
	unsigned block = b >> STEP_BITS;

	if (!block)
		return b;
	return ((uint64_t)((1u << STEP_BITS) + (b & ((1u << STEP_BITS) - 1)))) << (block - 1);
}

static uint64_t clock_overhead(void)
{
	uint64_t least = ~0ull;

	for (int i = 0; i < 100000; i++) {
		uint64_t t = now_ns();

		t = now_ns() - t;
		least = t < least ? t : least;
	}
	return least;
}

static void *work(void *arg)
{
	struct worker *w = arg;
	char **slot = must_malloc(w->slots * sizeof(*slot));
	uint64_t state = w->index + 1;

	bind_to_cpu(w->index);
	for (uint32_t i = 0; i < w->slots; i++)
		slot[i] = must_malloc(random_size(&state, SIZE_POWERS));
	for (size_t n = 0; n < w->pairs; n++) {
		char **s = slot + random_below(&state, w->slots);
		uint32_t size = random_size(&state, SIZE_POWERS);
		uint64_t t = now_ns();

		bench_free(*s);
		*s = bench_malloc(size);
		t = now_ns() - t;
		**s = (char)n;
		w->histogram[bucket_of(t > w->overhead ? t - w->overhead : 0)]++;
	}
	for (uint32_t i = 0; i < w->slots; i++)
		bench_free(slot[i]);
	bench_free(slot);
	return NULL;
}

/* At least 1 ns: what is lost in the clock's resolution took some time, too. */
static uint64_t percentile(const uint64_t *histogram, uint64_t total, double share)
{
	uint64_t seen = 0;

	for (unsigned b = 0; b < BUCKETS; b++) {
		seen += histogram[b];
		if ((double)seen >= share * (double)total)
			return b ? bucket_start(b) : 1;
	}
	return 0;
}

int main(int argc, char **argv)
{
	size_t pairs = argument(argc, argv, 1, "number of pairs", 2000000);
	size_t threads = argument(argc, argv, 2, "number of threads", 2);
	uint32_t slots = (uint32_t)argument(argc, argv, 3, "number of slots", 1024);
	struct worker *worker = calloc(threads, sizeof(*worker));
	uint64_t *histogram = calloc(BUCKETS, sizeof(*histogram));
	uint64_t overhead = clock_overhead(), total = 0;

	if (!worker || !histogram)
		return 1;
	for (size_t i = 0; i < threads; i++) {
		worker[i] = (struct worker){ .index = (unsigned)i, .pairs = pairs, .slots = slots, .overhead = overhead };
		worker[i].thread = must_start(NULL, work, &worker[i]);
	}
	for (size_t i = 0; i < threads; i++) {
		pthread_join(worker[i].thread, NULL);
		for (unsigned b = 0; b < BUCKETS; b++)
			histogram[b] += worker[i].histogram[b];
	}
	for (unsigned b = 0; b < BUCKETS; b++)
		total += histogram[b];
	report("p50", (double)percentile(histogram, total, 0.5), "ns");
	report("p99", (double)percentile(histogram, total, 0.99), "ns");
	report("p99.9", (double)percentile(histogram, total, 0.999), "ns");
	report("p99.99", (double)percentile(histogram, total, 0.9999), "ns");
	return 0;
}
