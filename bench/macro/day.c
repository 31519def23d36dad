/* SPDX-License-Identifier: MIT */
/*
 * day.c - a server's day in a minute: how much more than it needs does it hold?
 *
 * Purpose. Two workers live through 24 hours of 50 ticks each; a tick has a fixed amount of work, and what is left of
 * its time is slept. The traffic follows the hours, one tenth by night, and with it what is alive:
 *   sessions  up to half of MIB: a twentieth ends at random in each tick, others begin until there are as many as the
 *             traffic asks for; their sizes change four times a day
 *   cache     a quarter of MIB at noon and half of that by night: 1 to 16 KiB, the oldest goes first
 *   requests  64 blocks of 16 bytes to 8 KiB each, freed when it is answered
 *   reports   from one to four at night a buffer grows by realloc to an eighth of MIB for each worker, hour by hour
 *
 * What is printed. `day` is the mean of resident/live, looked at every other tick: proportional set size and page tables
 * over the bytes asked for by live blocks. The workers' tables are mapped and are taken off by their resident pages.
 * Everything is decided by SEED, but for when the kernel runs which worker.
 *
 * usage: day [MIB [SECONDS [SEED]]]
 */
#include "resident.h"

#include <pthread.h>
#include <stdatomic.h>

#define WORKERS	 2
#define HOUR	 50
#define TICKS	 (24 * HOUR)
#define REQUEST	 64
#define MIN_SIZE 32

struct object {
	unsigned char *p;
	size_t size;
};

struct worker {
	struct object *sessions, *cache;	/* the cache is a ring of max_cached */
	size_t nr_sessions, oldest, nr_cached, max_cached, session_bytes, cache_bytes;
	struct object report;
	uint64_t state;
	pthread_t thread;
};

/* Per cent of the busiest hour's traffic, from midnight on. */
static const unsigned char traffic[24] = {
	22, 16, 12, 10, 10, 13, 22, 40, 62, 80, 90, 95, 100, 96, 92, 92, 94, 97, 100, 95, 84, 68, 48, 32
};
static const uint32_t session_sizes[4][2] = { { MIN_SIZE, 256 }, { 64, 1024 }, { 200, 900 }, { 500, 4000 } };

static struct worker workers[WORKERS];
static size_t share, table_size;		/* a worker's part of MIB; the size of its tables, which follow each other */
static double start, tick_seconds;
static atomic_size_t live;

static struct object make(struct worker *w, uint32_t from, uint32_t to)
{
	size_t size = from + below(&w->state, to - from + 1);
	unsigned char *p = malloc(size);

	if (!p)
		exit(1);
	memset(p, (int)size, size);
	atomic_fetch_add(&live, size);
	return (struct object){ p, size };
}

static void drop(struct object *o)
{
	if (o->p[0] != (unsigned char)o->size || o->p[o->size - 1] != (unsigned char)o->size) {
		fprintf(stderr, "day: a block has changed\n");
		exit(1);
	}
	atomic_fetch_sub(&live, o->size);
	free(o->p);
	o->p = NULL;
}

/* Between the hours the traffic changes evenly. */
static size_t traffic_at(unsigned tick)
{
	unsigned hour = tick / HOUR, now = tick % HOUR;

	return (traffic[hour] * (HOUR - now) + traffic[(hour + 1) % 24] * now) / HOUR;
}

static void sessions(struct worker *w, unsigned tick)
{
	const uint32_t *size = session_sizes[tick / HOUR / 6];
	size_t target = share / 2 * traffic_at(tick) / 100;

	for (size_t n = w->nr_sessions / 20; n || (w->nr_sessions && w->session_bytes > target); n -= n > 0) {
		struct object *o = &w->sessions[below(&w->state, (uint32_t)w->nr_sessions)];

		w->session_bytes -= o->size;
		drop(o);
		*o = w->sessions[--w->nr_sessions];
	}
	while (w->session_bytes < target) {
		struct object o = make(w, size[0], size[1]);

		w->sessions[w->nr_sessions++] = o;
		w->session_bytes += o.size;
	}
}

