/* SPDX-License-Identifier: MIT */
/* buddy_test.c - split, merge, migrate types and the books, against a shadow map of every page. */
#include "page/mmzone.h"

#include "../boot.h"

#define TEST_PAGES ((u32)(MIB(32) >> PAGE_SHIFT))
#define NR_HELD	   400

static struct zone *const zone = &zones[ZONE_NORMAL];

/* One zone of 32 MiB that begins at a multiple of the largest block. */
static void boot(void)
{
	boot_pages(PERCPU_AUTO);
	mutex_lock(&zone->lock, LOCK_zone);
	cr_assert_eq(online_pages(zone, TEST_PAGES), 0);
	cr_assert_eq(zone->free_pages, TEST_PAGES);
}

TestSuite(buddy, .init = boot, .timeout = 120);

struct shadow {
	bool used[TEST_PAGES];
	bool resident[TEST_PAGES];	/* was freed as resident */
	u32 nr_used;
};
static struct shadow shadow;

static u32 shadow_index(pfn_t pfn, u32 nr)
{
	cr_assert_geq(pfn, zone->start_pfn);
	cr_assert_leq(pfn + nr, zone->end_pfn);
	return pfn - zone->start_pfn;
}

static void shadow_take(pfn_t pfn, u32 nr, u32 absent)
{
	u32 at = shadow_index(pfn, nr), nr_resident = 0;

	for (u32 i = at; i < at + nr; i++) {
		cr_assert_not(shadow.used[i], "page %u is handed out twice", i);
		nr_resident += shadow.resident[i];
		shadow.used[i] = true;
	}
	cr_assert_eq(nr - absent, nr_resident, "pages that are not resident are counted exactly");
	shadow.nr_used += nr;
}

static void shadow_give(pfn_t pfn, u32 nr, bool reported)
{
	u32 at = shadow_index(pfn, nr);

	for (u32 i = at; i < at + nr; i++) {
		cr_assert(shadow.used[i]);
		shadow.used[i] = false;
		shadow.resident[i] = !reported;
	}
	shadow.nr_used -= nr;
}

static void check_books(void)
{
	u32 nr_resident = 0;

	cr_assert_eq(zone->free_pages, TEST_PAGES - shadow.nr_used);
	for (u32 i = 0; i < TEST_PAGES; i++)
		nr_resident += !shadow.used[i] && shadow.resident[i];
	cr_assert_eq(zone->free_pages - zone->reported_pages, nr_resident, "what is resident is known page by page");
	buddy_validate(zone);
}

static u32 blocks_of_order(unsigned order)
{
	u32 nr = 0;

	for (int mt = 0; mt < MIGRATE_TYPES; mt++)
		nr += zone->free_area[order].free_list[mt].nr;
	return nr;
}

struct held {
	pfn_t pfn;
	u32 nr;
};

static void free_held(struct held *h, u64 *r)
{
	bool reported = rng_below(r, 3) == 0;
	u32 stamp = (u32)rng_next(r);

	__free_range(zone, h->pfn, h->nr, stamp, reported);
	shadow_give(h->pfn, h->nr, reported);
	h->pfn = 0;
}

static void alloc_held(struct held *h, u64 *r)
{
	unsigned order = rng_below(r, 8) ? rng_below(r, 6) : rng_below(r, MAX_PAGE_ORDER + 1);
	u32 absent, keep;

	h->nr = rng_below(r, 4) ? 1u << order : 1 + rng_below(r, 1u << order);
	h->pfn = __rmqueue_exact(zone, h->nr, order, (enum migratetype)rng_below(r, MIGRATE_TYPES), &absent);
	if (!h->pfn)
		return;
	cr_assert(IS_ALIGNED(h->pfn, 1u << order));
	cr_assert_eq(pfn_to_page(h->pfn)->flags, 0);
	shadow_take(h->pfn, h->nr, absent);
	if (h->nr > 1 && rng_below(r, 4) == 0) {	/* its end goes back at once */
		bool blank = absent == h->nr;

		keep = 1 + rng_below(r, h->nr - 1);
		__free_range(zone, h->pfn + keep, h->nr - keep, 5, blank);
		shadow_give(h->pfn + keep, h->nr - keep, blank);
		h->nr = keep;
	}
}

static void random_run(u64 stream)
{
	static struct held held[NR_HELD];
	u32 initial[NR_PAGE_ORDERS];
	u64 r = rng_of(stream);

	for (unsigned o = 0; o < NR_PAGE_ORDERS; o++)
		initial[o] = blocks_of_order(o);
	for (unsigned n = 0; n < rounds(20000); n++) {
		struct held *h = &held[rng_below(&r, NR_HELD)];

		h->pfn ? free_held(h, &r) : alloc_held(h, &r);
		if (n % 64 == 0)
			check_books();
	}
	for (unsigned i = 0; i < NR_HELD; i++)
		if (held[i].pfn)
			free_held(&held[i], &r);
	check_books();
	cr_assert_eq(shadow.nr_used, 0u);
	for (unsigned o = 0; o < PAGEBLOCK_ORDER; o++)
		cr_assert_eq(blocks_of_order(o), initial[o], "everything merged again: order %u", o);
	cr_assert_eq(zone->free_pages, TEST_PAGES);
}

