/* SPDX-License-Identifier: MIT */
/*
 * remote.c - objects are freed on another CPU than the one that allocated them.
 *
 * Purpose: caches and slabs of a CPU must get their objects back although another CPU frees them all, and memory
 * must stay within a small multiple of what is live. Each shape runs in a child of its own, whose peak the parent
 * reads with wait4(2).
 *   pipe    one thread allocates on CPU 0, one frees on CPU 1
 *   relay   four threads in a ring: each frees what the one before allocated
 *   burst   100,000 objects made by one, freed by the other, sizes change from burst to burst
 *
 * Objects: tobj, in a single-producer single-consumer queue of fixed length: what is live is bounded.
 *
 * modes: auto lock
 */
#include "../common/torture.h"

#include <sys/resource.h>

#define QUEUE_LEN 4096u
#define MAX_SIZE  2048u
#define NR_BURST  100000u

struct queue {
	struct tobj *slot[QUEUE_LEN];
	unsigned head __attribute__((aligned(64)));	/* written by the producer */
	unsigned tail __attribute__((aligned(64)));	/* written by the consumer */
	bool closed;
};

static bool stop;
static uint64_t nr_passed;

static bool queue_put(struct queue *q, struct tobj *o)
{
	if (q->head - __atomic_load_n(&q->tail, __ATOMIC_ACQUIRE) == QUEUE_LEN)
		return false;
	q->slot[q->head % QUEUE_LEN] = o;
	__atomic_store_n(&q->head, q->head + 1, __ATOMIC_RELEASE);
	return true;
}

static struct tobj *queue_get(struct queue *q)
{
	struct tobj *o;

	if (q->tail == __atomic_load_n(&q->head, __ATOMIC_ACQUIRE))
		return NULL;
	o = q->slot[q->tail % QUEUE_LEN];
	__atomic_store_n(&q->tail, q->tail + 1, __ATOMIC_RELEASE);
	return o;
}

/* --- pipe and relay: thread n frees what comes in and sends out its own -------------------------------- */
struct station {
	unsigned n;
	struct queue *in, *out;
};

static void *station(void *arg)
{
	struct station *st = arg;
	struct rng r = rng_of(100 + st->n);
	struct tobj *o, *next = NULL;
	uint64_t passed = 0;

	t_pin(st->n);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		bool idle = true;

		while (st->in && (o = queue_get(st->in))) {
			tobj_free(o);
			idle = false;
			passed++;
		}
		for (unsigned i = 0; st->out && i < 512; i++, idle = false) {
			if (!next)
				next = tobj_new(16 + rng_below(&r, MAX_SIZE - 16));
			if (!queue_put(st->out, next))
				break;
			next = NULL;
		}
		if (idle)
			sched_yield();
	}
	if (next)
		tobj_free(next);
	__atomic_add_fetch(&nr_passed, passed, __ATOMIC_RELAXED);
	return NULL;
}

/* Runs the stations; in the middle and at the end memory must be the same. */
static void run_stations(struct station *st, unsigned nr, unsigned ms)
{
	pthread_t threads[4];
	long early, late;
	uint64_t end;

	for (unsigned i = 0; i < nr; i++)
		threads[i] = t_thread(station, &st[i]);
	for (end = t_deadline(ms / 3); t_now_ms() < end;)
		usleep(10000);
	early = t_pss_kib();
	for (end = t_deadline(ms - ms / 3); t_now_ms() < end;)
		usleep(10000);
	late = t_pss_kib();
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
	T_CHECK(nr_passed > QUEUE_LEN, "only %llu objects passed", (unsigned long long)nr_passed);
	T_CHECK(late < early + early / 2 + 8192, "memory grew from %ld to %ld KiB", early, late);
	printf("remote: %llu objects passed, %ld KiB early, %ld KiB late\n", (unsigned long long)nr_passed, early, late);
}

static struct queue queues[4];

static void pipe_shape(void)
{
	struct station st[2] = {{.n = 0, .out = &queues[0]}, {.n = 1, .in = &queues[0]}};

	run_stations(st, 2, 1500);
}

static void relay_shape(void)
{
	struct station st[4];

	for (unsigned i = 0; i < 4; i++)
		st[i] = (struct station){.n = i, .in = &queues[i], .out = &queues[(i + 1) % 4]};
	run_stations(st, 4, 1500);
}

/* --- burst ---------------------------------------------------------------------------------------------- */
static struct tobj *burst[NR_BURST];

static void *free_burst(void *arg)
{
	t_pin((unsigned)(uintptr_t)arg);
	for (unsigned i = 0; i < NR_BURST; i++)
		tobj_free(burst[i]);
	return NULL;
}

static void burst_shape(void)
{
	static const size_t sizes[] = {64, 320, 48, 640, 128, 512};
	struct rng r = rng_of(1);
	uint64_t end = t_deadline(1500);

	for (unsigned n = 0; n < NR_OF(sizes) || t_now_ms() < end; n++) {
		t_pin(n);
		for (unsigned i = 0; i < NR_BURST; i++)
			burst[i] = tobj_new(sizes[n % NR_OF(sizes)]);
		for (unsigned i = NR_BURST; i-- > 1;) {	/* in any order */
			unsigned j = rng_below(&r, i + 1);
			struct tobj *o = burst[i];

			burst[i] = burst[j];
			burst[j] = o;
		}
		pthread_join(t_thread(free_burst, (void *)(uintptr_t)(n + 1)), NULL);
	}
}

/* Runs a shape in a child; its peak in KiB must stay below the bound. */
static void measure(const char *name, void (*shape)(void), long bound)
{
	struct rusage ru;
	int status;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	T_CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		t_watchdog(t_torture ? 400 : 60);
		shape();
		exit(0);
	}
	T_CHECK(wait4(pid, &status, 0, &ru) == pid, "wait4: %s", strerror(errno));
	T_CHECK(status == 0, "%s ended with status %x", name, (unsigned)status);
	T_CHECK(ru.ru_maxrss < bound, "%s: %ld KiB at its peak, at most %ld allowed", name, ru.ru_maxrss, bound);
	printf("remote: %s: peak %ld KiB, bound %ld\n", name, ru.ru_maxrss, bound);
}

int main(void)
{
	const long live = (long)QUEUE_LEN * MAX_SIZE >> 10;	/* of one queue, if it were full of the largest */

	t_start("remote");
	t_nth_cpu(0);
	measure("pipe", pipe_shape, 4 * live + 16384);
	measure("relay", relay_shape, 4 * 2 * live + 16384);
	/* the largest burst is live once; the sizes before and after it may be left over in part */
	measure("burst", burst_shape, (long)NR_BURST * 640 / 1024 * 2 + 32768);
	return 0;
}
