/* SPDX-License-Identifier: MIT */
/* node_test.c - memory groups' colours: slots, nodes and slabs of their own, on every CPU, and nothing mixes. */
#include "mm/slab.h"

#include "../../../lib/mm/internal.h"
#include "../boot.h"
#include "mm/gate.h"
#include "page/memcontrol.h"
#include <stdio.h>
#include <unistd.h>

#define COLOURS 5

TestSuite(node, .timeout = 120);

/* Groups until there is one of that colour, which comes online. */
static void online(unsigned colour)
{
	char name[16];
	int err = 0;

	gate_enter();
	memcg_lock();
	for (unsigned i = 0; !mem_cgroup_from_colour(colour) && i < NR_COLOURS; i++) {
		int len = snprintf(name, sizeof(name), "g%u.%u", colour, i);

		cr_assert_not_null(__mem_cgroup_create(&root_mem_cgroup, name, (size_t)len, &err), "%d", err);
	}
	memcg_unlock();
	cr_assert_not_null(mem_cgroup_from_colour(colour));
	cr_assert_eq(colour_online(colour), 0);
	gate_leave();
}

static unsigned cache(size_t size, unsigned colour)
{
	return kmalloc_class(size) | colour << MAP_COLOUR_SHIFT;
}

/* As malloc does where there are groups. */
static void *kmalloc_colour(size_t size, unsigned colour)
{
	unsigned slot = cache(size, colour);
	void *p = this_cpu_pop(slot);

	return p ? p : kmem_cache_alloc_slowpath(slot);
}

static unsigned colour_of(const void *p)
{
	return (map_entry(virt_to_pfn(p)) & MAP_SLOT_MASK) >> MAP_COLOUR_SHIFT;
}

static u64 slabs_of(unsigned colour)
{
	struct slabinfo si;
	u64 sum = 0;

	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++) {
		get_colour_slabinfo(cls, colour, &si);
		sum += si.nr_slabs;
	}
	return sum;
}

static void drain(unsigned colour)
{
	gate_enter();
	drain_classes(colour, 1);
	gate_leave();
}

static void validate(void)
{
	gate_enter();
	slab_validate_all();
	gate_leave();
}

static void check_colours(void)
{
	void *p[COLOURS][100];

	cr_assert(colour_is_online(0));
	cr_assert_not(colour_is_online(COLOURS - 1));
	cr_assert_null(get_node(0, cache(64, COLOURS - 1)));
	for (unsigned c = 0; c < COLOURS; c++)
		online(c);
	online(255);
	cr_assert_not_null(get_node(0, cache(64, COLOURS - 1)));
	for (unsigned c = 0; c < COLOURS; c++) {
		for (unsigned i = 0; i < 100; i++) {
			p[c][i] = kmalloc_colour(64 + i, c);
			cr_assert_not_null(p[c][i]);
			cr_assert_eq(colour_of(p[c][i]), c);
		}
	}
	validate();
	for (unsigned c = 0; c < COLOURS; c++)
		for (unsigned i = 0; i < 100; i++)
			kfree(p[c][i]);
	cr_assert_eq(kmalloc_colour(64, 3), p[3][0], "free has put it where its group finds it");
	kfree(p[3][0]);
	validate();
	for (unsigned c = 1; c < COLOURS; c++) {
		cr_assert_neq(slabs_of(c), 0u);
		drain(c);
		cr_assert_eq(slabs_of(c), 0u, "every slab of a drained group has gone");
	}
	cr_assert_neq(slabs_of(0), 0u, "others are not drained with it");
	validate();
}

Test(node, colours, .init = boot_auto)
{
	check_colours();
}

Test(node, colours_locked, .init = boot_lock)
{
	check_colours();
}

/* A CPU that comes online after the group has its slots and nodes; the other way round, too. */
Test(node, a_cpu_comes_later, .init = boot_auto)
{
	void *p[64];

	online(7);
	if (max_percpu_areas < 3 || percpu_online(2) != 0)
		cr_skip_test("one CPU");
	online(9);
	for (unsigned colour = 7; colour <= 9; colour += 2) {
		unsigned c = cache(256, colour);

		cr_assert_not_null(get_node(2, c));
		cr_assert_eq(percpu_top(2, c), sheaf_full_top(&boot_sheaf));
		cr_assert_eq(percpu_top(2, MAP_CLASS_LARGE | colour << MAP_COLOUR_SHIFT), sheaf_full_top(&stop_sheaf));
		gate_enter();
		cr_assert_eq(slab_alloc_bulk(2, c, p, 20), 20u);
		cr_assert_eq(colour_of(p[7]), colour);
		cr_assert_eq(get_node(2, c)->nr_slabs, 1u);
		slab_free_bulk(c, p, 20);
		gate_leave();
	}
	validate();
}