Test(buddy, random_against_shadow_1) { random_run(1); }
Test(buddy, random_against_shadow_2) { random_run(2); }
Test(buddy, random_against_shadow_3) { random_run(3); }

Test(buddy, splits_to_the_lowest_address)
{
	u32 absent = 0;
	pfn_t pfn = __rmqueue(zone, 0, MIGRATE_MOVABLE, &absent);

	cr_assert_eq(pfn, zone->start_pfn);
	cr_assert_eq(absent, 1u, "fresh memory reads as zeroes");
	for (unsigned o = 0; o < 13; o++)
		cr_assert_eq(blocks_of_order(o), 1u, "one upper half of each order");
	__free_range(zone, pfn, 1u << 0, 1, false);
	cr_assert_eq(blocks_of_order(8), 0u);
	cr_assert_eq(blocks_of_order(9), 2u);
	cr_assert_eq(zone->reported_pages, TEST_PAGES - 1u, "merged with a resident page, the others are what they were");
	cr_assert_eq(oldest_resident(&zone->free_area[9].free_list[MIGRATE_MOVABLE]), pfn, "but reclaim has a look at the block");
	buddy_validate(zone);
}

/* Pieces of a block in which one page is resident: cut and merged, it stays that page. */
Test(buddy, one_resident_page_among_others)
{
	u32 absent;
	pfn_t pfn = __rmqueue(zone, 5, MIGRATE_MOVABLE, &absent), hot = pfn + 13;

	__free_range(zone, pfn, 1u << 5, 1, true);
	__take_block(zone, pfn, 5);
	__free_range(zone, hot, 1, 7, false);
	__free_range(zone, pfn, 13, 1, true);
	__free_range(zone, hot + 1, 32 - 14, 1, true);
	cr_assert_eq(zone->reported_pages, TEST_PAGES - 1u);
	cr_assert_eq(__rmqueue_exact(zone, 11, 4, MIGRATE_MOVABLE, &absent), pfn);
	cr_assert_eq(absent, 11u, "its beginning is not");
	cr_assert_eq(__rmqueue(zone, 1, MIGRATE_MOVABLE, &absent), hot - 1, "a page that costs no fault comes first");
	cr_assert_eq(absent, 1u);
	cr_assert_eq(zone->reported_pages, zone->free_pages);
	buddy_validate(zone);
}

/* Beyond pageblocks, what is reported and what is resident stay apart until the latter is reported as well. */
Test(buddy, large_reported_blocks_stay_reported)
{
	u32 absent;
	pfn_t pfn = __rmqueue(zone, 9, MIGRATE_MOVABLE, &absent);

	__free_range(zone, pfn, 1u << 9, 1, false);
	cr_assert_eq(zone->reported_pages, TEST_PAGES - 512u);
	buddy_validate(zone);
	cr_assert_eq(oldest_resident(&zone->free_area[9].free_list[MIGRATE_MOVABLE]), pfn);
	__take_block(zone, pfn, 9);
	cr_assert_eq(oldest_resident(&zone->free_area[9].free_list[MIGRATE_MOVABLE]), 0u);
	__free_range(zone, pfn, 1u << 9, 1, true);
	cr_assert_eq(blocks_of_order(13), 1u);
	cr_assert_eq(zone->reported_pages, TEST_PAGES);
	buddy_validate(zone);
}

Test(buddy, take_a_part_of_a_block)
{
	u32 absent;
	pfn_t pfn = __rmqueue(zone, 13, MIGRATE_MOVABLE, &absent);

	__free_range(zone, pfn, 1u << 13, 77, false);
	__take_block(zone, pfn, 4);
	for (unsigned o = 4; o < 13; o++)
		cr_assert_eq(blocks_of_order(o), 1u);
	cr_assert_eq(zone->free_pages, TEST_PAGES - 16u);
	cr_assert_eq(zone->reported_pages, 0u);
	cr_assert_eq(pfn_to_page(pfn + 16)->stamp_ms, 77u, "the rest is as old as it was");
	__free_range(zone, pfn, 1u << 4, 1, false);
	cr_assert_eq(blocks_of_order(13), 1u);
	buddy_validate(zone);
}

