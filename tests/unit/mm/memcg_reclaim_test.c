/* SPDX-License-Identifier: MIT */
/* memcg_reclaim_test.c - what gives way in a group, in which order, and the delay of those who are over high. */
#include "mm/memcg_reclaim.h"

#include "../groups.h"
#include <unistd.h>

TestSuite(memcg_reclaim, .init = boot_auto, .timeout = 120);

#define MB_PAGES 256u

/* Hardly anything a little over, the square of the share, two seconds at most; by what the thread has charged. */
Test(memcg_reclaim, delay)
{
	u64 high = 1000 * MB_PAGES;
	u32 before = 0;

	cr_assert_eq(calculate_high_delay(high, high, 64), 0u);
	cr_assert_eq(calculate_high_delay(0, high, 64), 0u);
	cr_assert_leq(calculate_high_delay(high + high / 1000, high, 64), 1u);
	for (unsigned percent = 1; percent <= 300; percent++) {
		u32 ms = calculate_high_delay(high + high / 100 * percent, high, 64);

		cr_assert_geq(ms, before, "more the farther it is over");
		before = ms;
	}
	cr_assert_eq(before, 2000u);
	cr_assert_eq(calculate_high_delay(2 * high, high, 1 << 30), 2000u);
	cr_assert_eq(calculate_high_delay(UINT64_MAX >> 12, 0, 64), 2000u, "a high of nothing");
	/* Kernel: 640 ms for an overage of a tenth: (0.1 * 2^20)^2 * 1000 >> 34 */
	cr_assert(calculate_high_delay(high + high / 10, high, 64) >= 638 && calculate_high_delay(high + high / 10, high, 64) <= 642, "%u",
		  calculate_high_delay(high + high / 10, high, 64));
	cr_assert(calculate_high_delay(high + high / 10, high, 16) >= 158 && calculate_high_delay(high + high / 10, high, 16) <= 162);
}

/* Objects of many classes are cached on every CPU, and of both kinds of slots: at home and away. */
static void cache_everywhere(const struct mem_cgroup *memcg)
{
	void *p[100];

	for (unsigned cpu = 0; cpu < 2; cpu++) {
		for (size_t size = 16; size <= 16384; size *= 2) {
			pin_to(cpu);
			for (int i = 0; i < 100; i++)
				cr_assert_not_null(p[i] = kmalloc_in(memcg, size));
			for (int i = 0; i < 50; i++)
				kfree(p[i]);
			pin_to(cpu + 1);
			for (int i = 50; i < 100; i++)
				kfree(p[i]);
		}
	}
}

/* All slots of all CPUs of a group: one membarrier, however many there are. */
Test(memcg_reclaim, one_membarrier_drains_a_group)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a");
	u64 before;

	if (percpu_mode != PERCPU_MODE_RSEQ)
		cr_skip("no rseq");
	for (int round = 0; round < 3; round++) {
		cache_everywhere(a);
		cr_assert_gt(a->memory.usage, 30u);
		before = global_vm_event(VM_membarrier);
		cr_assert_gt(mem_cgroup_reclaim(a, 0), 30u);
		cr_assert_eq(global_vm_event(VM_membarrier), before + 1);
		cr_assert_eq(a->memory.usage, 0u);
		cr_assert_eq(mem_cgroup_reclaim(a, 0), 0u);
		cr_assert_eq(global_vm_event(VM_membarrier), before + 1, "where nothing is cached none at all");
	}
}

/* Sheaves full of free objects go back as slabs. */
Test(memcg_reclaim, caches_first)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a"), *b = new_group(a, "b");
	void *p[2000];
	u64 got, usage;

	for (int i = 0; i < 2000; i++)
		cr_assert_not_null(p[i] = kmalloc_in(b, 500));
	usage = b->memory.usage;
	cr_assert_geq(usage, 2000u * 512 >> PAGE_SHIFT);
	for (int i = 0; i < 2000; i++)
		kfree(p[i]);
	got = mem_cgroup_reclaim(a, 0);
	cr_assert_gt(got, 0u);
	cr_assert_eq(b->memory.usage, 0u);
	cr_assert_eq(a->memory.usage, 0u);
	cr_assert_geq(b->reclaimed, got);
	cr_assert_eq(a->reclaimed, 0u, "its own");
}

