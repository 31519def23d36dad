/* SPDX-License-Identifier: MIT */
/*
 * memcg_api.c - memory groups by the API: limits, events, counters that come back to zero, policies, shrinkers, fork.
 * timeout: 120
 * modes: auto lock debug
 */
#include "kmm/kmm.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#pragma weak kmm_memcg_create
#pragma weak kmm_memcg_find
#pragma weak kmm_memcg_remove
#pragma weak kmm_memcg_attach
#pragma weak kmm_memcg_current
#pragma weak kmm_memcg_read
#pragma weak kmm_memcg_set
#pragma weak kmm_memcg_set_oom
#pragma weak kmm_register_shrinker
#pragma weak kmm_unregister_shrinker
#pragma weak kmm_trim
#pragma weak kmm_alloc_pages
#pragma weak kmm_free_pages

#define MB (1ul << 20)
#define MAX_BLOCKS 400000

#define CHECK(c)                                                                                                       \
	do {                                                                                                           \
		if (!(c)) {                                                                                            \
			fprintf(stderr, "%s:%d: not true: %s (errno %d)\n", __FILE__, __LINE__, #c, errno);             \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

static void *block[MAX_BLOCKS];

static long number(int cg, const char *file)
{
	char buf[64];

	CHECK(kmm_memcg_read(cg, file, buf, sizeof(buf)) > 0);
	return strcmp(buf, "max\n") == 0 ? -1 : atol(buf);
}

/* The number behind a key of a file with lines "key number". */
static long value_of(int cg, const char *file, const char *key)
{
	char buf[1024], *line, *save;
	size_t len = strlen(key);

	CHECK(kmm_memcg_read(cg, file, buf, sizeof(buf)) > 0);
	for (line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return atol(line + len + 1);
	CHECK(!"key");
	return 0;
}

static long current_of(int cg)
{
	return number(cg, "memory.current");
}

/* What the group holds itself, by item: with those below it, that is what it is charged. */
static long own(int cg)
{
	return value_of(cg, "memory.stat", "slab") + value_of(cg, "memory.stat", "large") + value_of(cg, "memory.stat", "vmalloc") +
	       value_of(cg, "memory.stat", "pages") + value_of(cg, "memory.stat", "stock");
}

/* Blocks of size until there are nr, or no more; how many. */
static unsigned fill(size_t size, unsigned nr)
{
	unsigned i;

	for (i = 0; i < nr; i++) {
		block[i] = malloc(size);
		if (!block[i])
			break;
		memset(block[i], 1, size < 64 ? size : 64);
	}
	return i;
}

static void drop(unsigned nr)
{
	while (nr)
		free(block[--nr]);
}

static double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static int limited(const char *path, const char *max)
{
	int cg = kmm_memcg_create(path);

	CHECK(cg > 0);
	CHECK(kmm_memcg_set(cg, "memory.max", max) == 0);
	return cg;
}

/* --- names and values ------------------------------------------------------------------------------------- */

static void names(void)
{
	static const char *const bad[] = { "", "a/", "a//b", ".a", "..", "a b", "a*", "nowhere/a",
					   "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa" };
	int a = kmm_memcg_create("a"), b;

	CHECK(a > 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK(kmm_memcg_create(bad[i]) == -1 && (errno == EINVAL || errno == ENOENT));
	CHECK(kmm_memcg_create("a") == -1 && errno == EEXIST);
	b = kmm_memcg_create("a/b");
	CHECK(b > 0 && b != a);
	CHECK(kmm_memcg_find("a/b") == b && kmm_memcg_find("a") == a && kmm_memcg_find("") == 0 && kmm_memcg_find("/a/b") == b);
	CHECK(kmm_memcg_find("b") == -1 && errno == ENOENT);
	CHECK(kmm_memcg_remove(a) == -1 && errno == EBUSY);
	CHECK(kmm_memcg_attach(b, 0) == 0 && kmm_memcg_current() == b);
	CHECK(kmm_memcg_remove(b) == -1 && errno == EBUSY);
	CHECK(kmm_memcg_attach(0, 0) == 0 && kmm_memcg_current() == 0);
	CHECK(kmm_memcg_remove(b) == 0 && kmm_memcg_remove(b) == -1 && errno == ENOENT);
	CHECK(kmm_memcg_remove(a) == 0 && kmm_memcg_remove(0) == -1 && errno == EINVAL);
	CHECK(kmm_memcg_attach(a, 0) == -1 && errno == ENOENT);
	CHECK(kmm_memcg_set(a, "memory.max", "1M") == -1 && errno == ENOENT);
	CHECK(kmm_memcg_attach(0, 1 << 22) == -1 && errno == ESRCH);
	for (int i = 0; i < 1000; i++) {	/* colours are used again */
		b = kmm_memcg_create("again");
		CHECK(b > 0 && kmm_memcg_remove(b) == 0);
	}
}

static void absurd_values(void)
{
	static const char *const bad[] = { "", " ", "x", "-1", "1x", "1.5G", "0x10", "101%", "0%", "1 ", "99999999999999999999999", "nan" };
	int cg = kmm_memcg_create("absurd");
	unsigned nr;
	char buf[8];

	CHECK(number(cg, "memory.max") == -1 && number(cg, "memory.min") == 0);
	for (unsigned i = 0; i < sizeof(bad) / sizeof(*bad); i++)
		CHECK(kmm_memcg_set(cg, "memory.max", bad[i]) == -1 && errno == EINVAL);
	CHECK(number(cg, "memory.max") == -1);
	CHECK(kmm_memcg_set(cg, "memory.nonsense", "1") == -1 && errno == ENOENT);
	CHECK(kmm_memcg_read(cg, "memory.nonsense", buf, sizeof(buf)) == -1 && errno == ENOENT);
	CHECK(kmm_memcg_set(cg, "memory.current", "1") == -1 && errno == ENOENT);
	CHECK(kmm_memcg_read(cg, "memory.stat", buf, sizeof(buf)) > 8 && strlen(buf) == 7);

	/* Nothing at all: every allocation that needs a page fails, small ones and large. */
	CHECK(kmm_memcg_set(cg, "memory.max", "0") == 0 && number(cg, "memory.max") == 0);
	CHECK(kmm_memcg_attach(cg, 0) == 0);
	errno = 0;
	CHECK(!malloc(100) && errno == ENOMEM && !malloc(1 << 20) && !malloc(16 << 20) && !calloc(1, 300000) && !kmm_alloc_pages(1));
	CHECK(current_of(cg) == 0);

	/* Below what one slab a class needs: some is allocated, then refused; never above max. */
	CHECK(kmm_memcg_set(cg, "memory.max", "100K") == 0);
	nr = fill(100, MAX_BLOCKS);
	CHECK(nr > 100 && nr < 1000 && current_of(cg) <= 100 << 10);

	/* Larger than RAM: as if there were none. */
	CHECK(kmm_memcg_set(cg, "memory.max", "4096T") == 0);
	block[nr] = malloc(100);
	CHECK(block[nr]);
	drop(nr + 1);

	/* Smaller than current: what is there stays, nothing more comes until enough is freed. */
	CHECK(kmm_memcg_set(cg, "memory.max", "max") == 0);
	CHECK(fill(1000, 20000) == 20000);
	CHECK(kmm_memcg_set(cg, "memory.max", "10M") == 0);
	CHECK(current_of(cg) > 18 * (long)MB && number(cg, "memory.max") == 10 * (long)MB);
	CHECK(!malloc(200000));
	drop(19000);
	CHECK(kmm_memcg_set(cg, "memory.reclaim", "0") == 0);
	block[0] = malloc(200000);
	CHECK(block[0]);
	free(block[0]);
	for (unsigned i = 19000; i < 20000; i++)
		free(block[i]);
	CHECK(kmm_memcg_attach(0, 0) == 0);
	CHECK(kmm_memcg_set(cg, "memory.max", "10%") == 0 && number(cg, "memory.max") > 0);
	kmm_trim(0);
	CHECK(current_of(cg) == 0 && kmm_memcg_remove(cg) == 0);
}

/* --- counters ---------------------------------------------------------------------------------------------- */

static void counters(void)
{
	int a = limited("a", "64M"), b = limited("a/b", "32M"), c = kmm_memcg_create("a/c");
	long root = current_of(0);
	unsigned nr;
	char *big;
	void *pages;

	CHECK(root == own(0));
	CHECK(kmm_memcg_attach(b, 0) == 0);
	nr = fill(500, MAX_BLOCKS);
	CHECK(errno == ENOMEM && nr * 500ul > 28 * MB && nr * 500ul <= 32 * MB);
	CHECK(current_of(b) <= 32 * (long)MB && number(b, "memory.peak") <= 32 * (long)MB);
	CHECK(value_of(b, "memory.events", "max") > 0 && value_of(b, "memory.events", "oom") > 0);
	CHECK(value_of(a, "memory.events", "oom") > 0 && value_of(c, "memory.events", "oom") == 0);

	/* The rest of the process is undisturbed. */
	CHECK(kmm_memcg_attach(c, 0) == 0);
	big = malloc(20 * MB);
	CHECK(big);
	memset(big, 1, 20 * MB);
	CHECK(!malloc(20 * MB));		/* its parent is full */
	pages = kmm_alloc_pages(10);
	CHECK(pages && value_of(c, "memory.stat", "pages") == 10 * 4096);
	big = realloc(big, 24 * MB);
	CHECK(big && value_of(c, "memory.stat", "vmalloc") >= 24 * (long)MB);
	CHECK(kmm_memcg_attach(0, 0) == 0);

	/* Quiet: every group holds what those below it hold and its own. */
	CHECK(current_of(b) == own(b) && current_of(c) == own(c));
	CHECK(current_of(a) == current_of(b) + current_of(c) + own(a));
	CHECK(current_of(0) == current_of(a) + own(0));

	/* Freed by another thread's group: it goes back to where it came from. */
	drop(nr);
	free(big);
	kmm_free_pages(pages, 10);
	kmm_trim(0);
	CHECK(current_of(b) == 0 && current_of(c) == 0 && current_of(a) == 0);
	CHECK(own(b) == 0 && own(c) == 0 && own(a) == 0);
	CHECK(current_of(0) == own(0));
	CHECK(kmm_memcg_remove(b) == 0 && kmm_memcg_remove(c) == 0 && kmm_memcg_remove(a) == 0);
}

/* A group that is removed while it holds memory: the memory stays charged above, and the colour comes back. */
static void removed_with_memory(void)
{
	int a = kmm_memcg_create("a"), b = kmm_memcg_create("a/b");
	void *p;

	CHECK(kmm_memcg_attach(b, 0) == 0);
	p = malloc(3 * MB);
	block[0] = malloc(100);
	CHECK(kmm_memcg_attach(0, 0) == 0 && kmm_memcg_remove(b) == 0);
	CHECK(current_of(a) >= 3 * (long)MB);
	free(p);
	free(block[0]);
	kmm_trim(0);
	CHECK(current_of(a) == 0 && kmm_memcg_remove(a) == 0);
}

/* --- threads ------------------------------------------------------------------------------------------------ */

static int expect;
static volatile int moved, leave;

static void *in_group(void *arg)
{
	void *p;

	CHECK(kmm_memcg_current() == expect);
	p = malloc(777);
	CHECK(p);
	return arg ? p : (free(p), NULL);
}

static void *waits(void *arg)
{
	*(volatile int *)arg = (int)syscall(SYS_gettid);
	free(malloc(100));
	while (!moved)
		usleep(1000);
	for (int i = 0; i < 1000; i++)		/* slow paths */
		block[i] = malloc(5000);
	CHECK(kmm_memcg_current() == expect);
	drop(1000);
	while (!leave)
		usleep(1000);
	return NULL;
}

static void threads(void)
{
	int a = kmm_memcg_create("a"), b = kmm_memcg_create("b");
	volatile int tid = 0;
	pthread_t t;
	void *p;

	CHECK(kmm_memcg_attach(a, 0) == 0);
	expect = a;
	CHECK(pthread_create(&t, NULL, in_group, block) == 0);		/* children inherit */
	CHECK(kmm_memcg_attach(0, 0) == 0);
	CHECK(pthread_join(t, &p) == 0);
	CHECK(current_of(a) > 0);
	free(p);
	expect = 0;
	CHECK(pthread_create(&t, NULL, in_group, NULL) == 0 && pthread_join(t, NULL) == 0);
	expect = b;
	CHECK(pthread_create(&t, NULL, waits, (void *)&tid) == 0);
	while (!tid)
		usleep(1000);
	usleep(20000);
	CHECK(kmm_memcg_attach(b, tid) == 0);
	CHECK(kmm_memcg_remove(b) == -1 && errno == EBUSY);
	moved = 1;
	usleep(20000);
	leave = 1;
	CHECK(pthread_join(t, NULL) == 0);
	kmm_trim(0);
	CHECK(current_of(b) == 0 && current_of(a) <= 16 << 10);	/* glibc keeps what describes a stack */
	CHECK(kmm_memcg_remove(b) == 0 && kmm_memcg_remove(a) == 0);
}

/* --- fork ---------------------------------------------------------------------------------------------------- */

static void forks(void)
{
	int a = limited("a", "16M"), status;
	unsigned nr;
	pid_t pid;

	CHECK(kmm_memcg_attach(a, 0) == 0);
	nr = fill(1000, 5000);
	CHECK(nr == 5000);
	pid = fork();
	CHECK(pid >= 0);
	if (pid == 0) {
		CHECK(kmm_memcg_current() == a && number(a, "memory.max") == 16 * (long)MB);
		CHECK(current_of(a) == own(a) && current_of(a) >= 5000 * 1000);
		CHECK(!malloc(12 * MB));
		CHECK(kmm_memcg_set(a, "memory.max", "32M") == 0);
		free(malloc(20 * MB));
		drop(nr);
		CHECK(kmm_memcg_attach(0, 0) == 0);
		kmm_trim(0);
		CHECK(current_of(a) == 0 && kmm_memcg_remove(a) == 0);
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	CHECK(number(a, "memory.max") == 16 * (long)MB && current_of(a) >= 5000 * 1000);
	CHECK(value_of(a, "memory.events", "oom") == 0);
	drop(nr);
	CHECK(kmm_memcg_attach(0, 0) == 0);
	kmm_trim(0);
	CHECK(current_of(a) == 0 && kmm_memcg_remove(a) == 0);
}

/* --- policies, shrinkers, high -------------------------------------------------------------------------------- */

static void *volatile cache;	/* malloc is declared a leaf: gcc thinks that it calls nothing here */
static volatile unsigned nr_asked;

static bool free_the_cache(int cg, size_t bytes, void *arg)
{
	CHECK(arg == &cache && bytes == 4 * MB && cg > 0);
	nr_asked++;
	if (!cache)
		return false;
	free(cache);
	cache = NULL;
	return true;
}

static bool raise_the_limit(int cg, size_t bytes, void *arg)
{
	(void)bytes;
	(void)arg;
	free(malloc(50000000));		/* is refused, and does not ask again */
	return kmm_memcg_set(cg, "memory.max", "64M") == 0;
}

static void callbacks(void)
{
	int a = limited("a", "10M");
	void *p, *q;
	char buf[16];

	CHECK(kmm_memcg_set_oom(a, free_the_cache, (void *)&cache) == 0);
	CHECK(kmm_memcg_read(a, "memory.oom", buf, sizeof(buf)) > 0 && strcmp(buf, "callback\n") == 0);
	CHECK(kmm_memcg_attach(a, 0) == 0);
	cache = malloc(5 * MB);
	CHECK(cache);
	p = malloc(4 * MB);
	CHECK(p && nr_asked == 0);
	q = malloc(4 * MB);
	CHECK(q && nr_asked == 1 && !cache);
	CHECK(!malloc(4 * MB) && errno == ENOMEM && nr_asked == 2);
	CHECK(kmm_memcg_set_oom(a, raise_the_limit, NULL) == 0);
	cache = malloc(20 * MB);
	CHECK(cache && number(a, "memory.max") == 64 * (long)MB);
	free(cache);
	cache = NULL;
	free(p);
	free(q);
	CHECK(kmm_memcg_attach(0, 0) == 0);
	kmm_trim(0);
	CHECK(current_of(a) == 0 && kmm_memcg_remove(a) == 0);
}

#define ITEMS 2000
static void *item[ITEMS];
static volatile unsigned nr_items, nr_shrinks;

static size_t shrink_items(size_t bytes, void *arg)
{
	size_t freed = 0;

	CHECK(arg == item);
	nr_shrinks++;
	while (nr_items && freed < bytes) {
		free(item[--nr_items]);
		freed += 4096;
	}
	return freed;
}

static void shrinker(void)
{
	int a = limited("a", "12M"), nr = kmm_register_shrinker(a, shrink_items, item);
	unsigned got;

	CHECK(nr >= 0);
	CHECK(kmm_memcg_attach(a, 0) == 0);
	for (nr_items = 0; nr_items < ITEMS; nr_items++)
		CHECK((item[nr_items] = malloc(4096)) != NULL);
	got = fill(4096, 2500);		/* both together do not fit */
	CHECK(got == 2500 && nr_shrinks > 0 && nr_items < ITEMS && nr_items > 0);
	CHECK(value_of(a, "memory.events", "max") > 0 && value_of(a, "memory.events", "oom") == 0);
	CHECK(kmm_unregister_shrinker(nr) == 0 && kmm_unregister_shrinker(nr) == -1 && errno == ENOENT);
	nr_shrinks = 0;
	CHECK(fill(100000, 300) < 300 && nr_shrinks == 0);
	_exit(0);
}

/* Over high every allocation succeeds, but the thread waits, the longer the farther it is over. */
static void throttled(void)
{
	int a = kmm_memcg_create("a");
	double begin;
	unsigned nr;
	char buf[128];

	CHECK(kmm_memcg_set(a, "memory.high", "8M") == 0);
	CHECK(kmm_memcg_attach(a, 0) == 0);
	begin = now();
	nr = fill(4000, 1900);
	CHECK(nr == 1900 && now() - begin < 0.5 && value_of(a, "memory.events", "high") == 0);
	begin = now();
	for (; nr < 2400; nr++)
		CHECK((block[nr] = malloc(4000)) != NULL);
	CHECK(now() - begin > 0.05 && value_of(a, "memory.events", "high") > 0);
	CHECK(value_of(a, "memory.stat", "throttled_usec") > 10000);
	CHECK(kmm_memcg_read(a, "memory.pressure", buf, sizeof(buf)) > 0 && strncmp(buf, "some avg10=", 11) == 0);
	CHECK(atol(strstr(buf, "total=") + 6) >= 10000);
	CHECK(kmm_memcg_read(0, "memory.pressure", buf, sizeof(buf)) > 0 && atol(strstr(buf, "total=") + 6) >= 10000);
	CHECK(kmm_memcg_set(a, "memory.high", "max") == 0);
	drop(nr);
	CHECK(kmm_memcg_attach(0, 0) == 0);
	kmm_trim(0);
	CHECK(current_of(a) == 0 && kmm_memcg_remove(a) == 0);
}

static void *thrash(void *arg)
{
	CHECK(kmm_memcg_attach(*(int *)arg, 0) == 0);
	drop(fill(3000, 20000));
	return NULL;
}

/* A group below its low gives its caches only when nothing else is to be had; below min never. */
static void protection(void)
{
	int kept, other;
	pthread_t t;
	long before;
	unsigned nr;

	limited("p", "24M");
	kept = kmm_memcg_create("p/kept");
	other = kmm_memcg_create("p/other");

	CHECK(kmm_memcg_set(kept, "memory.min", "8M") == 0);
	CHECK(kmm_memcg_attach(kept, 0) == 0);
	nr = fill(200, 10000);
	for (unsigned i = 0; i < nr; i += 2) {		/* sheaves are full of free objects */
		free(block[i]);
		block[i] = NULL;
	}
	before = value_of(kept, "memory.stat", "caches");
	CHECK(before > 0 && kmm_memcg_attach(0, 0) == 0);
	CHECK(pthread_create(&t, NULL, thrash, &other) == 0);
	CHECK(pthread_join(t, NULL) == 0);
	_exit(value_of(kept, "memory.stat", "reclaimed") != 0);
}

/* The child does what ends it; its exit status. */
static int in_child(void (*fn)(void), const char *policy)
{
	pid_t pid = fork();
	int status;

	CHECK(pid >= 0);
	if (pid == 0) {
		if (policy) {
			int a = limited("a", "6M");

			freopen("/dev/null", "w", stderr);
			CHECK(kmm_memcg_set(a, "memory.oom", policy) == 0 && kmm_memcg_attach(a, 0) == 0);
			if (malloc(20 * MB))
				_exit(3);
			_exit(errno == ENOMEM ? 4 : 5);
		}
		fn();
		_exit(0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return status;
}

static void policies(void)
{
	int status;

	CHECK(WEXITSTATUS(in_child(NULL, "enomem")) == 4);
	CHECK(WEXITSTATUS(in_child(NULL, "report")) == 4);
	CHECK(WEXITSTATUS(in_child(NULL, "exit")) == 137);
	status = in_child(NULL, "abort");
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == 6);
	CHECK(in_child(shrinker, NULL) == 0);
	CHECK(in_child(protection, NULL) == 0);
}

int main(void)
{
	CHECK(kmm_memcg_create != NULL);
	free(malloc(10));
	CHECK(current_of(0) > 0 && number(0, "memory.max") == -1);
	names();
	absurd_values();
	counters();
	removed_with_memory();
	threads();
	forks();
	callbacks();
	throttled();
	policies();
	return 0;
}
