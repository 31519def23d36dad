/* SPDX-License-Identifier: MIT */
/*
 * buddy.c - the binary buddy of one zone.
 *
 * Purpose. Finds, splits and merges naturally aligned blocks of 2^order pages. Everything here is called with
 * zone->lock held and touches nothing but struct page and the zone.
 *
 * Objects. free_area[order].free_list[migrate type], a doubly linked list of pfns through struct page. Resident
 * blocks stand at the head, reported ones (given back to the kernel, or never touched) at the tail: memory that
 * costs no page fault is reused first.
 *
 * Invariants. A free block's first page has PG_buddy, its order, its list's migrate type; no two free buddies of the
 * same order exist (they would have merged; but see reported below); free_pages and reported_pages are the sums.
 *
 * Reported blocks. Merging a reported block with a resident one gives a block that is not reported: it will be
 * advised again some day, which costs little for pages that are not there.
 *
 * Migrate types. A pageblock (2 MiB) has a type; a free page goes to the list of its pageblock's type. A request
 * that finds its lists empty takes the largest block of another type, and the whole pageblock's type with it when
 * the block is at least half of one (kernel: steal_suitable_fallback).
 *
 * Kernel counterpart. mm/page_alloc.c: __rmqueue, __free_one_page, expand. Knowlton 1965 for the algorithm.
 */
#include "page/mmzone.h"

#include "page/vmstat.h"

const char *const migratetype_names[MIGRATE_TYPES] = {
	[MIGRATE_MOVABLE] = "Movable",
	[MIGRATE_UNMOVABLE] = "Unmovable",
	[MIGRATE_RECLAIMABLE] = "Reclaimable",
};

/* Where a type looks when its own lists are empty. */
static const u8 fallbacks[MIGRATE_TYPES][MIGRATE_TYPES - 1] = {
	[MIGRATE_MOVABLE] = { MIGRATE_RECLAIMABLE, MIGRATE_UNMOVABLE },
	[MIGRATE_UNMOVABLE] = { MIGRATE_RECLAIMABLE, MIGRATE_MOVABLE },
	[MIGRATE_RECLAIMABLE] = { MIGRATE_UNMOVABLE, MIGRATE_MOVABLE },
};

static struct page *pageblock_page(pfn_t pfn)
{
	return pfn_to_page(ALIGN_DOWN(pfn, 1u << PAGEBLOCK_ORDER));
}

enum migratetype get_pageblock_migratetype(pfn_t pfn)
{
	return (enum migratetype)pageblock_page(pfn)->pageblock_mt;
}

void set_pageblock_migratetype(pfn_t pfn, enum migratetype mt)
{
	pageblock_page(pfn)->pageblock_mt = mt & 0xf;
}

static void add_to_free_list(struct zone *zone, pfn_t pfn, unsigned order, enum migratetype mt, bool reported)
{
	struct free_list *list = &zone->free_area[order].free_list[mt];
	struct page *page = pfn_to_page(pfn);

	page->flags = PG_buddy | (reported ? PG_reported : 0);
	page->order = (u8)order;
	page->migratetype = mt & 0xf;
	if (reported) {
		page->next = 0;
		page->prev = list->tail;
		*(list->tail ? &pfn_to_page(list->tail)->next : &list->head) = pfn;
		list->tail = pfn;
		zone->reported_pages += 1u << order;
	} else {
		page->prev = 0;
		page->next = list->head;
		*(list->head ? &pfn_to_page(list->head)->prev : &list->tail) = pfn;
		list->head = pfn;
	}
	list->nr++;
	zone->free_pages += 1u << order;
}

void __del_from_free_list(struct zone *zone, pfn_t pfn)
{
	struct page *page = pfn_to_page(pfn);
	struct free_list *list = &zone->free_area[page->order].free_list[page->migratetype];

	VM_BUG_ON(!(page->flags & PG_buddy));
	*(page->prev ? &pfn_to_page(page->prev)->next : &list->head) = page->next;
	*(page->next ? &pfn_to_page(page->next)->prev : &list->tail) = page->prev;
	list->nr--;
	zone->free_pages -= 1u << page->order;
	if (page->flags & PG_reported)
		zone->reported_pages -= 1u << page->order;
	page->flags = 0;
}

/* Halves a block of order high down to order low; the upper halves are freed. Kernel: expand(). */
static void expand(struct zone *zone, pfn_t pfn, unsigned low, unsigned high, enum migratetype mt, bool reported)
{
	u32 stamp = pfn_to_page(pfn)->stamp_ms;

	while (high > low) {
		pfn_t upper = pfn + (1u << --high);

		pfn_to_page(upper)->stamp_ms = stamp;
		add_to_free_list(zone, upper, high, mt, reported);
	}
}

static pfn_t take_block(struct zone *zone, pfn_t pfn, unsigned order, enum migratetype mt, bool *reported)
{
	struct page *page = pfn_to_page(pfn);
	unsigned high = page->order;

	*reported = page->flags & PG_reported;
	__del_from_free_list(zone, pfn);
	expand(zone, pfn, order, high, mt, *reported);
	return pfn;
}

