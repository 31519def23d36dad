/* SPDX-License-Identifier: MIT */
/* page_reporting_test.c - free memory goes home: what is reported is not resident, the break comes down. */
#include "page/reclaim.h"

#include "../boot.h"
#include "page/percpu.h"
#include "page/vmstat.h"

static void boot(void)
{
	boot_pages(PERCPU_AUTO);
	cr_assert_eq(percpu_online(0), 0);
	kmm_params.decay_ms = 3600000;
}

TestSuite(page_reporting, .init = boot, .timeout = 60);

enum { NR = 2000 };
static struct page *got[NR];

/* nr blocks of an order, written all over. */
static void take(unsigned nr, unsigned order)
{
	for (unsigned i = 0; i < nr; i++) {
		got[i] = alloc_pages(order, MIGRATE_MOVABLE);
		cr_assert_not_null(got[i]);
		memset(page_address(got[i]), 0x5a, PAGE_SIZE << order);
	}
}

static void give(unsigned from, unsigned step, unsigned nr, unsigned order)
{
	for (unsigned i = from; i < nr; i += step) {
		free_pages(got[i], order);
		got[i] = NULL;
	}
	drain_all_pages();
}

static u64 resident_free(void)
{
	u64 sum = 0;

	for (int z = 0; z < MAX_NR_ZONES; z++)
		sum += zones[z].free_pages - zones[z].reported_pages;
	return sum;
}

static void validate(void)
{
	for (int z = 0; z < MAX_NR_ZONES; z++)
		buddy_validate(&zones[z]);
}

/* Bytes of reported blocks that the kernel says are resident. */
static size_t resident_though_reported(void)
{
	size_t sum = 0;

	for (int z = 0; z < MAX_NR_ZONES; z++) {
		for (pfn_t pfn = zones[z].start_pfn; pfn < zones[z].end_pfn; pfn++) {
			const struct page *page = pfn_to_page(pfn);

			if ((page->flags & (PG_buddy | PG_reported)) == (PG_buddy | PG_reported))
				sum += (size_t)vm_resident(pfn_to_virt(pfn), PAGE_SIZE << page->order);
		}
	}
	return sum;
}

static size_t report_all(unsigned min_order, u64 max_age_ms)
{
	size_t bytes = 0;

	for (int z = 0; z < MAX_NR_ZONES; z++)
		bytes += page_report(&zones[z], min_order, max_age_ms);
	return bytes;
}

Test(page_reporting, everything_goes)
{
	u64 before;

	take(NR, 0);
	give(0, 2, NR, 0);
	before = resident_free();
	cr_assert_geq(before, NR / 2);
	cr_assert_eq(report_all(0, 0), before << PAGE_SHIFT);
	cr_assert_eq(resident_free(), 0u);
	cr_assert_eq(resident_though_reported(), 0u);
	validate();
	for (unsigned i = 1; i < NR; i += 2)
		for (unsigned k = 0; k < PAGE_SIZE; k += 64)
			cr_assert_eq(((char *)page_address(got[i]))[k], 0x5a, "what is used stays");
	give(1, 2, NR, 0);
	report_all(0, 0);
	cr_assert_eq(resident_free(), 0u);
	cr_assert_eq(resident_though_reported(), 0u);
	cr_assert_eq(report_all(0, 0), 0u, "nothing twice");
}

Test(page_reporting, small_blocks_are_left)
{
	take(NR, 0);
	give(0, 2, NR, 0);
	report_all(2, 0);
	cr_assert_geq(resident_free(), NR / 2 - 20, "single pages stay");
	cr_assert_eq(resident_though_reported(), 0u);
	validate();
}

Test(page_reporting, young_blocks_are_left)
{
	take(64, 9);
	give(0, 1, 64, 9);
	cr_assert_eq(report_all(0, 60000), 0u);
	cr_assert_geq(resident_free(), 64u * 512);
}

/* Blocks older than asked for go, until the low watermark is reached. */
Test(page_reporting, old_blocks_go_down_to_the_watermark)
{
	struct zone *zone = &zones[ZONE_NORMAL];
	u64 before, after, start;

	take(64, 9);
	give(0, 2, 64, 9);
	before = resident_free();
	start = os_clock_ms();
	while (os_clock_ms() < start + 60)
		os_yield();
	report_all(0, 50);
	after = resident_free();
	cr_assert_lt(after, before / 2);
	cr_assert_leq(zone->free_pages - zone->reported_pages, zone->watermark[WMARK_LOW]);
	cr_assert_eq(resident_though_reported(), 0u);
	validate();
}

/* A zone above its high watermark, and no decay time: the freeing thread reports at once. */
Test(page_reporting, freeing_notices)
{
	u64 reported = global_vm_event(VM_page_report);

	take(32, 9);
	give(0, 1, 32, 9);
	cr_assert_eq(global_vm_event(VM_page_report), reported, "an hour has not passed");
	kmm_params.decay_ms = 0;
	take(32, 9);
	for (unsigned i = 0; i < 32; i++) {
		free_pages(got[i], 9);
		for (u64 t = os_clock_ms(); os_clock_ms() == t;)
			;
	}
	cr_assert_gt(global_vm_event(VM_page_report), reported);
	cr_assert_eq(resident_though_reported(), 0u);
	cr_assert_leq(zones[ZONE_NORMAL].free_pages - zones[ZONE_NORMAL].reported_pages,
		      zones[ZONE_NORMAL].watermark[WMARK_HIGH] + 512);
	validate();
}

