/* SPDX-License-Identifier: MIT */
/*
 * memcg_churn.c - groups come and go while threads are in them, are moved, are created, and while the process forks.
 *
 * Purpose: what races with the removal of a group. Threads make groups with random parents, go in, allocate and free
 * what others allocated, put others into groups, start short-lived threads which inherit, change limits, read files, and
 * remove groups with memory still charged. One forks; the child allocates and removes every group. At the end the
 * parent does: what the root holds beyond its own is then what libc keeps of threads' stacks, and the colours are free.
 *
 * modes: auto lock debug
 */
#include "../common/torture.h"

#include "kmm/kmm.h"

#pragma weak kmm_memcg_create
#pragma weak kmm_memcg_find
#pragma weak kmm_memcg_remove
#pragma weak kmm_memcg_attach
#pragma weak kmm_memcg_read
#pragma weak kmm_memcg_set
#pragma weak kmm_trim

#define NR_THREADS 6u
#define NR_GROUPS  24u
#define NR_BLOCKS  4096u
#define NR_BIGS	   64u
#define KEPT_MAX   (NR_GROUPS * (64l << 10))	/* what describes stacks: a slab or two on a CPU, in each group that had threads */

static int group[NR_GROUPS];		/* numbers; also of groups that are gone by now */
static int tids[NR_THREADS];
static void *blocks[NR_BLOCKS], *bigs[NR_BIGS];	/* by exchange */
static long bytes_in_hand;
static bool stop, go;
static uint64_t nr_made, nr_removed, nr_started, nr_forked;

static long number_of(int memcg, const char *file)
{
	char text[64];

	return kmm_memcg_read(memcg, file, text, sizeof(text)) > 0 && strncmp(text, "max", 3) ? atol(text) : -1;
}

static long own_bytes(int memcg)
{
	static const char *const charged[] = { "slab ", "large ", "vmalloc ", "pages ", "stock " };
	char text[4096];
	long sum = 0;

	T_CHECK(kmm_memcg_read(memcg, "memory.stat", text, sizeof(text)) > 0, "memory.stat of group %d", memcg);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
		for (unsigned i = 0; i < NR_OF(charged); i++)
			if (strncmp(line, charged[i], strlen(charged[i])) == 0)
				sum += atol(line + strlen(charged[i]));
	return sum;
}

static int some_group(struct rng *r)
{
	return __atomic_load_n(&group[rng_below(r, NR_GROUPS)], __ATOMIC_RELAXED);
}

/* Each slot has a path of its own: four are below the root, the others below those. */
static void path_of(unsigned slot, char path[32])
{
	if (slot >= 4)
		snprintf(path, 32, "g%u/g%u", slot % 4, slot);
	else
		snprintf(path, 32, "g%u", slot);
}

static void make_group(struct rng *r)
{
	unsigned slot = rng_below(r, NR_GROUPS);
	char path[32];
	int id;

	path_of(slot, path);
	id = kmm_memcg_create(path);
	if (id < 0)
		return;
	__atomic_store_n(&group[slot], id, __ATOMIC_RELAXED);
	__atomic_fetch_add(&nr_made, 1, __ATOMIC_RELAXED);
}

/* At most so many bytes of blocks that nobody finds in a child, if it is made now. */
static void in_hand(long bytes)
{
	__atomic_fetch_add(&bytes_in_hand, bytes, __ATOMIC_RELAXED);
}

static void allocate_some(struct rng *r, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		bool big = rng_one_in(r, 60);
		void **where = big ? &bigs[rng_below(r, NR_BIGS)] : &blocks[rng_below(r, NR_BLOCKS)];
		long limit = big ? 3 << 20 : 3000;
		char *p;

		in_hand(2 * limit);
		p = malloc(1 + rng_below(r, (uint32_t)limit));
		if (p)
			*p = 1;
		free(__atomic_exchange_n(where, p, __ATOMIC_ACQ_REL));
		in_hand(-2 * limit);
	}
}

static void *short_life(void *arg)
{
	struct rng r = rng_of((unsigned)(uintptr_t)arg);

	allocate_some(&r, 20);
	return NULL;
}

static void start_one(struct rng *r)
{
	pthread_t t;

	if (pthread_create(&t, NULL, short_life, (void *)(uintptr_t)rng_below(r, 1 << 30)) != 0)
		return;
	if (rng_one_in(r, 2))
		kmm_memcg_attach(0, 0);		/* its group may be removed before it begins */
	pthread_join(t, NULL);
	__atomic_fetch_add(&nr_started, 1, __ATOMIC_RELAXED);
}

static void change_limit(struct rng *r)
{
	static const char *const files[] = { "memory.max", "memory.low", "memory.min" };
	static const char *const values[] = { "2M", "20M", "max", "max", "max", "64M" };

	kmm_memcg_set(some_group(r), files[rng_below(r, 3)], values[rng_below(r, NR_OF(values))]);
}

