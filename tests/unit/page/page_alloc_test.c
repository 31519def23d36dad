/* SPDX-License-Identifier: MIT */
/* page_alloc_test.c - pages by order and by number, per-CPU lists, growth, want of memory, threads. */
#include "page/page_alloc.h"

#include "../boot.h"
#include "page/percpu.h"
#include "page/reclaim.h"
#include "page/vmstat.h"

static void boot(void)
{
	boot_pages(PERCPU_AUTO);
	cr_assert_eq(percpu_online(3), 0);
}

TestSuite(page_alloc, .init = boot, .timeout = 120);

static u64 managed(void)
{
	return zones[ZONE_BRK].managed_pages + zones[ZONE_NORMAL].managed_pages;
}

static void validate(void)
{
	for (int z = 0; z < MAX_NR_ZONES; z++) {
		mutex_lock(&zones[z].lock, LOCK_zone);
		buddy_validate(&zones[z]);
		mutex_unlock(&zones[z].lock, LOCK_zone);
	}
}

static void one_pass(unsigned z, u32 deep_age_ms)
{
	struct scan_control sc = SCAN_ALL((u32)os_clock_ms());

	sc.deep_age_ms = deep_age_ms;
	while (page_report(&zones[z], &sc))
		;
}

/* Whatever is not held is free or on a per-CPU list. */
static void check_books(u64 held)
{
	validate();
	cr_assert_eq(nr_free_pages() + nr_pcp_pages() + held, managed());
}

/* Every page of a block says whose it is. */
static void write_tags(struct page *page, u32 nr, u64 tag)
{
	for (u32 i = 0; i < nr; i++) {
		u64 *w = page_address(page + i);

		w[0] = w[511] = tag + i;
	}
}

static void check_tags(struct page *page, u32 nr, u64 tag)
{
	for (u32 i = 0; i < nr; i++) {
		u64 *w = page_address(page + i);

		CHECK(w[0] == tag + i && w[511] == tag + i);
	}
}

Test(page_alloc, every_order_is_naturally_aligned)
{
	u64 held = 0;

	for (unsigned round = 0; round < 3; round++) {
		for (unsigned order = 0; order <= 10; order++) {
			struct page *page = alloc_pages(order, (enum migratetype)(round % MIGRATE_TYPES));

			cr_assert_not_null(page, "order %u", order);
			cr_assert(IS_ALIGNED(page_to_pfn(page), 1u << order));
			if (order <= PAGEBLOCK_ORDER)
				cr_assert(IS_ALIGNED((uintptr_t)page_address(page), PAGE_SIZE << order));
			cr_assert(virt_addr_valid(page_address(page)));
			cr_assert(virt_addr_valid((char *)page_address(page) + (PAGE_SIZE << order) - 1));
			write_tags(page, 1u << order, held << 32);
			held += 1u << order;
		}
	}
	check_books(held);
	cr_assert_null(alloc_pages(MAX_PAGE_ORDER + 1, MIGRATE_MOVABLE));
}

/* The largest orders, again and again: memory that comes online must hold an aligned block of what was asked for. */
Test(page_alloc, the_largest_orders)
{
	for (unsigned order = MAX_PAGE_ORDER; order > PAGEBLOCK_ORDER; order--) {
		for (int i = 0; i < 4; i++) {
			struct page *page = alloc_pages(order, MIGRATE_UNMOVABLE);

			cr_assert_not_null(page, "order %u, block %d", order, i);
			cr_assert(IS_ALIGNED(page_to_pfn(page), 1u << order));
			cr_assert_not_null(alloc_pages_exact(800, 0, MIGRATE_UNMOVABLE, NULL));
		}
	}
	validate();
}

/* --- exact ---------------------------------------------------------------------------------------------------- */

Test(page_alloc, exact_costs_what_it_says)
{
	drain_all_pages();
	for (u32 nr = 1; nr < 700; nr += 1 + nr / 16) {
		for (unsigned align = 0; align <= PAGEBLOCK_ORDER; align += 3) {
			struct page *page = alloc_pages_exact(nr, align, MIGRATE_RECLAIMABLE, NULL);

			cr_assert_not_null(page);
			cr_assert(IS_ALIGNED((uintptr_t)page_address(page), PAGE_SIZE << align));
			write_tags(page, nr, nr);
			check_books(nr);
			check_tags(page, nr, nr);
			free_pages_exact(page, nr);
			check_books(0);
		}
	}
}

