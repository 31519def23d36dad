/* SPDX-License-Identifier: MIT */
/*
 * xthread.c - memory that one thread allocates and another frees: PAIRS of a producer and a consumer.
 * usage: xthread [PAIRS [BLOCKS [MIN MAX [BATCHES]]]]
 *
 * Purpose: what an allocator pays when objects come home from the wrong CPU. Blocks travel in batches of 128, so
 * that the hand-over itself (a mutex and two conditions for each pair) is a small part of the time. The producer
 * writes the first cache line of a block, the consumer reads it. BLOCKS is the work of all pairs together, and
 * BATCHES is how many are under way in all at most, so that neither the work nor the live data grows with PAIRS.
 */
#include "bench.h"
#include <string.h>

#define BATCH 128u

struct channel {
	pthread_mutex_t lock;
	pthread_cond_t not_empty, not_full;
	size_t head, tail;	/* batches put and taken so far; under lock */
	unsigned char *(*slot)[BATCH];
	size_t ring;		/* batches under way at most */
	size_t batches;
	uint32_t min, span;
	uint64_t seed, sum;
};

static void *produce(void *arg)
{
	struct channel *c = arg;
	uint64_t state = c->seed;

	wait_at_gate();
	for (size_t n = 0; n < c->batches; n++) {
		pthread_mutex_lock(&c->lock);
		while (n - c->tail == c->ring)
			pthread_cond_wait(&c->not_full, &c->lock);
		pthread_mutex_unlock(&c->lock);
		for (size_t i = 0; i < BATCH; i++) {
			uint32_t size = c->min + random_below(&state, c->span);

			c->slot[n % c->ring][i] = bench_malloc(size);
			memset(c->slot[n % c->ring][i], (int)i, size < 64 ? size : 64);
		}
		pthread_mutex_lock(&c->lock);
		c->head = n + 1;
		pthread_cond_signal(&c->not_empty);
		pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

static void *consume(void *arg)
{
	struct channel *c = arg;

	wait_at_gate();
	for (size_t n = 0; n < c->batches; n++) {
		pthread_mutex_lock(&c->lock);
		while (c->head == n)
			pthread_cond_wait(&c->not_empty, &c->lock);
		pthread_mutex_unlock(&c->lock);
		for (size_t i = 0; i < BATCH; i++) {
			c->sum += *c->slot[n % c->ring][i];
			bench_free(c->slot[n % c->ring][i]);
		}
		pthread_mutex_lock(&c->lock);
		c->tail = n + 1;
		pthread_cond_signal(&c->not_full);
		pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

static void make_channel(struct channel *c, size_t ring)
{
	pthread_mutex_init(&c->lock, NULL);
	pthread_cond_init(&c->not_empty, NULL);
	pthread_cond_init(&c->not_full, NULL);
	c->ring = ring;
	c->slot = must_malloc(ring * sizeof(*c->slot));
}

int main(int argc, char **argv)
{
	size_t pairs = argument(argc, argv, 1, "number of pairs of threads", 1);
	size_t batches = argument(argc, argv, 2, "number of blocks", 4000000) / pairs / BATCH;
	uint32_t min = (uint32_t)argument(argc, argv, 3, "smallest size", 16);
	uint32_t max = (uint32_t)argument(argc, argv, 4, "largest size", 256);
	size_t ring = argument(argc, argv, 5, "number of batches under way", 512) / pairs;
	struct channel *channel = calloc(pairs, sizeof(*channel));
	pthread_t *thread = must_malloc(2 * pairs * sizeof(*thread));
	uint64_t sum = 0, wanted = 0, begin;

	if (!channel || max < min || !batches || !ring) {
		fprintf(stderr, "%s: no blocks, no batches or no sizes for each pair\n", argv[0]);
		return 2;
	}
	for (size_t i = 0; i < pairs; i++) {
		struct channel *c = &channel[i];

		make_channel(c, ring);
		c->batches = batches;
		c->min = min;
		c->span = max - min + 1;
		c->seed = i + 1;
		thread[2 * i] = must_start(NULL, produce, c);
		thread[2 * i + 1] = must_start(NULL, consume, c);
	}
	begin = open_gate(2 * pairs);
	for (size_t i = 0; i < 2 * pairs; i++)
		pthread_join(thread[i], NULL);
	report("xthread", (double)(now_ns() - begin) / (double)(batches * BATCH * pairs), "ns/pair");
	for (size_t i = 0; i < pairs; i++)
		sum += channel[i].sum;
	for (unsigned i = 0; i < BATCH; i++)
		wanted += i;
	if (sum != wanted * batches * pairs) {
		fprintf(stderr, "xthread: blocks arrived changed\n");
		return 1;
	}
	return 0;
}