Test(buddy, resident_before_reported)
{
	u32 absent;
	pfn_t a = __rmqueue(zone, 3, MIGRATE_MOVABLE, &absent), b = __rmqueue(zone, 3, MIGRATE_MOVABLE, &absent);
	pfn_t c = __rmqueue(zone, 3, MIGRATE_MOVABLE, &absent), d = __rmqueue(zone, 3, MIGRATE_MOVABLE, &absent);

	__free_range(zone, a, 1u << 3, 1, true);
	__free_range(zone, c, 1u << 3, 1, false);
	cr_assert_eq(__rmqueue(zone, 3, MIGRATE_MOVABLE, &absent), c, "what costs no page fault comes first");
	cr_assert_eq(absent, 0u);
	cr_assert_eq(__rmqueue(zone, 3, MIGRATE_MOVABLE, &absent), a);
	cr_assert_eq(absent, 8u);
	cr_assert(b && d);
}

Test(buddy, order_too_large)
{
	u32 absent;

	cr_assert_eq(__rmqueue(zone, MAX_PAGE_ORDER, MIGRATE_MOVABLE, &absent), 0u);
	cr_assert_neq(__rmqueue(zone, 13, MIGRATE_MOVABLE, &absent), 0u);
	cr_assert_eq(zone->free_pages, 0u);
	cr_assert_eq(__rmqueue(zone, 0, MIGRATE_UNMOVABLE, &absent), 0u);
}

/* The first unmovable page takes a whole pageblock; later ones come from there, not from among the movable. */
Test(buddy, types_keep_apart)
{
	u64 nr[MIGRATE_TYPES];
	u32 absent;
	pfn_t first, pfn;

	for (int i = 0; i < 100; i++)
		__rmqueue(zone, 0, MIGRATE_MOVABLE, &absent);
	first = __rmqueue(zone, 0, MIGRATE_UNMOVABLE, &absent);
	cr_assert_neq(first, 0u);
	for (int i = 1; i < 512; i++) {
		pfn = __rmqueue(zone, 0, MIGRATE_UNMOVABLE, &absent);
		cr_assert_eq(pfn >> PAGEBLOCK_ORDER, first >> PAGEBLOCK_ORDER);
		pfn = __rmqueue(zone, 0, MIGRATE_MOVABLE, &absent);
		cr_assert_neq(pfn >> PAGEBLOCK_ORDER, first >> PAGEBLOCK_ORDER);
	}
	cr_assert_eq(get_pageblock_migratetype(first), MIGRATE_UNMOVABLE);
	count_pageblocks(zone, nr);
	cr_assert_eq(nr[MIGRATE_UNMOVABLE], 1u);
	cr_assert_eq(nr[MIGRATE_MOVABLE], TEST_PAGES / 512 - 1);
	cr_assert_eq(nr[MIGRATE_RECLAIMABLE], 0u);
	buddy_validate(zone);
}

Test(buddy, block_of_several_pageblocks_changes_them_all)
{
	u64 nr[MIGRATE_TYPES];
	u32 absent;
	pfn_t pfn = __rmqueue(zone, 11, MIGRATE_RECLAIMABLE, &absent);

	cr_assert_neq(pfn, 0u);
	count_pageblocks(zone, nr);
	cr_assert_eq(nr[MIGRATE_RECLAIMABLE], 4u);
	__free_range(zone, pfn, 1u << 11, 1, true);
	cr_assert_eq(blocks_of_order(13), 1u, "types do not hinder merging");
	buddy_validate(zone);
}

/* The last memory of another type is better than none. */
Test(buddy, fallback_to_the_last_page)
{
	u32 absent;
	u32 nr = 0;

	for (unsigned mt = 0; __rmqueue(zone, 0, (enum migratetype)mt, &absent); mt = (mt + 1) % MIGRATE_TYPES) {
		nr++;
		if (nr % 256 == 0)
			buddy_validate(zone);
	}
	cr_assert_eq(nr, TEST_PAGES);
	cr_assert_eq(zone->free_pages, 0u);
	__free_range(zone, zone->start_pfn, TEST_PAGES, 1, false);
	cr_assert_eq(blocks_of_order(13), 1u);
}

/* A hole in the middle: its pages have no flags and do not merge. */
Test(buddy, zone_ends_and_holes_do_not_merge)
{
	u32 absent;
	pfn_t pfn = __rmqueue(zone, 13, MIGRATE_MOVABLE, &absent);

	__free_range(zone, pfn + 1, 998, 1, false);
	__free_range(zone, pfn + 1001, 1023, 1, false);
	cr_assert_eq(zone->free_pages, 998u + 1023);
	buddy_validate(zone);
	for (u32 n = zone->free_pages; n; n--)
		cr_assert_neq(__rmqueue(zone, 0, MIGRATE_MOVABLE, &absent), 0u);
	cr_assert_eq(zone->free_pages, 0u);
}

