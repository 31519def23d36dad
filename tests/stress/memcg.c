/* SPDX-License-Identifier: MIT */
/*
 * memcg.c - eight threads in four groups allocate as fast as they can, against limits that they cannot keep.
 *
 * Purpose: at no sample does a group hold more than its max, nor their parent; what fails, fails with ENOMEM and
 * in the groups that are full; when the program is quiet a parent's current is the sum of its children's and its own;
 * and when everything is freed every counter is exactly 0. Limits change while it runs.
 *
 * Objects: group g holds at most MAX_MIB[g]; each of its two threads keeps up to NR_KEPT blocks and frees half of them
 * when it is refused. Blocks are handed to the other group's thread now and then, and freed there.
 *
 * modes: auto lock
 */
#include "../common/torture.h"

#include "kmm/kmm.h"

#pragma weak kmm_memcg_create
#pragma weak kmm_memcg_attach
#pragma weak kmm_memcg_read
#pragma weak kmm_memcg_set
#pragma weak kmm_trim

#define NR_GROUPS  4u
#define NR_THREADS 8u
#define NR_KEPT	   20000u
#define MIB	   (1l << 20)

static const long max_mib[NR_GROUPS] = { 8, 12, 16, 24 };
static const char *const names[NR_GROUPS] = { "load/a", "load/b", "load/c", "load/d" };
static int parent, group[NR_GROUPS];
static bool stop;
static uint64_t nr_allocated, nr_refused, nr_samples;
static void *handed[NR_THREADS];	/* to the thread of that number, by exchange */

static long number_of(int memcg, const char *file)
{
	char text[256];

	T_CHECK(kmm_memcg_read(memcg, file, text, sizeof(text)) > 0, "%s of group %d: %s", file, memcg, strerror(errno));
	return strncmp(text, "max", 3) ? atol(text) : LONG_MAX;
}

/* What the group itself holds, by memory.stat: the lines that are charged, of which CPUs hold at most 64 KiB each. */
static long own_bytes(int memcg)
{
	long stock_max = (64l << 10) * sysconf(_SC_NPROCESSORS_CONF);
	static const char *const charged[] = { "slab ", "large ", "vmalloc ", "pages ", "stock " };
	char text[4096];
	long sum = 0, stock = -1;

	T_CHECK(kmm_memcg_read(memcg, "memory.stat", text, sizeof(text)) > 0, "memory.stat of group %d", memcg);
	for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n")) {
		if (strncmp(line, "stock ", 6) == 0)
			stock = atol(line + 6);
		for (unsigned i = 0; i < NR_OF(charged); i++)
			if (strncmp(line, charged[i], strlen(charged[i])) == 0)
				sum += atol(line + strlen(charged[i]));
	}
	T_CHECK(stock >= 0 && stock <= stock_max, "stocks of group %d: %ld bytes", memcg, stock);
	return sum;
}

static void *allocate(void *arg)
{
	unsigned n = (unsigned)(uintptr_t)arg, g = n % NR_GROUPS, nr = 0;
	void **kept = mmap(NULL, NR_KEPT * sizeof(*kept), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct rng r = rng_of(n + 1);

	T_CHECK(kept != MAP_FAILED, "no memory for the list");
	T_CHECK(kmm_memcg_attach(group[g], 0) == 0, "attach: %s", strerror(errno));
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		size_t size = rng_one_in(&r, 50) ? 1 + rng_below(&r, 400000) : 1 + rng_below(&r, 2000);
		void *p = nr < NR_KEPT ? malloc(size) : NULL;

		if (p) {
			memset(p, (int)n, size < 64 ? size : 64);
			kept[nr++] = p;
			__atomic_fetch_add(&nr_allocated, 1, __ATOMIC_RELAXED);
		} else {
			T_CHECK(nr == NR_KEPT || errno == ENOMEM, "malloc of %zu: %s", size, strerror(errno));
			__atomic_fetch_add(&nr_refused, nr < NR_KEPT, __ATOMIC_RELAXED);
			for (unsigned keep = nr / 2; nr > keep;)
				free(kept[--nr]);
		}
		if (nr && rng_one_in(&r, 100))
			free(__atomic_exchange_n(&handed[(n + 1) % NR_THREADS], kept[--nr], __ATOMIC_ACQ_REL));
		free(__atomic_exchange_n(&handed[n], NULL, __ATOMIC_ACQ_REL));
	}
	while (nr)
		free(kept[--nr]);
	T_CHECK(kmm_memcg_attach(0, 0) == 0, "detach: %s", strerror(errno));
	munmap(kept, NR_KEPT * sizeof(*kept));
	return NULL;
}

