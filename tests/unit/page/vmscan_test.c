/* SPDX-License-Identifier: MIT */
/* vmscan_test.c - passes of reclaim: by age, a share at a time, in slices, and that they come to an end. */
#include "page/reclaim.h"

#include "../boot.h"
#include "page/percpu.h"
#include "page/vmstat.h"

static void boot(void)
{
	boot_pages(PERCPU_AUTO);
	cr_assert_eq(percpu_online(1), 0);
	kmm_params.decay_ms = 100;
}

TestSuite(vmscan, .init = boot, .timeout = 60);

enum { NR = 4000 };
static struct page *got[NR];

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
	for (unsigned i = from; i < nr; i += step)
		free_pages(got[i], order);
}

static size_t resident_free(void)
{
	return (resident_free_pages(&zones[ZONE_BRK]) + resident_free_pages(&zones[ZONE_NORMAL])) << PAGE_SHIFT;
}

/* As the background thread does it. What the pass says about the next one. */
static u32 pass(struct scan_control *sc)
{
	kswapd_begin(sc);
	while (shrink_slice(sc))
		;
	return kswapd_end(sc);
}

static void sleep_ms(u64 ms)
{
	for (u64 start = os_clock_ms(); os_clock_ms() < start + ms;)
		os_yield();
}

/* Young memory stays, then it goes by shares, at last everything is at home and nothing is left to wait for. */
Test(vmscan, memory_goes_home)
{
	struct scan_control sc;
	size_t before, all;
	unsigned passes = 0;
	u32 ms;

	take(48, 9);
	kswapd_running = true;		/* freeing slow paths leave it to the thread, that is to us */
	give(0, 1, 48, 9);
	all = resident_free();
	cr_assert_geq(all, MIB(96));
	ms = pass(&sc);
	cr_assert_eq(sc.nr_reclaimed, 0u, "%zu", sc.nr_reclaimed);
	cr_assert_leq(ms, 100u);
	cr_assert_gt(ms, 0u);
	while (ms != NEVER_MS) {
		sleep_ms(ms);
		before = resident_free();
		ms = pass(&sc);
		cr_assert_eq(before - resident_free(), sc.nr_reclaimed);
		cr_assert_leq(sc.nr_reclaimed, max(before / 8, MIB(4)) + PAGEBLOCK_SIZE, "no burst");
		for (int z = 0; z < MAX_NR_ZONES; z++)
			buddy_validate(&zones[z]);
		cr_assert_lt(++passes, 200u);
	}
	cr_assert_gt(passes, 10u);
	cr_assert_eq(resident_free(), 0u);
	cr_assert_eq(nr_pcp_pages(), 0u);
	cr_assert_eq(pass(&sc), NEVER_MS);
	cr_assert_eq(global_vm_event(VM_pgsteal_kswapd), all >> PAGE_SHIFT);
	cr_assert_geq(global_vm_event(VM_kswapd_pass), passes);
}

/* A zone keeps what is below its low watermark for longer, and so it does single pages. */
Test(vmscan, deep_age)
{
	struct zone *zone = &zones[ZONE_NORMAL];
	struct scan_control sc;

	take(112, 9);
	kswapd_running = true;
	give(96, 1, 112, 9);	/* the watermark is a thirty-second of what remains */
	sleep_ms(110);
	for (unsigned i = 0; i < 100 && pass(&sc) < 20; i++)
		;
	cr_assert_leq(resident_free_pages(zone), zone->watermark[WMARK_LOW]);
	cr_assert_gt(resident_free_pages(zone), 0u);
	sleep_ms(310);
	while (pass(&sc) != NEVER_MS)
		sleep_ms(10);
	cr_assert_eq(resident_free_pages(zone), 0u);
}

/* Page lists of a CPU on which no slow path runs any more. */
Test(vmscan, lists_of_cpus_that_sleep)
{
	struct scan_control sc;

	kmm_params.decay_ms = 1000;
	take(8, 0);
	give(0, 1, 8, 0);
	cr_assert_gt(nr_pcp_pages(), 0u);
	for (unsigned i = 0; i < 5; i++) {
		pass(&sc);
		sleep_ms(60);
		count_vm_event(VM_barn_get);
	}
	cr_assert_gt(nr_pcp_pages(), 0u, "in use");
	for (unsigned i = 0; i < 100 && nr_pcp_pages(); i++) {
		pass(&sc);
		sleep_ms(60);
	}
	cr_assert_eq(nr_pcp_pages(), 0u);
}