Test(page_alloc, trim_gives_back_the_tail)
{
	struct page *page = alloc_pages_exact(300, 0, MIGRATE_RECLAIMABLE, NULL);

	write_tags(page, 300, 1);
	trim_pages_exact(page, 300, 300);
	check_books(300);
	trim_pages_exact(page, 300, 77);
	check_books(77);
	check_tags(page, 77, 1);
	trim_pages_exact(page, 77, 1);
	check_books(1);
	free_pages_exact(page, 1);
	check_books(0);
	drain_all_pages();
	cr_assert_eq(nr_free_pages(), managed());
}

Test(page_alloc, exact_refuses_the_absurd)
{
	cr_assert_null(alloc_pages_exact(UINT32_MAX, 0, MIGRATE_MOVABLE, NULL));
	cr_assert_null(alloc_pages_exact((1u << MAX_PAGE_ORDER) + 1, 0, MIGRATE_MOVABLE, NULL));
	cr_assert_null(alloc_pages_exact(1, MAX_PAGE_ORDER + 1, MIGRATE_MOVABLE, NULL));
	check_books(0);
}

/* --- random, against what each block holds -------------------------------------------------------------------- */

enum { NR_BLOCKS = 300 };

struct block {
	struct page *page;
	u32 nr;
	u64 tag;
	bool by_order;
};

static void check_zero(struct page *page, u32 nr)
{
	const u64 *w = page_address(page);

	for (size_t i = 0; i < nr * (PAGE_SIZE / 8); i++)
		CHECK(w[i] == 0);
}

static bool random_alloc(struct block *b, u64 *r)
{
	enum migratetype mt = (enum migratetype)rng_below(r, MIGRATE_TYPES);
	unsigned order = rng_below(r, 8) ? rng_below(r, 6) : rng_below(r, 11);
	bool zeroed = false;

	b->tag = rng_next(r);
	b->by_order = rng_below(r, 2);
	if (b->by_order) {
		b->nr = 1u << order;
		b->page = alloc_pages(order, mt);
	} else {
		b->nr = 1 + rng_below(r, rng_below(r, 4) ? 30 : 600);
		b->page = alloc_pages_exact(b->nr, rng_below(r, 4), mt, &zeroed);
	}
	if (!b->page)
		return false;
	if (zeroed)
		check_zero(b->page, b->nr);
	write_tags(b->page, b->nr, b->tag);
	return true;
}

static void release(struct block *b)
{
	check_tags(b->page, b->nr, b->tag);
	if (b->by_order)
		free_pages(b->page, get_order(b->nr));
	else
		free_pages_exact(b->page, b->nr);
	b->page = NULL;
}

static void random_run(u64 stream, unsigned nr_rounds, bool faults)
{
	static struct block blocks[NR_BLOCKS];
	u64 r = rng_of(stream), held = 0;
	unsigned failed = 0;

	for (unsigned n = 0; n < nr_rounds; n++) {
		struct block *b = &blocks[rng_below(&r, NR_BLOCKS)];

		if (n % 64 == 0 && faults)
			os_fault_every = rng_below(&r, 4);
		if (b->page) {
			held -= b->nr;
			release(b);
		} else if (random_alloc(b, &r)) {
			held += b->nr;
		} else {
			failed++;
		}
		if (n % 256 == 0)
			check_books(held);
		if (n % 512 == 100)
			one_pass(rng_below(&r, 2), rng_below(&r, 2) ? 0 : NEVER_MS);
		if (n % 1024 == 200)
			brk_trim(rng_below(&r, 2) ? 0 : KIB(100));
		if (n % 128 == 50)
			drain_pages(rng_below(&r, 4));
	}
	os_fault_every = 0;
	for (unsigned i = 0; i < NR_BLOCKS; i++)
		if (blocks[i].page)
			release(&blocks[i]);
	check_books(0);
	drain_all_pages();
	cr_assert_eq(nr_pcp_pages(), 0u);
	cr_assert_eq(nr_free_pages(), managed());
	cr_assert(faults || !failed);
	cr_assert_gt(zones[ZONE_NORMAL].present_pages, 0u, "it has grown beyond the break");
}

Test(page_alloc, random_1) { random_run(1, rounds(4000), false); }
Test(page_alloc, random_2) { random_run(2, rounds(4000), false); }
Test(page_alloc, random_with_faults) { random_run(3, rounds(6000), true); }

