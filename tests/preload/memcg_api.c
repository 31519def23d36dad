/* SPDX-License-Identifier: MIT */
/*
 * memcg_api.c - memory groups by the API: limits and absurd ones, events, counters that come back to zero, fork.
 * timeout: 120
 * modes: auto lock debug
 */
#include "memcg.h"

/* --- values ---------------------------------------------------------------------------------------------------- */

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

int main(void)
{
	CHECK(kmm_memcg_create != NULL);
	free(malloc(10));
	CHECK(current_of(0) > 0 && number(0, "memory.max") == -1);
	absurd_values();
	counters();
	forks();
	return 0;
}
