/* SPDX-License-Identifier: MIT */
/*
 * threads.c - many threads, many sizes, threads that come and go, threads that sleep.
 *
 * Purpose: three parts, one after the other.
 *   mix       eight threads use every entry point with sizes up to 1 MiB and hand objects to each other
 *   churn     thousands of threads are made and end, each leaves objects to its successor; memory must depend on
 *             the number of CPUs, not on the number of dead threads
 *   sleepers  1,000 threads have allocated and sleep: what is cached for them must stay small
 *
 * Objects: tobj of torture.h; they say themselves what they must contain.
 *
 * modes: auto lock debug
 */
#include "../common/torture.h"

#define NR_THREADS  8
#define NR_HELD	    128
#define NR_RING	    256
#define NR_SLEEPERS 1000

static bool stop;
static uint64_t nr_ops;
static struct tobj *ring[NR_RING];

/* --- mix ------------------------------------------------------------------------------------------------ */
static struct tobj *new_zeroed(size_t size)
{
	uint64_t *p = calloc(1, size);

	T_CHECK(p, "calloc(%zu): %s", size, strerror(errno));
	for (size_t i = 0; i < size / 8; i++)
		T_CHECK(p[i] == 0, "calloc(%zu) is not zero at %zu: %llx", size, i * 8, (unsigned long long)p[i]);
	return tobj_init(p, size);
}

static struct tobj *new_aligned(struct rng *r, size_t size)
{
	size_t align = (size_t)8 << rng_below(r, 15);	/* 8 .. 128 KiB */
	void *p = NULL;

	switch (rng_below(r, 3)) {
	case 0:
		p = memalign(align, size);
		break;
	case 1:
		p = aligned_alloc(align, size);
		break;
	default:
		T_CHECK(posix_memalign(&p, align, size) == 0, "posix_memalign(%zu, %zu)", align, size);
	}
	T_CHECK(p, "%zu bytes aligned to %zu: %s", size, align, strerror(errno));
	T_CHECK(((uintptr_t)p & (align - 1)) == 0, "%p of %zu bytes is not aligned to %zu", p, size, align);
	return tobj_init(p, size);
}

static struct tobj *resize(struct tobj *o, size_t size)
{
	size_t old = o->size;
	uint64_t key = old ^ (uintptr_t)o;
	struct tobj *n;

	tobj_check(o);
	__atomic_store_n(&o->stamp, 0, __ATOMIC_RELEASE);
	n = realloc(o, size);
	T_CHECK(n, "realloc(%zu to %zu): %s", old, size, strerror(errno));
	T_CHECK(n->size == old && n->stamp == 0, "realloc(%zu to %zu) lost the beginning", old, size);
	pattern_check(n, sizeof(*n), old, size, key);
	return tobj_init(n, size);
}

static struct tobj *new_any(struct rng *r)
{
	size_t size = rng_size(r, rng_one_in(r, 16) ? 20 : 12);
	struct tobj *o;

	switch (rng_below(r, 8)) {
	case 0:
		return new_zeroed(size);
	case 1:
		return new_aligned(r, size);
	case 2:
		o = reallocarray(NULL, 1, size);
		T_CHECK(o, "reallocarray(%zu): %s", size, strerror(errno));
		o = tobj_init(o, size);
		break;
	default:
		o = tobj_new(size);
	}
	T_CHECK(malloc_usable_size(o) >= size, "%zu bytes have a usable size of %zu", size, malloc_usable_size(o));
	return o;
}

static void *mixer(void *arg)
{
	struct rng r = rng_of(100 + (uintptr_t)arg);
	struct tobj *held[NR_HELD] = {NULL};
	uint64_t ops = 0;

	for (; !__atomic_load_n(&stop, __ATOMIC_RELAXED); ops++) {
		struct tobj **slot = &held[rng_below(&r, NR_HELD)];

		if (!*slot) {
			*slot = new_any(&r);
		} else if (rng_one_in(&r, 4)) {
			*slot = resize(*slot, rng_size(&r, rng_one_in(&r, 16) ? 20 : 12));
		} else {
			tobj_free(*slot);
			*slot = NULL;
		}
		slot = &held[rng_below(&r, NR_HELD)];
		if (*slot && rng_one_in(&r, 3)) {
			*slot = __atomic_exchange_n(&ring[rng_below(&r, NR_RING)], *slot, __ATOMIC_ACQ_REL);
			if (*slot)
				tobj_check(*slot);
		}
		if (rng_one_in(&r, 100000))
			malloc_trim(0);
	}
	for (unsigned i = 0; i < NR_HELD; i++)
		if (held[i])
			tobj_free(held[i]);
	__atomic_add_fetch(&nr_ops, ops, __ATOMIC_RELAXED);
	return NULL;
}

