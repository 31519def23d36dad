/* SPDX-License-Identifier: MIT */
/* page_counter_test.c - hierarchical counters: all or nothing, never above max, the reserve, the sum after threads. */
#include "page/page_counter.h"

#include "../boot.h"

static struct page_counter root, a, b;

static void setup(void)
{
	page_counter_init(&root, NULL);
	page_counter_init(&a, &root);
	page_counter_init(&b, &a);
}

TestSuite(page_counter, .init = setup, .timeout = 60);

Test(page_counter, a_charge_goes_all_the_way_up)
{
	cr_assert(page_counter_try_charge(&b, 10, false, NULL));
	cr_assert(page_counter_try_charge(&a, 5, false, NULL));
	cr_assert_eq(b.usage, 10u);
	cr_assert_eq(a.usage, 15u);
	cr_assert_eq(root.usage, 15u);
	page_counter_uncharge(&b, 4);
	cr_assert_eq(b.usage, 6u);
	cr_assert_eq(a.usage, 11u);
	cr_assert_eq(root.usage, 11u);
	cr_assert_eq(b.watermark, 10u);
	cr_assert_eq(root.watermark, 15u);
}

Test(page_counter, what_does_not_fit_charges_nobody)
{
	struct page_counter *fail = NULL;

	page_counter_set_max(&a, 1000);
	a.reserve = 0;
	cr_assert(page_counter_try_charge(&b, 990, false, &fail));
	cr_assert_not(page_counter_try_charge(&b, 11, false, &fail));
	cr_assert_eq(fail, &a);
	cr_assert_eq(b.usage, 990u);
	cr_assert_eq(a.usage, 990u);
	cr_assert_eq(root.usage, 990u);
	cr_assert_eq(a.watermark, 990u);
	cr_assert(page_counter_try_charge(&b, 10, false, &fail), "up to the last page");
	cr_assert_eq(page_counter_margin(&a), 0u);
	page_counter_set_max(&root, 2000);
	root.reserve = 0;
	cr_assert_not(page_counter_try_charge(&root, 1001, false, &fail));
	cr_assert_eq(fail, &root, "the lowest in the way");
}

Test(page_counter, extremes)
{
	struct page_counter *fail = NULL;

	cr_assert_eq(a.max, PAGE_COUNTER_MAX);
	cr_assert_eq(a.reserve, 0u, "no reserve without a limit");
	page_counter_set_max(&a, 0);
	cr_assert_not(page_counter_try_charge(&a, 1, true, &fail));
	cr_assert_eq(fail, &a);
	page_counter_set_max(&a, 10);
	cr_assert_not(page_counter_try_charge(&a, UINT64_MAX, false, NULL), "no overflow");
	cr_assert(page_counter_try_charge(&a, 8, false, NULL));
	page_counter_set_max(&a, 3);		/* below what is used */
	cr_assert_eq(page_counter_margin(&a), 0u);
	cr_assert_not(page_counter_try_charge(&a, 1, true, NULL));
	cr_assert_eq(a.usage, 8u);
	page_counter_uncharge(&a, 6);
	cr_assert(page_counter_try_charge(&a, 1, false, NULL));
}

Test(page_counter, room_is_what_is_set_aside_of_every_max)
{
	page_counter_set_max(&a, 160);
	cr_assert(page_counter_has_room(&b));
	cr_assert(page_counter_try_charge(&b, 140, false, NULL));
	cr_assert(page_counter_has_room(&b), "10 are left, and 10 set aside");
	cr_assert(page_counter_try_charge(&b, 1, false, NULL));
	cr_assert_not(page_counter_has_room(&b));
	cr_assert(page_counter_has_room(&root), "not its own affair");
}

/* A sixteenth of max, 128 pages at most, is for those who have just been refused. */
Test(page_counter, the_reserve)
{
	page_counter_set_max(&a, 160);
	cr_assert_eq(a.reserve, 10u);
	cr_assert_eq(page_counter_margin(&a), 150u);
	cr_assert(page_counter_try_charge(&b, 150, false, NULL));
	cr_assert_not(page_counter_try_charge(&b, 1, false, NULL));
	cr_assert(page_counter_try_charge(&b, 10, true, NULL));
	cr_assert_not(page_counter_try_charge(&b, 1, true, NULL), "part of max, not beyond it");
	cr_assert_eq(a.usage, a.max);
	page_counter_set_max(&a, 1 << 20);
	cr_assert_eq(a.reserve, 128u);
	page_counter_set_max(&a, PAGE_COUNTER_MAX);
	cr_assert_eq(a.reserve, 0u);
}

/* --- threads: at no time is usage above max, and what was uncharged is gone -------------------------------------- */

#define MAX 500
static u32 nr_running, nr_refused;

static void *charge(void *arg)
{
	struct page_counter *own = (uintptr_t)arg & 1 ? &a : &b;
	u64 r = rng_of((uintptr_t)arg);
	u32 held = 0;

	for (unsigned i = 0; i < rounds(200000); i++) {
		u32 nr = 1 + rng_below(&r, 200);

		if (page_counter_try_charge(own, nr, false, NULL)) {
			held += nr;
			continue;
		}
		__atomic_add_fetch(&nr_refused, 1, __ATOMIC_RELAXED);	/* sooner or later, also when threads run one by one */
		page_counter_uncharge(own, held);
		held = 0;
	}
	page_counter_uncharge(own, held);
	__atomic_sub_fetch(&nr_running, 1, __ATOMIC_RELEASE);
	return NULL;
}

static void *watch(void *arg)
{
	do {
		CHECK(READ_ONCE(a.usage) <= MAX);
		CHECK(READ_ONCE(b.usage) <= MAX / 2);
	} while (__atomic_load_n(&nr_running, __ATOMIC_ACQUIRE));
	return arg;
}

static void *charge_or_watch(void *arg)
{
	return arg ? charge(arg) : watch(arg);
}

Test(page_counter, threads)
{
	page_counter_set_max(&a, MAX);
	page_counter_set_max(&b, MAX / 2);
	nr_running = 4;
	run_threads(5, charge_or_watch);
	cr_assert_eq(b.usage, 0u);
	cr_assert_eq(a.usage, 0u);
	cr_assert_eq(root.usage, 0u);
	cr_assert_gt(nr_refused, 0u);
	cr_assert_leq(a.watermark, MAX);
	cr_assert_gt(a.watermark, 0u);
}
