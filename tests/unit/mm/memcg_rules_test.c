/* SPDX-License-Identifier: MIT */
/* memcg_rules_test.c - who belongs where: rules by name and library, attachment, inheritance; limits; removal under way. */
#include "mm/memcg_rules.h"

#include "../groups.h"
#include "base/param.h"
#include "os/cgroup.h"
#include <sys/prctl.h>
#include <unistd.h>

TestSuite(memcg_rules, .init = boot_auto, .timeout = 120);

static void apply(const char *text)
{
	struct memcg_rule rule;
	int ret;

	gate_enter();
	while ((ret = parse_memcg_rule(&text, &rule)) > 0)
		CHECK(memcg_apply_rule(&rule) == 0);
	gate_leave();
	CHECK(ret == 0);
}

static struct mem_cgroup *find(const char *path)
{
	struct mem_cgroup *memcg = find_group(path);

	CHECK(memcg);
	return memcg;
}

static unsigned my_colour(void)
{
	memcg_recheck_thread();
	return memcg_word_colour(memcg_thread.word);
}

Test(memcg_rules, limits)
{
	struct mem_cgroup *a, *b;

	apply("a/b:max=10M,high=8M,low=2M,min=1M,oom=report;a:max=max");
	a = find("a");
	b = find("a/b");
	cr_assert_eq(b->memory.max, MIB(10) >> PAGE_SHIFT);
	cr_assert_eq(b->memory.high, MIB(8) >> PAGE_SHIFT);
	cr_assert_eq(b->memory.low, MIB(2) >> PAGE_SHIFT);
	cr_assert_eq(b->memory.min, MIB(1) >> PAGE_SHIFT);
	cr_assert_eq(b->oom_policy, OOM_REPORT);
	cr_assert_eq(a->memory.max, PAGE_COUNTER_MAX);
	apply("a/b:max=20M");			/* the same group again: the rest stays */
	cr_assert_eq(b->memory.max, MIB(20) >> PAGE_SHIFT);
	cr_assert_eq(b->memory.high, MIB(8) >> PAGE_SHIFT);
}

/* Shares are of the real group's limit or of RAM, whichever is less. */
Test(memcg_rules, shares)
{
	struct os_cgroup_memory mem = { .limit = CGROUP_NONE };
	struct os_cgroup cg;
	u64 whole = os_ram_bytes(), pages;

	if (os_cgroup_find(&cg) == 0 && os_cgroup_read_memory(&cg, &mem) == 0)
		whole = min(whole, mem.limit);
	cr_assert_eq(resolve_limit(LIMIT_PERCENT(100), &pages), 0);
	cr_assert_eq(pages, whole / 100 * 100 >> PAGE_SHIFT);
	cr_assert_eq(resolve_limit(LIMIT_PERCENT(7), &pages), 0);
	cr_assert_eq(pages, whole / 100 * 7 >> PAGE_SHIFT);
	cr_assert_eq(resolve_limit(LIMIT_NONE, &pages), 0);
	cr_assert_eq(pages, PAGE_COUNTER_MAX);
	cr_assert_eq(resolve_limit(0, &pages), 0);
	cr_assert_eq(pages, 0u);
	if (mem.limit >= os_ram_bytes()) {
		cr_assert_eq(resolve_limit(LIMIT_AUTO, &pages), -ENOENT);
	} else {
		cr_assert_eq(resolve_limit(LIMIT_AUTO, &pages), 0);
		cr_assert(pages << PAGE_SHIFT >= mem.limit / 4 * 3 - PAGE_SIZE && pages << PAGE_SHIFT < mem.limit);
	}
}

static void *named(void *name)
{
	prctl(PR_SET_NAME, name);
	return (void *)(uintptr_t)my_colour();
}

static unsigned colour_of_thread_named(const char *name)
{
	char copy[16];
	pthread_t t;
	void *colour;

	strcpy(copy, name);
	pthread_create(&t, NULL, named, copy);
	pthread_join(t, &colour);
	return (unsigned)(uintptr_t)colour;
}

Test(memcg_rules, by_name)
{
	apply("w:comm=worker*;x:comm=worker-9;b:comm=batch?");
	cr_assert_eq(colour_of_thread_named("worker-1"), memcg_colour(find("w")));
	cr_assert_eq(colour_of_thread_named("worker-9"), memcg_colour(find("w")), "the first rule that fits");
	cr_assert_eq(colour_of_thread_named("batch1"), memcg_colour(find("b")));
	cr_assert_eq(colour_of_thread_named("batch"), 0u);
	cr_assert_eq(colour_of_thread_named("other"), 0u);
}