/* Takes the largest block of another type; converts pageblocks when it is worth it. */
static pfn_t rmqueue_fallback(struct zone *zone, unsigned order, enum migratetype mt, bool *reported)
{
	for (int o = MAX_PAGE_ORDER; o >= (int)order; o--) {
		for (int i = 0; i < MIGRATE_TYPES - 1; i++) {
			enum migratetype other = (enum migratetype)fallbacks[mt][i];
			pfn_t pfn = zone->free_area[o].free_list[other].head;

			if (!pfn)
				continue;
			count_vm_event(VM_pgsteal_fallback);
			if (o < PAGEBLOCK_ORDER - 1)
				return take_block(zone, pfn, order, other, reported);
			/* What is taken and not used stays of the old type unless its pageblock changed hands. */
			if (o <= PAGEBLOCK_ORDER) {
				set_pageblock_migratetype(pfn, mt);
				count_vm_event(VM_pageblock_convert);
				return take_block(zone, pfn, order, mt, reported);
			}
			unsigned keep = max(order, (unsigned)PAGEBLOCK_ORDER);

			pfn = take_block(zone, pfn, keep, other, reported);
			for (u32 n = 0; n < 1u << keep; n += 1u << PAGEBLOCK_ORDER)
				set_pageblock_migratetype(pfn + n, mt);
			count_vm_event(VM_pageblock_convert);
			expand(zone, pfn, order, keep, mt, *reported);
			return pfn;
		}
	}
	return 0;
}

pfn_t __rmqueue(struct zone *zone, unsigned order, enum migratetype mt, bool *reported)
{
	for (unsigned o = order; o <= MAX_PAGE_ORDER; o++) {
		pfn_t pfn = zone->free_area[o].free_list[mt].head;

		if (pfn)
			return take_block(zone, pfn, order, mt, reported);
	}
	return rmqueue_fallback(zone, order, mt, reported);
}

static bool page_is_buddy(pfn_t pfn, unsigned order)
{
	const struct page *page = pfn_to_page(pfn);

	return page->flags & PG_buddy && page->order == order;
}

void __free_one_page(struct zone *zone, pfn_t pfn, unsigned order, u32 stamp_ms, bool reported)
{
	while (order < MAX_PAGE_ORDER) {
		pfn_t buddy = pfn ^ 1u << order;

		/* Both zones end at 2 MiB boundaries of the window; larger blocks must not span the gap. */
		if (buddy < zone->start_pfn || buddy >= zone->end_pfn || !page_is_buddy(buddy, order))
			break;
		reported = reported && pfn_to_page(buddy)->flags & PG_reported;
		__del_from_free_list(zone, buddy);
		pfn = min(pfn, buddy);
		order++;
	}
	pfn_to_page(pfn)->stamp_ms = stamp_ms;
	add_to_free_list(zone, pfn, order, get_pageblock_migratetype(pfn), reported);
}

void __free_range(struct zone *zone, pfn_t start, u32 nr, u32 stamp_ms, bool reported)
{
	while (nr) {
		unsigned order = min(start ? (unsigned)__builtin_ctz(start) : MAX_PAGE_ORDER, ilog2(nr));

		order = min(order, (unsigned)MAX_PAGE_ORDER);
		__free_one_page(zone, start, order, stamp_ms, reported);
		start += 1u << order;
		nr -= 1u << order;
	}
}

static void validate_block(struct zone *zone, pfn_t pfn, unsigned order, int mt)
{
	const struct page *page = pfn_to_page(pfn);
	pfn_t buddy = pfn ^ 1u << order;

	BUG_ON(!(page->flags & PG_buddy) || page->order != order || page->migratetype != mt);
	BUG_ON(!IS_ALIGNED(pfn, 1u << order));
	BUG_ON(pfn < zone->start_pfn || pfn + (1u << order) > zone->end_pfn);
	if (order < MAX_PAGE_ORDER && buddy >= zone->start_pfn && buddy < zone->end_pfn)
		BUG_ON(page_is_buddy(buddy, order));
}

void buddy_validate(struct zone *zone)
{
	u64 free = 0, reported = 0;

	for (unsigned o = 0; o < NR_PAGE_ORDERS; o++) {
		for (int mt = 0; mt < MIGRATE_TYPES; mt++) {
			struct free_list *list = &zone->free_area[o].free_list[mt];
			pfn_t prev = 0;
			u32 nr = 0;

			for (pfn_t pfn = list->head; pfn; prev = pfn, pfn = pfn_to_page(pfn)->next) {
				validate_block(zone, pfn, o, mt);
				BUG_ON(pfn_to_page(pfn)->prev != prev);
				free += 1u << o;
				reported += pfn_to_page(pfn)->flags & PG_reported ? 1u << o : 0;
				BUG_ON(++nr > list->nr);
			}
			BUG_ON(list->tail != prev || nr != list->nr);
		}
	}
	BUG_ON(free != zone->free_pages || reported != zone->reported_pages);
}

void count_pageblocks(struct zone *zone, u64 nr[MIGRATE_TYPES])
{
	for (int mt = 0; mt < MIGRATE_TYPES; mt++)
		nr[mt] = 0;
	for (pfn_t pfn = ALIGN_DOWN(zone->start_pfn, 1u << PAGEBLOCK_ORDER); pfn < zone->end_pfn;
	     pfn += 1u << PAGEBLOCK_ORDER)
		nr[get_pageblock_migratetype(pfn)]++;
}
