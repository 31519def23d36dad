/* SPDX-License-Identifier: MIT */
/*
 * memcg_oom.c - a memory group that is full or over its high: policies, call-backs, shrinkers, throttling, protection.
 * timeout: 120
 * modes: auto lock debug
 */
#include "memcg.h"
#include <signal.h>

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

/* total of a line of memory.pressure */
static long stalled_us(int cg, const char *line)
{
	char buf[256], *at;

	CHECK(kmm_memcg_read(cg, "memory.pressure", buf, sizeof(buf)) > 0);
	at = strstr(buf, line);
	CHECK(at && strstr(at, "total="));
	return atol(strstr(at, "total=") + 6);
}

/* A thread of the parent's group that goes on while others wait: that is some, not full. */
static volatile int go_on = 1;

static void *goes_on(void *arg)
{
	void *p[8];

	CHECK(kmm_memcg_attach(*(int *)arg, 0) == 0);
	while (go_on) {
		for (int i = 0; i < 8; i++)
			p[i] = malloc(300000);		/* no sheaf has those */
		for (int i = 0; i < 8; i++)
			free(p[i]);
	}
	return NULL;
}

static void some_is_not_full(void)
{
	int busy, waits;
	unsigned nr;
	pthread_t t;

	limited("p", "max");
	busy = kmm_memcg_create("p/busy");
	waits = kmm_memcg_create("p/waits");
	CHECK(kmm_memcg_set(waits, "memory.high", "2M") == 0);
	CHECK(pthread_create(&t, NULL, goes_on, &busy) == 0);
	CHECK(kmm_memcg_attach(waits, 0) == 0);
	nr = fill(4000, 600);
	CHECK(nr == 600 && kmm_memcg_attach(0, 0) == 0);
	go_on = 0;
	CHECK(pthread_join(t, NULL) == 0);
	CHECK(stalled_us(waits, "some") > 200000 && stalled_us(waits, "full") == stalled_us(waits, "some"));
	CHECK(stalled_us(kmm_memcg_find("p"), "some") >= stalled_us(waits, "some"));
	CHECK(stalled_us(kmm_memcg_find("p"), "full") < stalled_us(waits, "full") * 3 / 4);
	CHECK(stalled_us(busy, "some") == 0);
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
	/* One thread waits and nobody else wants anything: full is as much as some. */
	CHECK(stalled_us(a, "full") >= 10000 && stalled_us(a, "full") == stalled_us(a, "some"));
	CHECK(stalled_us(0, "some") >= 10000 && stalled_us(0, "full") <= stalled_us(0, "some"));
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

static int dying;	/* group */

static void sees_it(int sig)
{
	long kills = value_of(dying, "memory.events", "oom_kill"), above = value_of(0, "memory.events", "oom_kill");

	_exit(sig == SIGABRT && kills == 1 && above == 1 && value_of(dying, "memory.events", "oom") == 1 ? 9 : 8);
}

/* The program's handler of SIGABRT finds the event counted. */
static void counted_as_kill(void)
{
	dying = limited("a", "6M");
	freopen("/dev/null", "w", stderr);
	CHECK(signal(SIGABRT, sees_it) != SIG_ERR);
	CHECK(kmm_memcg_set(dying, "memory.oom", "abort") == 0 && kmm_memcg_attach(dying, 0) == 0);
	free(malloc(20 * MB));
}

/* A group below its low gives its caches when nothing else is to be had, and that is an event of its and of those above. */
static void low_event(void)
{
	int p = limited("p", "24M"), kept = kmm_memcg_create("p/kept"), other = kmm_memcg_create("p/other");
	pthread_t t;
	unsigned nr;

	CHECK(kmm_memcg_set(kept, "memory.low", "8M") == 0 && number(kept, "memory.low") == 8 * (long)MB);
	CHECK(kmm_memcg_attach(kept, 0) == 0);
	nr = fill(200, 10000);
	for (unsigned i = 0; i < nr; i += 2)
		free(block[i]);
	CHECK(kmm_memcg_attach(0, 0) == 0);
	CHECK(pthread_create(&t, NULL, thrash, &other) == 0 && pthread_join(t, NULL) == 0);
	CHECK(value_of(kept, "memory.events", "low") > 0 && value_of(p, "memory.events", "low") > 0);
	CHECK(value_of(other, "memory.events", "low") == 0 && current_of(kept) > 0);
	_exit(0);
}

static void policies(void)
{
	int status;

	CHECK(WEXITSTATUS(in_child(NULL, "enomem")) == 4);
	CHECK(WEXITSTATUS(in_child(NULL, "report")) == 4);
	CHECK(WEXITSTATUS(in_child(NULL, "exit")) == 137);
	status = in_child(NULL, "abort");
	CHECK(WIFSIGNALED(status) && WTERMSIG(status) == 6);
	CHECK(WEXITSTATUS(in_child(counted_as_kill, NULL)) == 9);
	CHECK(in_child(low_event, NULL) == 0);
	CHECK(in_child(shrinker, NULL) == 0);
	CHECK(in_child(protection, NULL) == 0);
	CHECK(in_child(some_is_not_full, NULL) == 0);
}

int main(void)
{
	CHECK(kmm_memcg_create != NULL);
	free(malloc(10));
	callbacks();
	throttled();
	policies();
	return 0;
}