/* A name is looked at again, an attachment counts more, and a group that is gone is not gone back to. */
Test(memcg_rules, names_change)
{
	struct mem_cgroup *home = new_group(&root_mem_cgroup, "home"), *w;

	apply("w:comm=worker*");
	w = find("w");
	memcg_begin_thread(home->id);
	cr_assert_eq(my_colour(), memcg_colour(home));
	prctl(PR_SET_NAME, "worker");
	for (int i = 0; i < 1000 && my_colour() != memcg_colour(w); i++)
		usleep(1000);
	cr_assert_eq(my_colour(), memcg_colour(w));
	remove_group(home);
	prctl(PR_SET_NAME, "idler");
	for (int i = 0; i < 1000 && my_colour() != 0; i++)
		usleep(1000);
	cr_assert_eq(my_colour(), 0u);
	cr_assert_eq(memcg_attach(w->id, 0), 0);
	usleep(300000);
	cr_assert_eq(my_colour(), memcg_colour(w));
	cr_assert_eq(nr_tasks_in_memcg(memcg_colour(w)), 1u);
}

Test(memcg_rules, attach)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a");
	u32 id = a->id;

	cr_assert_eq(memcg_attach(id, 0), 0);
	cr_assert_eq(my_colour(), memcg_colour(a));
	cr_assert_eq(memcg_attach(0, os_gettid()), 0, "by the own number: at once");
	cr_assert_eq(memcg_word_colour(memcg_thread.word), 0u);
	cr_assert_eq(memcg_attach(id, 1 << 22), -ESRCH);
	cr_assert_eq(memcg_attach(id + 1, 0), -ENOENT);
	remove_group(a);
	cr_assert_eq(memcg_attach(id, 0), -ENOENT);
	memcg_begin_thread(id);
	cr_assert_eq(my_colour(), 0u, "a creator's group that is gone");
}

/* --- moved by another thread: at every moment the thread is counted in one group or the other -------------------------- */

static bool stop;
static int tid;

static void *moves(void *arg)
{
	__atomic_store_n(&tid, os_gettid(), __ATOMIC_RELEASE);
	while (!READ_ONCE(stop))
		my_colour();
	return arg;
}

Test(memcg_rules, moved)
{
	struct mem_cgroup *g[2] = { new_group(&root_mem_cgroup, "a"), new_group(&root_mem_cgroup, "b") };
	pthread_t t;

	pthread_create(&t, NULL, moves, NULL);
	while (!__atomic_load_n(&tid, __ATOMIC_ACQUIRE))
		usleep(100);
	for (unsigned i = 0; i < rounds(2000); i++) {
		u32 nr;

		while (memcg_attach(g[i % 2]->id, tid) == -ESRCH && i == 0)	/* its task is made at its first look */
			usleep(100);
		gate_enter();
		memcg_lock();
		nr = nr_tasks_in_memcg(memcg_colour(g[i % 2]));
		memcg_unlock();
		gate_leave();
		cr_assert_eq(nr, 1u, "%u", i);
	}
	WRITE_ONCE(stop, true);
	pthread_join(t, NULL);
}

/* --- libraries ---------------------------------------------------------------------------------------------------------- */

Test(memcg_rules, by_library)
{
	const void *in_criterion = __builtin_return_address(0), *here = (const void *)(uintptr_t)my_colour;
	unsigned c;

	apply("c:lib=libcriterion.so;d:lib=libd*.so");
	if (!memcg_has_libs)
		cr_skip_test("this libc cannot tell");
	c = memcg_colour(find("c"));
	for (int i = 0; i < 3; i++) {
		cr_assert_eq(memcg_word_colour(memcg_word_of_caller(in_criterion)), c, "libcriterion.so.3 is meant as well");
		cr_assert_eq(memcg_word_colour(memcg_word_of_caller(here)), 0u);
		cr_assert_eq(memcg_word_colour(memcg_word_of_caller((const void *)8)), 0u);
	}
	memcg_thread.word = memcg_word(c);
	cr_assert_eq(memcg_word_colour(memcg_word_of_caller(here)), c, "else the thread's");
	memcg_thread.word = memcg_word(0);
	remove_group(find("c"));
	cr_assert_eq(memcg_word_colour(memcg_word_of_caller(in_criterion)), 0u);
}