/* --- shrinkers ------------------------------------------------------------------------------------------------ */

static unsigned slices[2], wants[2];
static u32 cursors[2];

static bool shrink(struct scan_control *sc, unsigned i)
{
	if (slices[i] == 0)
		cr_assert_eq(sc->cursor, 0u, "a new turn begins");
	cursors[i] = ++sc->cursor;
	scan_account(sc, MIB(1));
	return ++slices[i] < wants[i];
}

static bool shrink_one(struct scan_control *sc)
{
	return shrink(sc, 0);
}

static bool shrink_two(struct scan_control *sc)
{
	cr_assert_geq(slices[0], wants[0], "the one that was registered last comes first");
	return shrink(sc, 1);
}

static size_t count_bytes(void)
{
	return MIB(80);
}

static struct shrinker one = { .name = "one", .scan = shrink_one, .count = count_bytes };
static struct shrinker two = { .name = "two", .scan = shrink_two };

Test(vmscan, shrinkers_take_turns)
{
	struct scan_control sc = SCAN_ALL(0);

	register_shrinker(&two);
	register_shrinker(&one);
	wants[0] = 3;
	wants[1] = 5;
	while (shrink_slice(&sc))
		;
	cr_assert_eq(slices[0], 3u);
	cr_assert_eq(slices[1], 5u);
	cr_assert_eq(cursors[0], 3u);
	cr_assert_geq(sc.nr_reclaimed, MIB(8));
}

Test(vmscan, a_pass_ends_when_it_has_enough)
{
	struct scan_control sc;

	register_shrinker(&two);
	register_shrinker(&one);
	cr_assert_geq(reclaimable_bytes(), MIB(80));
	cr_assert_leq(reclaimable_bytes(), MIB(82));
	wants[0] = 1000;
	cr_assert_leq(pass(&sc), 13u, "the next one comes soon");
	cr_assert_eq(slices[0], 10u, "an eighth of 80 MiB, by 1 MiB");
	cr_assert_eq(slices[1], 0u);
}

Test(vmscan, everything_at_once)
{
	size_t bytes, free;
	u64 stolen;

	take(NR, 0);
	register_shrinker(&two);
	register_shrinker(&one);
	wants[0] = 2;
	wants[1] = 3;
	kswapd_running = true;
	give(0, 2, NR, 0);
	stolen = global_vm_event(VM_pgsteal_direct);	/* growing has a share in it */
	bytes = try_to_free_pages(0);
	cr_assert_eq(slices[0], 2u);
	cr_assert_eq(slices[1], 3u);
	cr_assert_geq(bytes, MIB(5) + NR / 2 * PAGE_SIZE);
	cr_assert_eq(nr_pcp_pages(), 0u);
	cr_assert_eq(resident_free(), 0u);
	cr_assert_eq(global_vm_event(VM_pgsteal_direct) - stolen, bytes >> PAGE_SHIFT);
	wants[0] = wants[1] = slices[0] = slices[1] = 0;
	bytes = try_to_free_pages(0);
	cr_assert_eq(bytes, MIB(2), "what is at home is not counted again");
	give(1, 2, NR, 0);
	drain_all_pages();
	free = resident_free();
	slices[0] = slices[1] = 0;
	cr_assert_geq(free, MIB(7));
	bytes = try_to_free_pages(MIB(5));
	cr_assert_eq(bytes, MIB(2) + free - resident_free());
	cr_assert_geq(resident_free(), MIB(3));
	cr_assert_leq(resident_free(), MIB(5));
}

/* What malloc_trim() does with the gate open between the slices. */
Test(vmscan, trim_in_slices)
{
	struct scan_control sc;
	unsigned nr = 0;
	size_t free;

	take(48, 9);
	take(NR, 0);
	register_shrinker(&two);
	register_shrinker(&one);
	wants[0] = 3;
	wants[1] = 2;
	kswapd_running = true;
	give(0, 2, NR, 0);
	drain_all_pages();
	free = resident_free();
	trim_begin(&sc);
	while (trim_slice(&sc, MIB(1)))
		nr++;
	cr_assert_gt(nr, 6u);
	cr_assert_eq(slices[0], 3u);
	cr_assert_eq(slices[1], 2u);
	cr_assert_eq(trim_end(&sc, MIB(1)), MIB(5) + free - resident_free());
	cr_assert_leq(resident_free(), MIB(1));
	cr_assert_geq(resident_free(), MIB(1) / 2);
	trim_begin(&sc);
	while (trim_slice(&sc, SIZE_MAX))
		;
	cr_assert_eq(trim_end(&sc, SIZE_MAX), MIB(2), "caches go, free pages may all stay");
}

