/* SPDX-License-Identifier: MIT */
/* memcontrol_test.c - the tree of groups, stocks, charges up the tree, and colours that are used again. */
#include "page/memcontrol.h"

#include "../groups.h"

TestSuite(memcontrol, .init = boot_auto, .timeout = 120);

static int create_error(struct mem_cgroup *parent, const char *name)
{
	int err = 0;

	gate_enter();
	memcg_lock();
	CHECK(!__mem_cgroup_create(parent, name, strlen(name), &err));
	memcg_unlock();
	gate_leave();
	return err;
}

Test(memcontrol, tree)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a"), *b = new_group(a, "b"), *c = new_group(&root_mem_cgroup, "c");
	char path[64];
	u32 id = b->id;

	cr_assert_eq(find_group(""), &root_mem_cgroup);
	cr_assert_eq(find_group("a/b"), b);
	cr_assert_null(find_group("b"));
	cr_assert_null(find_group("a/b/"));
	cr_assert_eq(mem_cgroup_path(b, path, sizeof(path)), 4u);
	cr_assert_str_eq(path, "/a/b");
	mem_cgroup_path(&root_mem_cgroup, path, sizeof(path));
	cr_assert_str_eq(path, "/");
	cr_assert_eq(mem_cgroup_path(b, path, 3), 4u, "the length of the whole");
	cr_assert_str_eq(path, "/a");
	cr_assert(mem_cgroup_is_descendant(b, a) && mem_cgroup_is_descendant(b, &root_mem_cgroup) && mem_cgroup_is_descendant(b, b));
	cr_assert_not(mem_cgroup_is_descendant(a, b) || mem_cgroup_is_descendant(b, c));
	cr_assert_eq(create_error(a, "b"), -EEXIST);
	cr_assert_eq(create_error(a, ""), -EINVAL);
	cr_assert_eq(create_error(a, ".x"), -EINVAL);
	cr_assert_eq(create_error(a, "x y"), -EINVAL);
	cr_assert_eq(create_error(a, "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), -EINVAL);
	cr_assert_eq(remove_group(b), 1u);
	cr_assert_null(find_group("a/b"));
	b = new_group(a, "b");
	cr_assert_neq(b->id, id, "an old number does not lead to a new group");
	cr_assert_eq(memcg_colour(b), id % NR_COLOURS, "the colour is used again");
	cr_assert_null(__mem_cgroup_from_id(id));
}

/* A small charge takes a stock; the next ones live from it, and what is freed goes there. */
Test(memcontrol, stocks)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a"), *b = new_group(a, "b");
	u64 root = root_mem_cgroup.memory.usage;

	pin_to(0);
	cr_assert(charge(b, 1));
	cr_assert_eq(b->memory.usage, MEMCG_STOCK_PAGES);
	cr_assert_eq(memcg_stock(memcg_colour(b)), MEMCG_STOCK_PAGES - 1u);
	cr_assert(charge(b, 5));
	cr_assert_eq(b->memory.usage, MEMCG_STOCK_PAGES);
	cr_assert_eq(a->memory.usage, MEMCG_STOCK_PAGES);
	cr_assert_eq(root_mem_cgroup.memory.usage, root + MEMCG_STOCK_PAGES);
	cr_assert_eq(own_pages(b), b->memory.usage);
	uncharge(b, 6);
	cr_assert_eq(memcg_stock(memcg_colour(b)), MEMCG_STOCK_PAGES + 0u);
	cr_assert(charge(b, 100), "more than a stock: exactly");
	cr_assert_eq(b->memory.usage, MEMCG_STOCK_PAGES + 100u);
	uncharge(b, 100);
	cr_assert_leq(memcg_stock(memcg_colour(b)), (u64)MEMCG_STOCK_PAGES * nr_percpu_areas(), "64 KiB a CPU at most");
	drain_group_stocks(a);
	cr_assert_eq(b->memory.usage, 0u);
	cr_assert_eq(a->memory.usage, 0u);
	cr_assert_eq(root_mem_cgroup.memory.usage, root);
	cr_assert_eq(MEMCG_STOCK_PAGES << PAGE_SHIFT, KIB(64));
}

/* When a charge fails, what brothers hold in advance is taken back before it is refused. */
Test(memcontrol, stocks_of_others_give_way)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a"), *b = new_group(a, "b"), *c = new_group(a, "c");

	page_counter_set_max(&a->memory, 32);
	a->memory.reserve = 0;
	cr_assert(charge(b, 1));		/* and 15 in advance */
	cr_assert(charge(c, 1));
	cr_assert_eq(a->memory.usage, 32u);
	cr_assert(charge(c, 29));
	cr_assert_eq(memcg_stock(memcg_colour(b)), 0u);
	cr_assert_leq(a->memory.usage, 32u);
	cr_assert_not(charge(b, 4));
	cr_assert_eq(memcg_thread.failed, memcg_word(memcg_colour(a)), "who is in the way is noted");
	uncharge(c, 30);
	uncharge(b, 1);
	drain_group_stocks(a);
	cr_assert_eq(a->memory.usage, 0u);
}

