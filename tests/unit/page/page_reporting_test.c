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

static size_t report_all(u32 max_age_ms, u32 deep_age_ms)
{
	struct scan_control sc = SCAN_ALL((u32)os_clock_ms());

	sc.max_age_ms = max_age_ms;
	sc.deep_age_ms = deep_age_ms;
	for (int z = 0; z < MAX_NR_ZONES; z++)
		while (page_report(&zones[z], &sc))
			;
	return sc.nr_reclaimed;
}

static size_t trim(size_t pad)
{
	report_all(0, 0);
	return brk_trim(pad);
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
	report_all(0, NEVER_MS);
	cr_assert_geq(resident_free(), NR / 2 - 20, "single pages stay");
	cr_assert_eq(resident_though_reported(), 0u);
	validate();
}

Test(page_reporting, young_blocks_are_left)
{
	take(64, 9);
	give(0, 1, 64, 9);
	cr_assert_eq(report_all(60000, NEVER_MS), 0u);
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
	report_all(50, NEVER_MS);
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
	bytes = trim(0);
	cr_assert_gt(bytes, MIB(4), "%zu", bytes);
	cr_assert_eq(brk_end(), top - bytes);
	cr_assert_eq((uintptr_t)__os_sbrk(0), top - bytes);
	cr_assert_eq(zone->present_pages, present - (bytes >> PAGE_SHIFT));
	cr_assert_eq(zone->managed_pages, zone->free_pages);
	cr_assert_eq((uintptr_t)pfn_to_virt(zone->end_pfn), brk_end());
	validate();
	cr_assert_eq(trim(0), 0u, "nothing left");
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
	cr_assert_gt(trim(MIB(1)), 0u);
	cr_assert_geq(((u64)(zone->end_pfn - zone->start_pfn)) << PAGE_SHIFT, MIB(1));
	cr_assert_eq(trim(GIB(1)), 0u);
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
	trim(0);
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
	cr_assert_eq(trim(0), 0u);
	cr_assert_eq(zone->present_pages, present);
	cr_assert_eq(zone->free_pages, present);
	validate();
	cr_assert_eq(theirs[99], 7);
	foreign_sbrk(-100);
	cr_assert_gt(trim(0), 0u, "they went");
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
	cr_assert_gt(trim(0), 0u);
	cr_assert_eq(brk_end(), ALIGN(hole_end, os_page_size));
	for (size_t i = 0; i < KIB(40); i++)
		cr_assert_eq(hole[i], 7);
	cr_assert_eq(zone->free_pages, zone->managed_pages);
	validate();
	take(NR, 0);
	validate();
}

Test(page_reporting, break_stays_under_resident_pages)
{
	take(NR, 0);
	give(0, 1, NR, 0);
	cr_assert_eq(brk_trim(0), 0u);
	validate();
	cr_assert_gt(trim(0), MIB(4));
	cr_assert_eq(resident_free(), 0u);
}

/* --- what one batch may take ----------------------------------------------------------------------------------- */

Test(page_reporting, a_batch_is_bounded)
{
	struct scan_control sc = SCAN_ALL((u32)os_clock_ms());
	struct zone *zone = &zones[ZONE_NORMAL];
	u64 before;

	take(64, 9);
	give(0, 1, 64, 9);
	for (before = zone->reported_pages; page_report(zone, &sc); before = zone->reported_pages) {
		cr_assert_leq(zone->reported_pages - before, 1u << PAGEBLOCK_ORDER);
		validate();
	}
	cr_assert_eq(resident_free_pages(zone), 0u, "large blocks go piece by piece");
	cr_assert_gt(sc.nr_reclaimed, MIB(32));
}

Test(page_reporting, a_pass_is_bounded)
{
	struct scan_control sc = SCAN_ALL((u32)os_clock_ms());

	sc.nr_to_reclaim = MIB(8);
	take(64, 9);
	give(0, 1, 64, 9);
	while (sc.nr_to_reclaim && page_report(&zones[ZONE_NORMAL], &sc))
		;
	cr_assert_geq(sc.nr_reclaimed, MIB(8));
	cr_assert_leq(sc.nr_reclaimed, MIB(10));
}

/* Blocks go by age, the oldest first, and the pass says when the next one is due. */
Test(page_reporting, oldest_first)
{
	struct scan_control sc = SCAN_ALL(10000);
	struct zone *zone = &zones[ZONE_NORMAL];
	size_t old = 0;

	take(96, 9);
	for (unsigned i = 0; i < 96; i += 2) {
		u32 stamp = 5000 + 50 * (i - 32);

		if (pfn_zone(page_to_pfn(got[i])) != ZONE_NORMAL)
			continue;
		mutex_lock(&zone->lock, LOCK_zone);
		__free_range(zone, page_to_pfn(got[i]), 1u << 9, stamp, false);
		mutex_unlock(&zone->lock, LOCK_zone);
		old += stamp <= 7000 ? PAGEBLOCK_SIZE : 0;
	}
	zone->watermark[WMARK_LOW] = 0;
	sc.max_age_ms = 3000;
	sc.deep_age_ms = NEVER_MS;
	while (page_report(zone, &sc))
		;
	cr_assert_gt(old, MIB(20));
	cr_assert_eq(sc.nr_reclaimed, old);
	cr_assert_eq(sc.next_ms, 100u);
	cr_assert_eq(resident_though_reported(), 0u);
	validate();
}

/* A block that was freed after the pass began is young. */
Test(page_reporting, clock_of_the_pass)
{
	struct scan_control sc = SCAN_ALL(10000);

	sc.next_ms = NEVER_MS;
	cr_assert_not(scan_is_old(&sc, 10020, 1000));
	cr_assert_eq(sc.next_ms, 1000u);
	cr_assert_not(scan_is_old(&sc, 9500, 1000));
	cr_assert_eq(sc.next_ms, 500u);
	cr_assert(scan_is_old(&sc, 9000, 1000));
	cr_assert(scan_is_old(&sc, 10020, 0));
	sc.now_ms = 300;
	cr_assert(scan_is_old(&sc, (u32)-800, 1000), "the clock has wrapped");
}

/* Memory that the program has locked stays, and is left alone for a while. */
Test(page_reporting, locked_memory)
{
	struct scan_control sc = SCAN_ALL((u32)os_clock_ms());
	u64 before;

	take(16, 9);
	for (unsigned i = 0; i < 16; i += 2)
		if (mlock(page_address(got[i]), PAGEBLOCK_SIZE) != 0)
			cr_skip_test("not allowed to lock memory");
	give(0, 2, 16, 9);
	before = resident_free();
	while (page_report(&zones[ZONE_BRK], &sc))
		;
	cr_assert(sc.failed);
	cr_assert_gt(resident_free(), 0u);
	cr_assert_leq(resident_free(), before);
	validate();
	sc.failed = false;
	sc.max_age_ms = sc.deep_age_ms = 1000;
	while (page_report(&zones[ZONE_BRK], &sc))
		;
	cr_assert_not(sc.failed, "its age has begun anew");
}