Test(buddy, stamp_is_the_last_frees)
{
	u32 absent;
	pfn_t a = __rmqueue(zone, 12, MIGRATE_MOVABLE, &absent), b = __rmqueue(zone, 12, MIGRATE_MOVABLE, &absent);

	__free_range(zone, a, 1u << 12, 100, false);
	__free_range(zone, b, 1u << 12, 200, false);
	cr_assert_eq(pfn_to_page(a)->stamp_ms, 200u);
	cr_assert_eq(__rmqueue(zone, 3, MIGRATE_MOVABLE, &absent), a);
	cr_assert_eq(pfn_to_page(a + (1u << 12))->stamp_ms, 200u, "the halves keep their age");
	cr_assert_eq(pfn_to_page(a + 8)->stamp_ms, 200u);
}

/* What is not resident, or has been free for long, and comes to lie beside what was freed later. */
Test(buddy, the_youngest_resident_part_tells_the_age)
{
	static const struct { u32 stamp[3]; bool reported[3]; u32 want; } cases[] = {
		{ { 100, 0, 0 }, { false, true, true }, 100 },
		{ { 100, 300, 0 }, { false, false, true }, 300 },
		{ { 300, 100, 50 }, { false, false, true }, 300 },
		{ { 300, 100, 200 }, { false, false, false }, 300 },
		{ { 5, UINT32_MAX - 5, 0 }, { false, false, true }, 5 },	/* the clock went round */
	};
	u32 absent;
	pfn_t p = __rmqueue(zone, 6, MIGRATE_MOVABLE, &absent);	/* the other half is not freed */

	for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
		for (unsigned last = 0; last < 3; last++) {	/* that in the middle or at an end comes last */
			static const u32 from[] = { 0, 8, 16 }, nr[] = { 8, 8, 16 };

			for (unsigned part = 0; part < 3; part++)
				if (part != last)
					__free_range(zone, p + from[part], nr[part], cases[i].stamp[part], cases[i].reported[part]);
			__free_range(zone, p + from[last], nr[last], cases[i].stamp[last], cases[i].reported[last]);
			cr_assert(pfn_to_page(p)->flags & PG_buddy);
			cr_assert_eq(pfn_to_page(p)->stamp_ms, cases[i].want, "case %u, part %u last: %u", i, last, pfn_to_page(p)->stamp_ms);
			__take_block(zone, p, 5);
		}
	}
}

/* --- the validator finds what is wrong ----------------------------------------------------------------------- */

static pfn_t some_free_block(void)
{
	u32 absent;

	__rmqueue(zone, 0, MIGRATE_MOVABLE, &absent);
	return zone->free_area[4].free_list[MIGRATE_MOVABLE].head;
}

Test(buddy, validator_finds_a_lost_flag, .signal = SIGABRT)
{
	pfn_to_page(some_free_block())->flags = 0;
	buddy_validate(zone);
}

Test(buddy, validator_finds_a_wrong_order, .signal = SIGABRT)
{
	pfn_to_page(some_free_block())->order = 5;
	buddy_validate(zone);
}

Test(buddy, validator_finds_a_torn_list, .signal = SIGABRT)
{
	pfn_to_page(some_free_block())->prev = 77;
	buddy_validate(zone);
}

Test(buddy, validator_finds_a_wrong_sum, .signal = SIGABRT)
{
	some_free_block();
	zone->free_pages++;
	buddy_validate(zone);
}

Test(buddy, validator_finds_a_wrong_reported_sum, .signal = SIGABRT)
{
	zone->reported_pages--;
	buddy_validate(zone);
}

Test(buddy, validator_finds_a_block_not_called_reported, .signal = SIGABRT)
{
	pfn_to_page(some_free_block())->flags &= (u16)~PG_reported;
	buddy_validate(zone);
}

Test(buddy, validator_finds_a_wrong_number_of_resident_pages, .signal = SIGABRT)
{
	pfn_to_page(some_free_block())->nr_resident++;
	buddy_validate(zone);
}

Test(buddy, validator_finds_a_resident_page_that_is_not_counted, .signal = SIGABRT)
{
	direct_map.map[some_free_block() + 1] = make_map_entry(0, 0, 1);
	buddy_validate(zone);
}

Test(buddy, validator_finds_buddies_that_did_not_merge, .signal = SIGABRT)
{
	pfn_t pfn = some_free_block();

	__del_from_free_list(zone, pfn);
	/* Freed as two halves that do not see each other. */
	pfn_to_page(pfn)->flags = 0;
	__free_range(zone, pfn, 1u << 3, 1, false);
	pfn_to_page(pfn)->flags = PG_isolated;
	__free_range(zone, pfn + 8, 1u << 3, 1, false);
	pfn_to_page(pfn)->flags = PG_buddy;
	buddy_validate(zone);
}