Test(memcontrol, high_is_noted)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a"), *b = new_group(a, "b");

	memcg_thread.over_high = 0;
	a->memory.high = 50;
	cr_assert(charge(b, 40));
	cr_assert_eq(memcg_thread.over_high, 0u);
	cr_assert(charge(b, 20));
	cr_assert_eq(memcg_thread.over_high, 20u);
	cr_assert_eq(memcg_thread.over_colour, memcg_colour(b));
	memcg_thread.over_high = 0;
}

/* A refused thread may use the reserve, for slabs, so far as its credit goes; no other may. */
Test(memcontrol, reserve)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a");
	unsigned colour = memcg_colour(a);

	page_counter_set_max(&a->memory, 160);	/* 10 of it for those who are refused */
	cr_assert(charge(a, 150));
	cr_assert_not(charge(a, 1));
	gate_enter();
	memcg_thread.emergency = 6;
	memcg_thread.reserved = 0;
	cr_assert_not(memcg_charge(colour, MEMCG_LARGE, 1), "not for what is large");
	cr_assert(memcg_charge(colour, MEMCG_SLAB, 4));
	cr_assert_eq(memcg_thread.emergency, 2u);
	cr_assert_not(memcg_charge(colour, MEMCG_SLAB, 1), "one slab for one allocation");
	memcg_thread.reserved = 0;
	cr_assert_not(memcg_charge(colour, MEMCG_SLAB, 4), "beyond its credit");
	memcg_thread.emergency = 100;
	cr_assert_not(memcg_charge(colour, MEMCG_SLAB, 7), "beyond max");
	cr_assert(memcg_charge(colour, MEMCG_SLAB, 6));
	cr_assert_eq(a->memory.usage, 160u);
	memcg_uncharge(colour, MEMCG_SLAB, 10);
	gate_leave();
	uncharge(a, 150);
	drain_group_stocks(a);
	cr_assert_eq(a->memory.usage, 0u);
}

/* The size that was refused gets what has been set aside for it, and no more; room ends the matter. */
Test(memcontrol, reserve_and_the_same_size)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a");
	unsigned colour = memcg_colour(a);

	page_counter_set_max(&a->memory, 1600);		/* 100 of it for those who are refused */
	cr_assert(charge(a, 1500));
	gate_enter();
	memcg_thread.refused = true;
	memcg_thread.emergency = 50;
	memcg_thread.refused_bytes = memcg_thread.asked = 48;
	memcg_thread.refused_slabs = memcg_thread.reserved = 0;
	cr_assert_not(memcg_charge(colour, MEMCG_SLAB, 1), "the size that was refused");
	memcg_thread.asked = 64;
	cr_assert(memcg_charge(colour, MEMCG_SLAB, 1), "another");
	memcg_thread.asked = 48;
	memcg_thread.refused_slabs = 1;
	memcg_thread.reserved = 0;
	cr_assert(memcg_charge(colour, MEMCG_SLAB, 1), "one that it may have");
	memcg_thread.reserved = 0;
	cr_assert_not(memcg_charge(colour, MEMCG_SLAB, 1), "only one");
	memcg_uncharge(colour, MEMCG_SLAB, 102);
	cr_assert(memcg_charge(colour, MEMCG_SLAB, 20));
	cr_assert(memcg_thread.refused, "80 are left, less than what is set aside");
	cr_assert_eq(memcg_thread.emergency, 48u);
	memcg_uncharge(colour, MEMCG_SLAB, 200);
	cr_assert(memcg_charge(colour, MEMCG_SLAB, 20));
	cr_assert_not(memcg_thread.refused || memcg_thread.emergency);
	memcg_uncharge(colour, MEMCG_SLAB, a->memory.usage - memcg_stock(colour));
	gate_leave();
	drain_group_stocks(a);
	cr_assert_eq(a->memory.usage, 0u);
}