static void mix(void)
{
	pthread_t threads[NR_THREADS];
	uint64_t end;

	for (uintptr_t i = 0; i < NR_THREADS; i++)
		threads[i] = t_thread(mixer, (void *)i);
	for (end = t_deadline(2500); t_now_ms() < end;)
		usleep(20000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < NR_THREADS; i++)
		pthread_join(threads[i], NULL);
	for (unsigned i = 0; i < NR_RING; i++)
		if (ring[i])
			tobj_free(ring[i]);
	T_CHECK(nr_ops > 1000, "only %llu operations", (unsigned long long)nr_ops);
	printf("threads: mix: %llu operations\n", (unsigned long long)nr_ops);
}

/* --- churn ---------------------------------------------------------------------------------------------- */
#define NR_LEGACY 64

struct generation {
	uint64_t stream;
	struct tobj *legacy[NR_LEGACY];	/* from the thread before, for the thread after */
};

static void *mayfly(void *arg)
{
	struct generation *g = arg;
	struct rng r = rng_of(g->stream);

	for (unsigned i = 0; i < NR_LEGACY; i++) {
		struct tobj *own = tobj_new(rng_size(&r, 12));

		if (g->legacy[i])
			tobj_free(g->legacy[i]);
		g->legacy[i] = tobj_new(rng_size(&r, 11));
		tobj_free(own);
	}
	return NULL;
}

static unsigned churn_for(unsigned nr_threads, unsigned ms, uint64_t stream)
{
	struct generation g[4];
	pthread_t threads[4];
	uint64_t end = t_deadline(ms);
	unsigned n = 0;

	memset(g, 0, sizeof(g));
	while (n < nr_threads || (!nr_threads && t_now_ms() < end)) {
		for (unsigned i = 0; i < 4; i++, n++) {
			g[i].stream = stream + n;
			threads[i] = t_thread(mayfly, &g[i]);
		}
		for (unsigned i = 0; i < 4; i++)
			pthread_join(threads[i], NULL);
	}
	for (unsigned i = 0; i < 4; i++)
		for (unsigned j = 0; j < NR_LEGACY; j++)
			tobj_free(g[i].legacy[j]);
	return n;
}

static void churn(void)
{
	unsigned nr = churn_for(400, 0, 10000);
	long before = t_pss_kib(), after;

	nr = churn_for(0, 2000, 20000);
	after = t_pss_kib();
	T_CHECK(nr >= 100, "only %u threads", nr);
	T_CHECK(after - before < 4096, "%u dead threads cost %ld KiB", nr, after - before);
	printf("threads: churn: %u threads came and went, %ld KiB before, %ld KiB after\n", nr, before, after);
}

/* --- sleepers ------------------------------------------------------------------------------------------- */
static pthread_barrier_t all_there, all_measured, all_done;
static pthread_mutex_t one_at_a_time = PTHREAD_MUTEX_INITIALIZER;

static void *sleeper(void *arg)
{
	struct rng r = rng_of(50000 + (uintptr_t)arg);
	struct tobj *held[64];

	pthread_barrier_wait(&all_there);
	pthread_barrier_wait(&all_measured);
	pthread_mutex_lock(&one_at_a_time);
	for (unsigned i = 0; i < NR_OF(held); i++)
		held[i] = tobj_new(16 + 16 * rng_below(&r, 64));
	for (unsigned i = 0; i < NR_OF(held); i++)
		tobj_free(held[i]);
	pthread_mutex_unlock(&one_at_a_time);
	pthread_barrier_wait(&all_done);
	pthread_barrier_wait(&all_there);
	return NULL;
}

static void sleepers(void)
{
	static pthread_t threads[NR_SLEEPERS];
	pthread_attr_t attr;
	long before, after;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, 64 << 10);
	pthread_barrier_init(&all_there, NULL, NR_SLEEPERS + 1);
	pthread_barrier_init(&all_measured, NULL, NR_SLEEPERS + 1);
	pthread_barrier_init(&all_done, NULL, NR_SLEEPERS + 1);
	for (uintptr_t i = 0; i < NR_SLEEPERS; i++) {
		int err = pthread_create(&threads[i], &attr, sleeper, (void *)i);

		T_CHECK(err == 0, "thread %u: %s", (unsigned)i, strerror(err));
	}
	pthread_barrier_wait(&all_there);
	before = t_pss_kib();
	pthread_barrier_wait(&all_measured);
	pthread_barrier_wait(&all_done);
	after = t_pss_kib();
	/* a page or two of each stack, one object of a cache line or two for each thread */
	T_CHECK(!t_on_kmm() || after - before < 4l * NR_SLEEPERS * 2 + 4096, "%u sleeping threads keep %ld KiB", NR_SLEEPERS,
		after - before);
	printf("threads: sleepers: %ld KiB before they allocated, %ld KiB after\n", before, after);
	pthread_barrier_wait(&all_there);
	for (unsigned i = 0; i < NR_SLEEPERS; i++)
		pthread_join(threads[i], NULL);
	pthread_attr_destroy(&attr);
}

int main(void)
{
	t_start("threads");
	t_watchdog(t_torture ? 900 : 90);
	mix();
	churn();
	sleepers();
	return 0;
}