/* The kernel refuses everything: what is there is used up to the last page, then NULL, then all comes back. */
Test(page_alloc, nothing_more_from_the_kernel)
{
	static struct page *got[4096];
	u64 have = managed();
	u32 nr = 0;

	os_fault_every = 1;
	while ((got[nr] = alloc_pages(0, (enum migratetype)(nr % MIGRATE_TYPES))) != NULL)
		cr_assert_lt(++nr, 4096u);
	cr_assert_eq(nr, have, "not a page is left");
	cr_assert_eq(managed(), have);
	cr_assert_null(alloc_pages_exact(3, 0, MIGRATE_MOVABLE, NULL));
	while (nr)
		free_pages(got[--nr], 0);
	check_books(0);
	cr_assert_not_null(alloc_pages(3, MIGRATE_MOVABLE), "what lies on per-CPU lists is found");
}

/* --- per-CPU lists ------------------------------------------------------------------------------------------- */

Test(page_alloc, lists_are_bounded_and_drained)
{
	static struct page *got[2000];
	u64 hits;

	for (int i = 0; i < 2000; i++)
		got[i] = alloc_pages(0, MIGRATE_MOVABLE);
	hits = global_vm_event(VM_pcp_hit);
	cr_assert_gt(hits, 1700u, "most come from the list");
	for (int i = 0; i < 2000; i++) {
		free_pages(got[i], 0);
		cr_assert_leq(nr_pcp_pages(), 4u * 97);
	}
	cr_assert_gt(nr_pcp_pages(), 0u);
	for (unsigned cpu = 0; cpu < nr_percpu_areas(); cpu++) {
		drain_pages(cpu);
		cr_assert_eq(pcpu_of(cpu)->pcp.count, 0u);
	}
	check_books(0);
	cr_assert_eq(nr_free_pages(), managed());
}

static void watermarks_now(struct zone *zone)
{
	mutex_lock(&zone->lock, LOCK_zone);
	setup_per_zone_wmarks(zone);
	mutex_unlock(&zone->lock, LOCK_zone);
	cr_assert_gt(zone->watermark[WMARK_MIN], 0u);
	cr_assert_lt(zone->watermark[WMARK_LOW], zone->watermark[WMARK_HIGH]);
	cr_assert_lt(zone->watermark[WMARK_HIGH], zone->managed_pages / 8);
}

Test(page_alloc, watermarks_follow_what_is_resident)
{
	struct zone *zone = &zones[ZONE_NORMAL];
	struct page *got[30];

	for (int i = 0; i < 30; i++)
		got[i] = alloc_pages(10, MIGRATE_MOVABLE);
	watermarks_now(zone);
	cr_assert_gt(zone->watermark[WMARK_LOW], KIB(512) >> PAGE_SHIFT);
	for (int i = 1; i < 30; i++)
		free_pages(got[i], 10);
	try_to_free_pages(0);
	watermarks_now(zone);
	cr_assert_eq(zone->watermark[WMARK_LOW], KIB(256) >> PAGE_SHIFT, "it keeps no more than the least");
}

/* --- threads -------------------------------------------------------------------------------------------------- */

static u64 thread_failed;

static void *page_user(void *arg)
{
	static struct block all[MAX_THREADS][64];
	struct block *blocks = all[(uintptr_t)arg];
	u64 r = rng_of(100 + (uintptr_t)arg);

	for (unsigned n = 0; n < rounds(3000); n++) {
		struct block *b = &blocks[rng_below(&r, 64)];

		if (b->page)
			release(b);
		else if (!random_alloc(b, &r))
			__atomic_add_fetch(&thread_failed, 1, __ATOMIC_RELAXED);
		switch (rng_below(&r, 200)) {
		case 0:
			pin_to(rng_below(&r, 64));
			break;
		case 1:
			drain_all_pages();
			break;
		case 2:
			one_pass(rng_below(&r, 2), 0);
			break;
		case 3:
			brk_trim(0);
			break;
		case 4:
			validate();
			break;
		}
	}
	for (unsigned i = 0; i < 64; i++)
		if (blocks[i].page)
			release(&blocks[i]);
	return NULL;
}

Test(page_alloc, threads)
{
	run_threads(4, page_user);
	cr_assert_eq(thread_failed, 0u);
	check_books(0);
	drain_all_pages();
	cr_assert_eq(nr_free_pages(), managed());
}