/* What was prepaid is for the thread that did, for the root, and only where there is no room. */
Test(memcontrol, prepaid)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a");
	u64 before, max;

	gate_enter();
	drain_stocks(&root_mem_cgroup);
	before = root_mem_cgroup.memory.usage;
	max = before + 100;
	WRITE_ONCE(root_mem_cgroup.memory.max, max);
	cr_assert_not(memcg_prepay(101));
	cr_assert(memcg_prepay(60));
	cr_assert_eq(root_mem_cgroup.memory.usage, before + 60);
	cr_assert_eq(memcg_stock(0), 60u, "the root's stock, so that sums are right");
	cr_assert(memcg_charge(0, MEMCG_LARGE, 40));
	cr_assert_eq(memcg_stock(0), 60u, "while there is room it is kept");
	cr_assert_not(memcg_charge(memcg_colour(a), MEMCG_LARGE, 10), "not for a group");
	cr_assert(memcg_charge(0, MEMCG_LARGE, 50));
	cr_assert_eq(root_mem_cgroup.memory.usage, max);
	cr_assert_not(memcg_charge(0, MEMCG_LARGE, 11), "there are 10 left");
	memcg_unprepay();
	cr_assert_eq(root_mem_cgroup.memory.usage, before + 90);
	cr_assert_eq(memcg_stock(0), 0u);
	memcg_uncharge(0, MEMCG_LARGE, 90);
	cr_assert_eq(root_mem_cgroup.memory.usage, before);
	cr_assert(memcg_prepay(60));
	memcg_thread.prepaid = 0;		/* as if another thread had */
	memcg_reset_child();
	cr_assert_eq(root_mem_cgroup.memory.usage, before);
	WRITE_ONCE(root_mem_cgroup.memory.max, PAGE_COUNTER_MAX);
	gate_leave();
}

/* A removed group stays until its last page is gone; nothing new is charged to it. */
Test(memcontrol, removed_with_charges)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a"), *b = new_group(a, "b");
	unsigned colour = memcg_colour(b);
	void *p = kmalloc_in(b, 100), *q;

	cr_assert_not_null(p);
	cr_assert_eq(remove_group(b), 0u);
	cr_assert_not(mem_cgroup_is_online(colour));
	cr_assert_eq(mem_cgroup_from_colour(colour), b);
	cr_assert_eq(remove_group(a), 0u, "its child still holds something");
	memcg_thread.word = memcg_word(0);
	q = kmem_cache_alloc_slowpath(kmalloc_class(8000) | colour << MAP_COLOUR_SHIFT);
	cr_assert_eq((map_entry(virt_to_pfn(q)) & MAP_SLOT_MASK) >> MAP_COLOUR_SHIFT, 0u, "who comes late is charged to his own group");
	kfree(q);
	kfree(p);
	mutex_lock(&cgroup_lock, LOCK_cgroup);
	cr_assert_eq(memcg_reap(), 2u, "child and parent at once");
	mutex_unlock(&cgroup_lock, LOCK_cgroup);
	cr_assert_null(mem_cgroup_from_colour(colour));
	for (int i = 0; i < 300; i++)		/* more than there are colours */
		cr_assert_eq(remove_group(new_group(&root_mem_cgroup, "x")), 1u);
}

Test(memcontrol, events_count_upwards)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a"), *b = new_group(a, "b"), *c = new_group(a, "c");

	memcg_count_event(b, MEMCG_MAX);
	memcg_count_event(c, MEMCG_MAX);
	memcg_count_event(a, MEMCG_OOM);
	cr_assert_eq(b->events[MEMCG_MAX], 1u);
	cr_assert_eq(a->events[MEMCG_MAX], 2u);
	cr_assert_eq(root_mem_cgroup.events[MEMCG_MAX], 2u);
	cr_assert_eq(b->events[MEMCG_OOM], 0u);
	cr_assert_eq(a->events[MEMCG_OOM], 1u);
}

/* --- threads charge, uncharge and drain: at the end everything is zero ---------------------------------------------- */

static struct mem_cgroup *group[3];

static void *churn(void *arg)
{
	u64 r = rng_of((uintptr_t)arg);
	u32 held[3] = { 0 };

	for (unsigned i = 0; i < rounds(50000); i++) {
		u32 g = rng_below(&r, 3), nr = 1 + rng_below(&r, 40);

		if (held[g] < 200 && charge(group[g], nr))
			held[g] += nr;
		else if (held[g]) {
			nr = 1 + rng_below(&r, held[g]);
			uncharge(group[g], nr);
			held[g] -= nr;
		}
		CHECK(READ_ONCE(group[0]->memory.usage) <= 600);
		if (rng_below(&r, 500) == 0)
			drain_group_stocks(group[g]);
	}
	for (u32 g = 0; g < 3; g++)
		uncharge(group[g], held[g]);
	return NULL;
}

Test(memcontrol, threads)
{
	group[0] = new_group(&root_mem_cgroup, "a");
	group[1] = new_group(group[0], "b");
	group[2] = new_group(group[1], "c");
	page_counter_set_max(&group[0]->memory, 600);
	run_threads(4, churn);
	cr_assert_eq(group[0]->memory.usage, own_pages(group[0]) + own_pages(group[1]) + own_pages(group[2]));
	drain_group_stocks(group[0]);
	for (int g = 0; g < 3; g++)
		cr_assert_eq(group[g]->memory.usage, 0u);
	for (int g = 2; g >= 0; g--)
		cr_assert_eq(remove_group(group[g]), 1u);
}
