/* SPDX-License-Identifier: MIT */
/*
 * memcg_tree.c - the tree of memory groups: names, as many and as deep as there can be, removal, threads that move.
 * timeout: 120
 * modes: auto lock debug
 */
#include "memcg.h"

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

/* As many groups as there can be, beside each other; each is charged and comes back to zero. */
static void many_groups(void)
{
	int cg[255], nr = 0;
	char name[16];

	for (;; nr++) {
		snprintf(name, sizeof(name), "g%d", nr);
		cg[nr < 255 ? nr : 254] = kmm_memcg_create(name);
		if (nr == 255 || cg[nr] < 0)
			break;
	}
	CHECK(nr == 255 && errno == ENOSPC);
	for (int i = 0; i < nr; i++) {		/* the last call has overwritten the last number */
		snprintf(name, sizeof(name), "g%d", i);
		cg[i] = kmm_memcg_find(name);
		CHECK(cg[i] > 0 && kmm_memcg_attach(cg[i], 0) == 0);
		block[i] = malloc(100);
		CHECK(block[i] && current_of(cg[i]) > 0);
	}
	CHECK(kmm_memcg_attach(0, 0) == 0);
	for (int i = 0; i < nr; i++)		/* each still holds a block, so no colour is free */
		CHECK(kmm_memcg_remove(cg[i]) == 0);
	CHECK(kmm_memcg_create("one") == -1 && errno == ENOSPC);
	drop((unsigned)nr);
	cg[0] = kmm_memcg_create("one");	/* what they had cached goes for this */
	CHECK(cg[0] > 0 && kmm_memcg_remove(cg[0]) == 0);
	CHECK(current_of(0) == own(0));
}

/* One below the other, as deep as it goes: a charge reaches the root, and leaves it. */
static void deep_tree(void)
{
	char path[512] = "d";
	int cg[255], nr = 0;
	long root = current_of(0);
	void *p;

	while (nr < 200) {
		cg[nr] = kmm_memcg_create(path);
		CHECK(cg[nr] > 0 && kmm_memcg_find(path) == cg[nr]);
		nr++;
		strcat(path, "/d");
	}
	CHECK(kmm_memcg_set(cg[100], "memory.max", "4M") == 0);
	CHECK(kmm_memcg_attach(cg[199], 0) == 0);
	p = malloc(3 * MB);
	CHECK(p && !malloc(2 * MB) && errno == ENOMEM);
	CHECK(value_of(cg[0], "memory.events", "max") > 0 && value_of(cg[100], "memory.events", "max") > 0);
	CHECK(value_of(cg[101], "memory.events", "max") == 0);
	for (int i = 0; i < nr; i++)
		CHECK(current_of(cg[i]) == current_of(cg[199]) && current_of(cg[i]) >= 3 * (long)MB);
	CHECK(current_of(0) >= root + 3 * (long)MB && kmm_memcg_attach(0, 0) == 0);
	free(p);
	kmm_trim(0);
	while (nr--)
		CHECK(current_of(cg[nr]) == 0 && kmm_memcg_remove(cg[nr]) == 0);
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

static int c11_in_group(void *arg)
{
	return in_group(arg) == arg ? 77 : 0;
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
	int result = 0;
	pthread_t t;
	thrd_t c11;
	void *p;

	CHECK(kmm_memcg_attach(a, 0) == 0);
	expect = a;
	CHECK(pthread_create(&t, NULL, in_group, block) == 0);		/* children inherit */
	CHECK(kmm_memcg_attach(0, 0) == 0);
	CHECK(pthread_join(t, &p) == 0);
	CHECK(current_of(a) > 0);
	free(p);
	CHECK(kmm_memcg_attach(a, 0) == 0);
	CHECK(thrd_create(&c11, c11_in_group, NULL) == thrd_success);
	CHECK(kmm_memcg_attach(0, 0) == 0);
	CHECK(thrd_join(c11, &result) == thrd_success && result == 77);
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

int main(void)
{
	CHECK(kmm_memcg_create != NULL);
	free(malloc(10));
	names();
	many_groups();
	deep_tree();
	removed_with_memory();
	threads();
	return 0;
}