static unsigned nr_calls;
static size_t asked;
static void *hoard[512];
static bool freed;

static size_t shrink(size_t bytes, void *arg)
{
	CHECK(!gate_is_inside());
	CHECK(arg == hoard);
	nr_calls++;
	asked = bytes;
	for (int i = 0; !freed && i < 512; i++)
		kfree(hoard[i]);
	freed = true;
	CHECK(kmalloc(100) != NULL);		/* a shrinker may allocate */
	return 512 * 2048;
}

Test(memcg_reclaim, shrinkers_when_caches_are_not_enough)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a"), *b = new_group(&root_mem_cgroup, "b");
	int nr = register_memcg_shrinker(a->id, shrink, hoard);
	void *p;

	cr_assert_geq(nr, 0);
	for (int i = 0; i < 512; i++)
		cr_assert_not_null(hoard[i] = kmalloc_in(a, 2048));
	p = kmalloc_in(b, 2048);
	mem_cgroup_reclaim(b, MIB(1));
	cr_assert_eq(nr_calls, 0u, "another group's");
	cr_assert_gt(mem_cgroup_reclaim(a, MIB(1)), 512u * 2048 >> (PAGE_SHIFT + 1));
	cr_assert_eq(nr_calls, 1u);
	cr_assert_eq(asked, MIB(1));
	cr_assert_eq(unregister_memcg_shrinker(nr), 0);
	cr_assert_eq(unregister_memcg_shrinker(nr), -ENOENT);
	cr_assert_eq(unregister_memcg_shrinker(-1), -ENOENT);
	cr_assert_eq(unregister_memcg_shrinker(1000), -ENOENT);
	mem_cgroup_reclaim(a, MIB(1));
	cr_assert_eq(nr_calls, 1u);
	kfree(p);
}

static size_t shrink_nothing(size_t bytes, void *arg)
{
	(void)bytes;
	(void)arg;
	return 0;
}

Test(memcg_reclaim, as_many_shrinkers_as_there_can_be)
{
	int nr = 0;

	while (register_memcg_shrinker(0, shrink_nothing, NULL) >= 0)
		nr++;
	cr_assert_eq(nr, 32);
	cr_assert_eq(register_memcg_shrinker(0, shrink_nothing, NULL), -ENOSPC);
	cr_assert_eq(unregister_memcg_shrinker(7), 0);
	cr_assert_eq(register_memcg_shrinker(0, shrink_nothing, NULL), 7);
}

static bool inside, leave, unregistered;

static size_t shrink_slowly(size_t bytes, void *arg)
{
	(void)bytes;
	(void)arg;
	WRITE_ONCE(inside, true);
	while (!READ_ONCE(leave))
		usleep(100);
	CHECK(!READ_ONCE(unregistered));
	return 0;
}

static void *reclaim_root(void *arg)
{
	(void)arg;
	mem_cgroup_reclaim(&root_mem_cgroup, MIB(64));
	return NULL;
}

static void *let_it_leave(void *arg)
{
	usleep(20000);
	WRITE_ONCE(leave, true);
	return arg;
}

/* Who unregisters waits until nobody is inside: its code may be unmapped then. */
Test(memcg_reclaim, unregister_waits)
{
	int nr = register_memcg_shrinker(0, shrink_slowly, NULL);
	pthread_t t, u;

	pthread_create(&t, NULL, reclaim_root, NULL);
	while (!READ_ONCE(inside))
		usleep(100);
	pthread_create(&u, NULL, let_it_leave, NULL);
	cr_assert_eq(unregister_memcg_shrinker(nr), 0);
	cr_assert(READ_ONCE(leave));
	WRITE_ONCE(unregistered, true);
	pthread_join(t, NULL);
	pthread_join(u, NULL);
}

/* Objects in sheaves: what a group could give. */
static void fill_caches(const struct mem_cgroup *memcg)
{
	void *p[1000];

	for (int i = 0; i < 1000; i++)
		cr_assert_not_null(p[i] = kmalloc_in(memcg, 1000));
	for (int i = 0; i < 1000; i++)
		kfree(p[i]);
	cr_assert_gt(memcg->memory.usage, 0u);
}

