/* SPDX-License-Identifier: MIT */
/* call_sites_test.c - the largest callers stay, whatever small ones come by; old ones are forgotten. */
#include "page/call_sites.h"

#include "../boot.h"

static struct call_sites sites;

static const void *caller(unsigned i)
{
	return (const void *)(uintptr_t)(0x1000 + i);
}

static u64 pages_of(const struct call_sites *s, unsigned i)
{
	for (unsigned k = 0; k < NR_CALL_SITES; k++)
		if (s->site[k].caller == caller(i))
			return s->site[k].pages;
	return 0;
}

Test(call_sites, sums_by_caller)
{
	for (unsigned i = 0; i < 100; i++)
		call_sites_note(&sites, caller(i % 4), 1 + i % 4, 1000000);
	call_sites_note(&sites, NULL, 1000, 1000000);
	for (unsigned i = 0; i < 4; i++)
		cr_assert_eq(pages_of(&sites, i), 25 * (1 + i));
	cr_assert_eq(sites.total, 250u);
	call_sites_sort(&sites);
	cr_assert_eq(sites.site[0].caller, caller(3));
	cr_assert_eq(sites.site[3].caller, caller(0));
	cr_assert_eq(sites.site[4].pages, 0u);
}

/* One that has a fifth of all among a thousand small ones, which come in any order. */
Test(call_sites, a_large_one_is_not_pushed_out)
{
	u64 r = rng_of(1);

	for (unsigned i = 0; i < 50000; i++)
		call_sites_note(&sites, rng_below(&r, 5) ? caller(1 + rng_below(&r, 1000)) : caller(0), 16, 1ull << 40);
	call_sites_sort(&sites);
	cr_assert_eq(sites.site[0].caller, caller(0));
	cr_assert_geq(sites.site[0].pages, sites.total / 5 - sites.total / 50);
	cr_assert_eq(sites.total, 50000u * 16);
}

/* Who allocated and freed much long ago does not hide who does now. */
Test(call_sites, the_past_is_forgotten)
{
	for (unsigned i = 0; i < 10000; i++)
		call_sites_note(&sites, caller(1), 16, 1000);
	cr_assert_leq(sites.total, 4 * 1000 + 16 * NR_CALL_SITES + 16);
	for (unsigned i = 0; i < 300; i++)
		call_sites_note(&sites, caller(2), 16, 1000);
	cr_assert_gt(pages_of(&sites, 2), pages_of(&sites, 1));
}

Test(call_sites, merge)
{
	struct call_sites sum = { .busy = 0 };

	call_sites_note(&sites, caller(1), 5, 100);
	call_sites_note(&sites, caller(2), 7, 100);
	call_sites_merge(&sum, &sites);
	call_sites_merge(&sum, &sites);
	cr_assert_eq(pages_of(&sum, 1), 10u);
	cr_assert_eq(pages_of(&sum, 2), 14u);
	cr_assert_eq(sum.total, 24u);
}

static void *note(void *arg)
{
	for (unsigned i = 0; i < rounds(100000); i++)
		call_sites_note(&sites, caller((uintptr_t)arg), 1, 1ull << 40);
	return NULL;
}

/* Nothing is torn; what is counted at all is counted for somebody. */
Test(call_sites, threads)
{
	u64 sum = 0;

	run_threads(4, note);
	for (unsigned i = 0; i < NR_CALL_SITES; i++) {
		cr_assert(!sites.site[i].caller || sites.site[i].caller < caller(4));
		sum += sites.site[i].pages;
	}
	cr_assert_eq(sum, sites.total);
	cr_assert_gt(sum, 0u);
	cr_assert_eq(sites.busy, 0u);
}
