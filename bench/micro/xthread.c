/* SPDX-License-Identifier: MIT */
/*
 * xthread.c - memory that one thread allocates and another frees: THREADS pairs of a producer and a consumer.
 * usage: xthread [THREADS [BLOCKS [MIN MAX]]]
 *
 * Purpose: what an allocator pays when objects come home from the wrong CPU. Blocks travel in batches of 128, so
 * that the hand-over itself (a mutex and two conditions for each pair) is a small part of the time. The producer
 * writes the first cache line of a block, the consumer reads it.
 */
#include "bench.h"
#include <pthread.h>
#include <string.h>

#define BATCH 128u
#define RING  16u		/* batches under way at most */

struct channel {
	pthread_mutex_t lock;
	pthread_cond_t not_empty, not_full;
	size_t head, tail;	/* batches put and taken so far; under lock */
	unsigned char *slot[RING][BATCH];
	size_t batches;
	uint32_t min, span;
	uint64_t seed, sum;
};

static void *produce(void *arg)
{
	struct channel *c = arg;
	uint64_t state = c->seed;

	for (size_t n = 0; n < c->batches; n++) {
		pthread_mutex_lock(&c->lock);
		while (n - c->tail == RING)
			pthread_cond_wait(&c->not_full, &c->lock);
		pthread_mutex_unlock(&c->lock);
		for (size_t i = 0; i < BATCH; i++) {
			uint32_t size = c->min + random_below(&state, c->span);

			c->slot[n % RING][i] = bench_malloc(size);
			memset(c->slot[n % RING][i], (int)i, size < 64 ? size : 64);
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

	for (size_t n = 0; n < c->batches; n++) {
		pthread_mutex_lock(&c->lock);
		while (c->head == n)
			pthread_cond_wait(&c->not_empty, &c->lock);
		pthread_mutex_unlock(&c->lock);
		for (size_t i = 0; i < BATCH; i++) {
			c->sum += *c->slot[n % RING][i];
			bench_free(c->slot[n % RING][i]);
		}
		pthread_mutex_lock(&c->lock);
		c->tail = n + 1;
		pthread_cond_signal(&c->not_full);
		pthread_mutex_unlock(&c->lock);
	}
	return NULL;
}

static void start(pthread_t *thread, void *(*body)(void *), void *arg)
{
	if (pthread_create(thread, NULL, body, arg)) {
		fprintf(stderr, "xthread: cannot create a thread\n");
		exit(1);
	}
}

int main(int argc, char **argv)
{
	size_t threads = argument(argc, argv, 1, "number of pairs of threads", 1);
	size_t batches = argument(argc, argv, 2, "number of blocks", 4000000) / threads / BATCH;
	uint32_t min = (uint32_t)argument(argc, argv, 3, "smallest size", 16);
	uint32_t max = (uint32_t)argument(argc, argv, 4, "largest size", 256);
	struct channel *channel = calloc(threads, sizeof(*channel));
	pthread_t *thread = must_malloc(2 * threads * sizeof(*thread));
	uint64_t sum = 0, wanted = 0, begin;

	if (!channel || max < min || !batches)
		return 2;
	begin = now_ns();
	for (size_t i = 0; i < threads; i++) {
		struct channel *c = &channel[i];

		pthread_mutex_init(&c->lock, NULL);
		pthread_cond_init(&c->not_empty, NULL);
		pthread_cond_init(&c->not_full, NULL);
		c->batches = batches;
		c->min = min;
		c->span = max - min + 1;
		c->seed = i + 1;
		start(&thread[2 * i], produce, c);
		start(&thread[2 * i + 1], consume, c);
	}
	for (size_t i = 0; i < 2 * threads; i++)
		pthread_join(thread[i], NULL);
	report("xthread", (double)(now_ns() - begin) / (double)(batches * BATCH * threads), "ns/pair");
	for (size_t i = 0; i < threads; i++)
		sum += channel[i].sum;
	for (unsigned i = 0; i < BATCH; i++)
		wanted += i;
	if (sum != wanted * batches * threads) {
		fprintf(stderr, "xthread: blocks arrived changed\n");
		return 1;
	}
	return 0;
}