Test(memcg_reclaim, protection)
{
	struct mem_cgroup *p = new_group(&root_mem_cgroup, "p"), *min = new_group(p, "min"), *low = new_group(p, "low");
	struct mem_cgroup *other = new_group(p, "other");

	min->memory.min = low->memory.low = 100 * MB_PAGES;
	fill_caches(min);
	fill_caches(low);
	fill_caches(other);
	cr_assert_gt(mem_cgroup_reclaim(p, 0), 0u);
	cr_assert_eq(other->memory.usage, 0u);
	cr_assert_gt(low->memory.usage, 0u, "below its low: not while others have something");
	cr_assert_eq(low->events[MEMCG_LOW], 0u);
	cr_assert_gt(mem_cgroup_reclaim(p, 0), 0u);
	cr_assert_eq(low->memory.usage, 0u, "then all the same");
	cr_assert_eq(low->events[MEMCG_LOW], 1u);
	cr_assert_eq(p->events[MEMCG_LOW], 1u);
	cr_assert_eq(mem_cgroup_reclaim(p, MIB(1)), 0u);
	cr_assert_gt(min->memory.usage, 0u, "below its min: never for those above");
	cr_assert_eq(min->reclaimed, 0u);
	cr_assert_gt(mem_cgroup_reclaim(min, 0), 0u, "its own limits do not protect it from itself");
	cr_assert_eq(min->memory.usage, 0u);
}

/* The thread pays on its way out, in the group that was charged, whatever its own is. */
Test(memcg_reclaim, over_high)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a");
	u64 begin = os_clock_ns();

	memcg_thread.word = memcg_word(0);
	a->memory.high = 4 * MB_PAGES;
	cr_assert(charge(a, 6 * MB_PAGES));
	memcg_handle_over_high();
	cr_assert_eq(a->events[MEMCG_HIGH], 1u);
	cr_assert_geq(os_clock_ns() - begin, 500 * 1000000ull, "half over: two seconds, less the clock's steps");
	cr_assert_geq(a->throttled_us, 500000u);
	cr_assert_eq(memcg_thread.over_high, 0u);
	cr_assert_eq(memcg_nr_stalled, 0u);
	uncharge(a, 6 * MB_PAGES);
}

static void *raise_high(void *arg)
{
	struct mem_cgroup *a = arg;

	usleep(50000);
	WRITE_ONCE(a->memory.high, PAGE_COUNTER_MAX);
	memcg_limits_changed(a);
	return NULL;
}

Test(memcg_reclaim, a_raised_limit_wakes_who_waits)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a");
	u64 begin = os_clock_ns();
	pthread_t t;

	a->memory.high = MB_PAGES;
	cr_assert(charge(a, 6 * MB_PAGES));
	pthread_create(&t, NULL, raise_high, a);
	memcg_handle_over_high();
	cr_assert_leq(os_clock_ns() - begin, 1500 * 1000000ull, "else two seconds");
	pthread_join(t, NULL);
	uncharge(a, 6 * MB_PAGES);
}

Test(memcg_reclaim, make_room)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a");
	unsigned tries = 0;
	void *p[4000];
	int nr = 0, more = 0;

	memcg_thread.failed = 0;
	cr_assert_not(memcg_make_room(100, &tries), "nothing has failed");
	page_counter_set_max(&a->memory, 2 * MB_PAGES);
	while (nr < 4000 && (p[nr] = kmalloc_in(a, 1000)))
		nr++;
	cr_assert(nr > 1500 && nr < 2100, "%d", nr);
	cr_assert_leq(a->memory.watermark, 2u * MB_PAGES);
	cr_assert_gt(a->events[MEMCG_MAX], 0u);
	cr_assert_gt(a->events[MEMCG_OOM], 0u);
	for (int i = 0; i < nr; i++)		/* free, but cached by another class */
		kfree(p[i]);
	while (more < 4000 && (p[more] = kmalloc_in(a, 500)))
		more++;
	cr_assert(more > 3000 && more < 4100, "%d", more);
	for (int i = 0; i < more; i++)
		kfree(p[i]);
	mem_cgroup_reclaim(a, 0);
	cr_assert_eq(a->memory.usage, 0u);
}