/* --- the break ------------------------------------------------------------------------------------------------ */

Test(page_reporting, break_comes_down)
{
	struct zone *zone = &zones[ZONE_BRK];
	uintptr_t top;
	u64 present;
	size_t bytes;

	take(NR, 0);
	top = brk_end();
	present = zone->present_pages;
	cr_assert_eq((uintptr_t)pfn_to_virt(zone->end_pfn), top);
	give(0, 1, NR, 0);
	bytes = brk_trim(0);
	cr_assert_gt(bytes, MIB(4), "%zu", bytes);
	cr_assert_eq(brk_end(), top - bytes);
	cr_assert_eq((uintptr_t)__os_sbrk(0), top - bytes);
	cr_assert_eq(zone->present_pages, present - (bytes >> PAGE_SHIFT));
	cr_assert_eq(zone->managed_pages, zone->free_pages);
	cr_assert_eq((uintptr_t)pfn_to_virt(zone->end_pfn), brk_end());
	validate();
	cr_assert_eq(brk_trim(0), 0u, "nothing left");
	take(NR, 0);		/* and up again, with pages that read as zeroes where that is said */
	validate();
	give(0, 1, NR, 0);
	cr_assert_eq(zone->managed_pages, zone->free_pages);
}

Test(page_reporting, break_keeps_the_pad)
{
	struct zone *zone = &zones[ZONE_BRK];

	take(NR, 0);
	give(0, 1, NR, 0);
	cr_assert_gt(brk_trim(MIB(1)), 0u);
	cr_assert_geq(((u64)(zone->end_pfn - zone->start_pfn)) << PAGE_SHIFT, MIB(1));
	cr_assert_eq(brk_trim(GIB(1)), 0u);
	validate();
}

Test(page_reporting, break_stays_under_a_used_page)
{
	struct zone *zone = &zones[ZONE_BRK];
	char *last = NULL;
	unsigned keep = 0;

	take(NR, 0);
	for (unsigned i = 0; i < NR; i++)
		if (pfn_zone(page_to_pfn(got[i])) == ZONE_BRK && (char *)page_address(got[i]) > last)
			last = page_address(got[keep = i]);
	for (unsigned i = 0; i < NR; i++)
		if (i != keep)
			free_pages(got[i], 0);
	drain_all_pages();
	brk_trim(0);
	cr_assert_geq(brk_end(), (uintptr_t)last + PAGE_SIZE);
	cr_assert_eq(last[0], 0x5a);
	cr_assert_eq(zone->free_pages, zone->managed_pages - 1);
	validate();
}

Test(page_reporting, break_that_somebody_stands_on)
{
	struct zone *zone = &zones[ZONE_BRK];
	char *theirs;
	u64 present;

	take(NR, 0);
	theirs = foreign_sbrk(100);
	memset(theirs, 7, 100);
	give(0, 1, NR, 0);
	present = zone->present_pages;
	cr_assert_eq(brk_trim(0), 0u);
	cr_assert_eq(zone->present_pages, present);
	cr_assert_eq(zone->free_pages, present);
	validate();
	cr_assert_eq(theirs[99], 7);
	foreign_sbrk(-100);
	cr_assert_gt(brk_trim(0), 0u, "they went");
	validate();
}

/* The break is below a hole: trimming stops there. */
Test(page_reporting, break_comes_down_to_a_hole)
{
	struct zone *zone = &zones[ZONE_BRK];
	uintptr_t hole_end;
	char *hole;

	hole = foreign_sbrk(KIB(40));
	memset(hole, 7, KIB(40));
	hole_end = (uintptr_t)foreign_sbrk(0);
	take(NR, 0);
	cr_assert_gt(brk_end(), hole_end);
	give(0, 1, NR, 0);
	cr_assert_gt(brk_trim(0), 0u);
	cr_assert_eq(brk_end(), ALIGN(hole_end, os_page_size));
	for (size_t i = 0; i < KIB(40); i++)
		cr_assert_eq(hole[i], 7);
	cr_assert_eq(zone->free_pages, zone->managed_pages);
	validate();
	take(NR, 0);
	validate();
}

/* --- all together --------------------------------------------------------------------------------------------- */

static u64 asked_age;
static unsigned nr_asked;

static size_t shrink_one(u64 max_age_ms)
{
	asked_age = max_age_ms;
	nr_asked++;
	return 1000;
}

static size_t shrink_two(u64 max_age_ms)
{
	nr_asked += max_age_ms == asked_age ? 100 : 0;
	return 10000;
}

Test(page_reporting, try_to_free_pages)
{
	static struct shrinker one = { .name = "one", .scan = shrink_one }, two = { .name = "two", .scan = shrink_two };
	size_t bytes;

	register_shrinker(&two);
	register_shrinker(&one);
	cr_assert_eq(shrink_all(1234), 11000u);
	cr_assert_eq(nr_asked, 101u);
	cr_assert_eq(asked_age, 1234u);
	take(NR, 0);
	for (unsigned i = 0; i < NR; i++)
		free_pages(got[i], 0);
	bytes = try_to_free_pages(0, 0);
	cr_assert_geq(bytes, 11000u + NR * PAGE_SIZE);
	cr_assert_eq(nr_asked, 202u);
	cr_assert_eq(nr_pcp_pages(), 0u);
	cr_assert_eq(resident_free(), 0u);
	cr_assert_eq(resident_though_reported(), 0u);
	validate();
}