/* The kernel refuses locked memory: after a number of vain passes there are no more. */
Test(vmscan, locked_memory_is_given_up)
{
	struct scan_control sc;
	unsigned passes = 0;
	u32 ms;

	kmm_params.decay_ms = 10;
	take(16, 9);
	kswapd_running = true;
	for (unsigned i = 0; i < 16; i++)
		if (mlock(page_address(got[i]), PAGEBLOCK_SIZE) != 0)
			cr_skip_test("not allowed to lock memory");
	give(0, 1, 16, 9);
	while ((ms = pass(&sc)) != NEVER_MS) {
		sleep_ms(ms);
		cr_assert_lt(++passes, 100u);
	}
	cr_assert_geq(passes, 10u);
}

static unsigned nr_scans;

static bool count_scan(struct scan_control *sc)
{
	cr_assert_geq(sc->max_age_ms, 1u, "only what is old anyway");
	nr_scans++;
	return false;
}

/* Every other block is free, and none fits the next request: what is resident stays close to what is used. */
Test(vmscan, growth_past_blocks_that_do_not_fit)
{
	static struct shrinker counting = { .name = "counting", .scan = count_scan };
	u64 resident = 0, used = NR / 2 * 8;

	kmm_params.decay_ms = 3600000;
	take(NR, 3);
	give(0, 2, NR, 3);
	drain_all_pages();
	cr_assert_geq(resident_free(), used << PAGE_SHIFT);
	register_shrinker(&counting);
	for (unsigned i = 0; i < 500; i++) {
		cr_assert_not_null(alloc_pages(6, MIGRATE_MOVABLE));
		used += 64;
	}
	for (int z = 0; z < MAX_NR_ZONES; z++)
		resident += zones[z].present_pages - zones[z].reported_pages;
	cr_assert_leq(resident, used + used / 8, "%lu pages for %lu", resident, used);
	cr_assert_gt(nr_scans, 0u);
	cr_assert_lt(nr_scans, 8u, "not at every step");
	for (int z = 0; z < MAX_NR_ZONES; z++)
		buddy_validate(&zones[z]);
}

static u32 resident_blocks(unsigned order)
{
	u32 nr = 0;

	for (int z = 0; z < MAX_NR_ZONES; z++)
		for (pfn_t pfn = zones[z].free_area[order].free_list[MIGRATE_MOVABLE].head; pfn; pfn = pfn_to_page(pfn)->next)
			nr += pfn_to_page(pfn)->nr_resident == 1u << order;
	return nr;
}

/* As much as grew, not all that is free; and large blocks, of which there are too few, stay. */
Test(vmscan, growth_gives_back_what_grew)
{
	struct page *large[64];
	u64 before;
	u32 kept;

	kmm_params.decay_ms = 3600000;
	take(NR, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(large); i++) {
		large[i] = alloc_pages(5, MIGRATE_MOVABLE);
		memset(page_address(large[i]), 0x5a, PAGE_SIZE << 5);
	}
	give(0, 2, NR, 3);
	for (unsigned i = 0; i < ARRAY_SIZE(large); i += 2)
		free_pages(large[i], 5);
	drain_all_pages();
	kept = resident_blocks(5);
	cr_assert_geq(kept, ARRAY_SIZE(large) / 2 - 1);
	before = global_vm_event(VM_page_report);
	for (unsigned i = 0; i < 10; i++)
		cr_assert_not_null(alloc_pages(6, MIGRATE_MOVABLE));
	before = global_vm_event(VM_page_report) - before;
	cr_assert_geq(before, 5u * 64, "%lu pages", before);
	cr_assert_leq(before, 13u * 64, "%lu pages", before);
	cr_assert_eq(resident_blocks(5), kept);
}
