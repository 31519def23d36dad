/* SPDX-License-Identifier: MIT */
/*
 * larson.c - a server whose threads come and go, after Larson and Krishnan (ISMM 1998): a thread serves one session,
 * that is it replaces random ones of the session's 64 blocks for a while, starts a successor for another session, and
 * ends. So most blocks are freed by another thread than the one that allocated them, and no thread lives long.
 * usage: larson [THREADS [PAIRS [SESSIONS [MIN MAX [LIFE]]]]]
 *
 * THREADS run at a time and take turns at SESSIONS. The work, PAIRS, the live data and what one thread touches are
 * the same for any number of threads. A life is about LIFE pairs; each of the first threads has a successor at least.
 *
 * A block's first byte says which slot it belongs to; it is read before the block is freed.
 */
#include "bench.h"
#include <semaphore.h>
#include <stdatomic.h>

#define SLOTS 64u

struct session {
	unsigned char *slot[SLOTS];
};

/* One of THREADS, over all its lives: serves every THREADS-th session, in turn. On cache lines of its own, wherever it lies. */
struct place {
	_Alignas(128) size_t session;	/* the present one */
	size_t lives;		/* still to come, this one included */
	uint64_t state;
};

static struct session *session;
static size_t threads, sessions, life;
static uint32_t min, span;
static pthread_attr_t detached;
static sem_t places_done;
static atomic_size_t nr_changed;

static void *allocate(struct place *p, uint32_t slot)
{
	unsigned char *block = must_malloc(min + random_below(&p->state, span));

	*block = (unsigned char)slot;
	return block;
}

static void *live(void *arg)
{
	struct place *p = arg;
	unsigned char **slot = session[p->session].slot;
	size_t changed = 0;

	for (size_t n = 0; n < life; n++) {
		uint32_t i = random_below(&p->state, SLOTS);

		changed += *slot[i] != (unsigned char)i;
		bench_free(slot[i]);
		slot[i] = allocate(p, i);
	}
	atomic_fetch_add(&nr_changed, changed);
	p->session += threads;
	if (p->session >= sessions)
		p->session %= threads;
	if (--p->lives)
		must_start(&detached, live, p);
	else
		sem_post(&places_done);
	return NULL;
}

static void *first_life(void *arg)
{
	struct place *p = arg;

	for (size_t s = p->session; s < sessions; s += threads)
		for (uint32_t i = 0; i < SLOTS; i++)
			session[s].slot[i] = allocate(p, i);
	wait_at_gate();
	return live(p);
}

int main(int argc, char **argv)
{
	struct place *place;
	uint64_t begin, elapsed;
	size_t pairs, lives;

	threads = argument(argc, argv, 1, "number of threads", 2);
	pairs = argument(argc, argv, 2, "number of pairs", 16000000) / threads;
	sessions = argument(argc, argv, 3, "number of sessions", 512);
	min = (uint32_t)argument(argc, argv, 4, "smallest size", 8);
	span = (uint32_t)argument(argc, argv, 5, "largest size", 1000) - min + 1;
	lives = pairs / argument(argc, argv, 6, "number of pairs in a life", 20000);
	lives = lives < 2 ? 2 : lives;
	life = pairs / lives;
	session = calloc(sessions, sizeof(*session));
	place = aligned_alloc(_Alignof(struct place), threads * sizeof(*place));
	if (!session || !place || sessions < threads || !life || (int32_t)span < 1) {
		fprintf(stderr, "%s: no session, no pairs or no sizes for each thread\n", argv[0]);
		return 2;
	}
	sem_init(&places_done, 0, 0);
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	for (size_t i = 0; i < threads; i++) {
		place[i] = (struct place){ .session = i, .lives = lives, .state = i + 1 };
		must_start(&detached, first_life, &place[i]);
	}
	begin = open_gate(threads);
	for (size_t i = 0; i < threads; i++)
		while (sem_wait(&places_done))
			;
	elapsed = now_ns() - begin;
	report("larson", (double)elapsed / (double)(life * lives * threads), "ns/pair");
	if (nr_changed) {
		fprintf(stderr, "larson: %zu blocks were changed\n", nr_changed);
		return 1;
	}
	return 0;
}