static void cache(struct worker *w, unsigned tick)
{
	size_t budget = share / 4 * (50 + traffic_at(tick) / 2) / 100, fresh = budget / 50;

	for (size_t bytes = 0; bytes < fresh || w->cache_bytes < budget / 2;) {
		struct object o = make(w, 1024, 16384);

		w->cache[(w->oldest + w->nr_cached++) % w->max_cached] = o;
		w->cache_bytes += o.size;
		bytes += o.size;
	}
	while (w->cache_bytes > budget) {
		struct object *o = &w->cache[w->oldest];

		w->cache_bytes -= o->size;
		drop(o);
		w->oldest = (w->oldest + 1) % w->max_cached;
		w->nr_cached--;
	}
}

static void requests(struct worker *w, unsigned tick)
{
	struct object of[REQUEST];

	for (size_t n = traffic_at(tick); n; n--) {
		for (int i = 0; i < REQUEST; i++)
			of[i] = make(w, 16, 16u << below(&w->state, 10));
		for (int i = 0; i < REQUEST; i++)
			drop(&of[i]);
	}
}

static void reports(struct worker *w, unsigned tick)
{
	unsigned hour = tick / HOUR;
	size_t size = share / 4 * (tick % HOUR + 1) / HOUR;

	if (w->report.p && (hour < 1 || hour >= 4 || size < w->report.size)) {
		memset(w->report.p, (int)w->report.size, w->report.size);
		drop(&w->report);
	}
	if (hour < 1 || hour >= 4)
		return;
	atomic_fetch_add(&live, size - (w->report.p ? w->report.size : 0));
	w->report.p = realloc(w->report.p, size);
	if (!w->report.p)
		exit(1);
	memset(w->report.p, (int)size, size);
	w->report.size = size;
}

static void wait_for(unsigned tick)
{
	double left = start + tick * tick_seconds - seconds();

	if (left > 0)
		pause_ms((long)(left * 1000) + 1);
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (unsigned tick = 0; tick < TICKS; tick++) {
		wait_for(tick);
		sessions(w, tick);
		cache(w, tick);
		requests(w, tick);
		reports(w, tick);
	}
	return NULL;
}

static size_t tables_resident(void)
{
	static unsigned char present[1 << 20];
	size_t pages = 0, nr = table_size / 4096;

	for (int i = 0; i < WORKERS; i++) {
		if (nr > sizeof(present) || mincore(workers[i].sessions, table_size, present))
			exit(1);
		for (size_t n = 0; n < nr; n++)
			pages += present[n] & 1;
	}
	return pages * 4096;
}

int main(int argc, char **argv)
{
	static const char usage[] = "day [MIB [SECONDS [SEED]]]";
	size_t mib = number(argc, argv, 1, 128, usage), max_sessions;
	double sum = 0;
	unsigned nr = 0;

	tick_seconds = (double)number(argc, argv, 2, 60, usage) / TICKS;
	share = (mib << 20) / WORKERS;
	max_sessions = share / 2 / MIN_SIZE + 1;
	for (int i = 0; i < WORKERS; i++) {
		struct worker *w = &workers[i];

		w->max_cached = share / 4 / 1024 + 32;
		w->state = number(argc, argv, 3, 1, usage) * WORKERS + (uint64_t)i;
		table_size = ((max_sessions + w->max_cached) * sizeof(struct object) + 4095) & ~4095ul;
		w->sessions = map_table(table_size);
		w->cache = w->sessions + max_sessions;
	}
	start = seconds();
	for (int i = 0; i < WORKERS; i++)
		if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
			return 1;
	for (unsigned tick = 2; tick < TICKS; tick += 2) {
		size_t alive;

		wait_for(tick);
		alive = live;
		if (alive) {		/* else no worker has begun */
			sum += (double)trace(alive, tables_resident()) / (double)alive;
			nr++;
		}
	}
	for (int i = 0; i < WORKERS; i++)
		pthread_join(workers[i].thread, NULL);
	trace(live, tables_resident());
	printf("day %.3f resident/live\n", sum / nr);
	return 0;
}