/* Slabs of a group that are given up are adopted by its own CPUs, never by another group's. */
Test(node, domains_keep_groups_apart, .init = boot_auto)
{
	static void *p[16][64];
	unsigned c1 = cache(256, 1), c2 = cache(256, 2), nr_obj = cache_of(c1)->nr_objects;
	void *q[64];

	online(1);
	online(2);
	if (max_percpu_areas < 2 || percpu_online(1) != 0)
		cr_skip_test("one CPU");
	gate_enter();
	for (unsigned i = 0; i < 16; i++)
		cr_assert_eq(slab_alloc_bulk(0, c1, p[i], nr_obj), nr_obj);
	for (unsigned i = 0; i < 16; i++)
		slab_free_bulk(c1, p[i] + 1, nr_obj - 1);
	cr_assert_neq(get_node(HOME_DOMAIN + domain_of_area(0), c1)->nr_slabs, 0u);
	cr_assert_null(get_node(HOME_DOMAIN + domain_of_area(0), c2));
	cr_assert_eq(slab_alloc_bulk(1, c2, q, 8), 8u);
	for (unsigned i = 0; i < 8; i++)
		cr_assert_eq(colour_of(q[i]), 2u);
	slab_free_bulk(c2, q, 8);
	for (unsigned i = 0; i < 16; i++)
		slab_free_bulk(c1, p[i], 1);
	gate_leave();
	drain(1);
	cr_assert_eq(slabs_of(1), 0u);
	validate();
}

/* Threads of all colours, freeing what others allocated, while one drains. */
#define MAILBOX 512
static void *mailbox[MAILBOX];
static unsigned nr_running;

static void *worker(void *arg)
{
	u64 r = rng_of((u64)(uintptr_t)arg);
	unsigned own = (unsigned)(uintptr_t)arg % COLOURS;

	for (unsigned i = 0; i < rounds(100000); i++) {
		void *p = kmalloc_colour(16 + rng_below(&r, 2000), own), *old;

		CHECK(p && colour_of(p) == own);
		old = __atomic_exchange_n(&mailbox[rng_below(&r, MAILBOX)], p, __ATOMIC_ACQ_REL);
		if (old)
			kfree(old);
	}
	__atomic_sub_fetch(&nr_running, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void *drainer(void *arg)
{
	u64 r = rng_of(99);

	while (__atomic_load_n(&nr_running, __ATOMIC_ACQUIRE)) {
		drain(rng_below(&r, COLOURS));
		usleep(200);
	}
	return arg;
}

static void *worker_or_drainer(void *arg)
{
	return arg ? worker(arg) : drainer(arg);
}

static void check_threads(void)
{
	for (unsigned c = 0; c < COLOURS; c++)
		online(c);
	nr_running = 5;
	run_threads(6, worker_or_drainer);
	for (unsigned i = 0; i < MAILBOX; i++)
		if (mailbox[i])
			kfree(mailbox[i]);
	validate();
	for (unsigned c = 1; c < COLOURS; c++) {
		drain(c);
		cr_assert_eq(slabs_of(c), 0u);
	}
	validate();
}

Test(node, threads, .init = boot_auto)
{
	check_threads();
}

Test(node, threads_locked, .init = boot_lock)
{
	check_threads();
}

/* Where a walk takes a page for a slab that is none, class, group and home are the bytes of any number, as of 133 pages. */
Test(node, nonsense_has_no_node, .init = boot_auto)
{
	online(1);
	kfree(kmalloc(64));
	cr_assert_eq(suspected_node(0, cache(64, 0)), get_node(0, cache(64, 0)));
	cr_assert_eq(suspected_node(0, cache(64, 1)), get_node(0, cache(64, 1)));
	cr_assert_not_null(get_node(0, cache(64, 1)));
	for (unsigned colour = 0; colour < 2; colour++)
		for (unsigned cls = 0; cls < 1u << MAP_COLOUR_SHIFT; cls++)
			if (!cls || cls >= NR_KMALLOC_CLASSES)
				cr_assert_null(suspected_node(0, cls | colour << MAP_COLOUR_SHIFT), "class %u", cls);
	for (unsigned home = nr_percpu_areas(); home <= UINT16_MAX; home++)
		if (home < HOME_DOMAIN || home >= HOME_DOMAIN + NR_DOMAINS)
			cr_assert_null(suspected_node(home, cache(64, 0)), "home %#x", home);
}