/* The limit is read before and after: where somebody raises it in between, the higher one counts. */
static void sample(int memcg)
{
	long before = number_of(memcg, "memory.max"), current = number_of(memcg, "memory.current");
	long after = number_of(memcg, "memory.max");

	T_CHECK(current <= (before > after ? before : after), "group %d holds %ld, and may %ld", memcg, current, after);
	own_bytes(memcg);
	nr_samples++;
}

/* Only up: below what the group holds it would be as documented, and current above max. */
static void change_limit(int memcg, long mib)
{
	char text[32];

	snprintf(text, sizeof(text), "%ldM", mib);
	T_CHECK(kmm_memcg_set(memcg, "memory.max", text) == 0, "memory.max: %s", strerror(errno));
}

static void check_sums(void)
{
	long sum = own_bytes(parent);

	for (unsigned g = 0; g < NR_GROUPS; g++) {
		T_CHECK(number_of(group[g], "memory.current") == own_bytes(group[g]), "%s: current %ld, its own %ld", names[g],
			number_of(group[g], "memory.current"), own_bytes(group[g]));
		sum += number_of(group[g], "memory.current");
	}
	T_CHECK(number_of(parent, "memory.current") == sum, "the parent holds %ld, its children and itself %ld",
		number_of(parent, "memory.current"), sum);
}

int main(void)
{
	pthread_t t[NR_THREADS];
	uint64_t end;

	t_start("memcg");
	T_CHECK(kmm_memcg_create, "libkmm is not preloaded");
	t_watchdog(110 * (t_torture ? 10 : 1));
	parent = kmm_memcg_create("load");
	T_CHECK(parent > 0, "create: %s", strerror(errno));
	change_limit(parent, 48);
	for (unsigned g = 0; g < NR_GROUPS; g++) {
		group[g] = kmm_memcg_create(names[g]);
		T_CHECK(group[g] > 0, "create %s: %s", names[g], strerror(errno));
		change_limit(group[g], max_mib[g]);
	}
	for (unsigned n = 0; n < NR_THREADS; n++)
		t[n] = t_thread(allocate, (void *)(uintptr_t)n);
	for (end = t_deadline(2000); t_now_ms() < end; usleep(1000)) {
		for (unsigned g = 0; g < NR_GROUPS; g++)
			sample(group[g]);
		sample(parent);
		change_limit(group[0], max_mib[0] + (nr_samples > 1000) + (nr_samples > 2000));
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned n = 0; n < NR_THREADS; n++)
		pthread_join(t[n], NULL);
	check_sums();
	for (unsigned n = 0; n < NR_THREADS; n++)
		free(handed[n]);
	for (int tries = 0; tries < 50 && number_of(parent, "memory.current"); tries++) {	/* kmmd may hold a slab just now */
		kmm_trim(0);
		usleep(20000);
	}
	check_sums();
	for (unsigned g = 0; g < NR_GROUPS; g++)
		T_CHECK(number_of(group[g], "memory.current") == 0, "%s still holds %ld", names[g], number_of(group[g], "memory.current"));
	T_CHECK(number_of(parent, "memory.current") == 0, "the parent still holds %ld", number_of(parent, "memory.current"));
	T_CHECK(nr_refused > 100, "the limits were never met: %llu refusals", (unsigned long long)nr_refused);
	printf("%llu allocations, %llu refused, %llu samples\n", (unsigned long long)nr_allocated,
	       (unsigned long long)nr_refused, (unsigned long long)nr_samples);
	return 0;
}