static void *churn(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg;
	struct rng r = rng_of(n + 1);

	__atomic_store_n(&tids[n], gettid(), __ATOMIC_RELAXED);
	while (!__atomic_load_n(&go, __ATOMIC_ACQUIRE))
		usleep(100);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		switch (rng_below(&r, 12)) {
		case 0:
			make_group(&r);
			break;
		case 1:
			if (kmm_memcg_remove(some_group(&r)) == 0)
				__atomic_fetch_add(&nr_removed, 1, __ATOMIC_RELAXED);
			break;
		case 2:
			kmm_memcg_attach(some_group(&r), __atomic_load_n(&tids[rng_below(&r, NR_THREADS)], __ATOMIC_RELAXED));
			break;
		case 3:
			start_one(&r);
			break;
		case 4:
			change_limit(&r);
			break;
		case 5:
			number_of(some_group(&r), "memory.stat");
			number_of(some_group(&r), "memory.pressure");
			break;
		case 6:
			kmm_memcg_attach(0, 0);
			break;
		case 7:
			kmm_memcg_attach(some_group(&r), 0);
			break;
		default:
			allocate_some(&r, 200);
		}
	}
	kmm_memcg_attach(0, 0);
	return NULL;
}

/* Nobody else is there: everything can be freed and removed, and the root is left with its own and what libc keeps. */
static void check_empty(const char *where)
{
	long kept_max = KEPT_MAX + bytes_in_hand;	/* none in the parent: its threads are gone */

	for (unsigned i = 0; i < NR_BLOCKS; i++)
		free(__atomic_exchange_n(&blocks[i], NULL, __ATOMIC_ACQ_REL));
	for (unsigned i = 0; i < NR_BIGS; i++)
		free(__atomic_exchange_n(&bigs[i], NULL, __ATOMIC_ACQ_REL));
	T_CHECK(kmm_memcg_attach(0, 0) == 0, "%s: attach: %s", where, strerror(errno));
	for (unsigned slot = NR_GROUPS; slot--;) {		/* children before parents */
		char path[32];
		int id;

		path_of(slot, path);
		id = kmm_memcg_find(path);	/* a fork may have come before its number was noted */
		T_CHECK(id < 0 || kmm_memcg_remove(id) == 0, "%s: remove %s: %s", where, path, strerror(errno));
	}
	kmm_trim(0);
	for (int tries = 0; tries < 50; tries++) {	/* kmmd may be at it */
		long kept = number_of(0, "memory.current") - own_bytes(0);

		if (kept >= 0 && kept <= kept_max)
			return;
		usleep(20000);
		kmm_trim(0);
	}
	t_fail("%s: the root holds %ld, its own are %ld", where, number_of(0, "memory.current"), own_bytes(0));
}

/* Everything that is to race has happened, some times; the watchdog ends a test that does not get there. */
static bool enough(void)
{
	return __atomic_load_n(&nr_made, __ATOMIC_RELAXED) > 50 && __atomic_load_n(&nr_removed, __ATOMIC_RELAXED) > 50 &&
	       __atomic_load_n(&nr_started, __ATOMIC_RELAXED) > 20 && nr_forked > 5;
}

static void fork_one(struct rng *r)
{
	pid_t pid = fork();
	int status;

	T_CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		kmm_memcg_attach(some_group(r), 0);
		allocate_some(r, 500);
		check_empty("child");
		_exit(0);
	}
	T_CHECK(waitpid(pid, &status, 0) == pid && status == 0, "the child ended with status %x", status);
	nr_forked++;
}

int main(void)
{
	struct rng r = rng_of(0);
	pthread_t t[NR_THREADS];
	uint64_t end;
	int all[256], nr = 0;
	char name[16];

	t_start("memcg_churn");
	T_CHECK(kmm_memcg_create, "libkmm is not preloaded");
	t_watchdog(110 * (t_torture ? 10 : 1));
	for (unsigned n = 0; n < NR_THREADS; n++)
		t[n] = t_thread(churn, (void *)(uintptr_t)n);
	__atomic_store_n(&go, true, __ATOMIC_RELEASE);	/* group 0 is the root: once that is limited, no thread may be to be had */
	for (end = t_deadline(2000); t_now_ms() < end || !enough(); usleep(5000))
		fork_one(&r);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned n = 0; n < NR_THREADS; n++)
		pthread_join(t[n], NULL);
	check_empty("parent");
	for (; nr < 255; nr++) {
		snprintf(name, sizeof(name), "x%d", nr);
		all[nr] = kmm_memcg_create(name);
		if (all[nr] < 0)
			break;
	}
	T_CHECK(nr >= 255 - (int)NR_GROUPS, "%d groups, then: %s", nr, strerror(errno));
	while (nr--)
		T_CHECK(kmm_memcg_remove(all[nr]) == 0, "remove: %s", strerror(errno));
	printf("%llu groups made, %llu removed, %llu threads, %llu forks\n", (unsigned long long)nr_made,
	       (unsigned long long)nr_removed, (unsigned long long)nr_started, (unsigned long long)nr_forked);
	return 0;
}
