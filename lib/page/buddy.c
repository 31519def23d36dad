/* SPDX-License-Identifier: MIT */
/*
 * buddy.c - the binary buddy of one zone.
 *
 * Purpose. Finds, splits and merges naturally aligned blocks of 2^order pages. Everything here is called with
 * zone->lock held and touches nothing but the zone, and of free pages struct page and map entry.
 *
 * Objects. free_area[order].free_list[migrate type], a doubly linked list of pfns through struct page. Blocks of which
 * some pages are resident stand at the head, reported ones (nothing in them is: given back to the kernel, or never touched)
 * at the tail: memory that costs no page fault is reused first.
 *
 * Resident or not is known page by page: the map entry of a free page (no object can be there) is MAP_RESIDENT or 0. So a
 * block that is cut leaves parts of which each is known, merging loses nothing, and reclaim counts pages, not blocks. Of a
 * page in use nothing is said, its entry is somebody else's; of one that is freed the caller says it.
 *
 * Invariants. A free block's first page has PG_buddy, its order, its list's migrate type, how many of its pages are resident
 * (none: PG_reported); no two free buddies of the same order exist (they would have merged; but see below); free_pages
 * is the sum, and reported_pages that of what is not resident;
 * list->reported is where the reported ones begin; free_orders[type] has a bit for every order of which the type's list
 * is not empty, resident_orders[type] for those whose list has a resident block: a larger one is split before a reported one
 * of the right size is taken.
 *
 * Numbers that are no power of two. A block is cut to any number of pages at once: what is left of it behind them falls
 * into aligned blocks whose buddies are not free. A range is freed from both its ends inwards, order by order: at
 * each end either the buddy outside is free and may join the range, or the block inside is final and leaves it. So
 * no block is listed that the next step would take away again.
 *
 * Reported blocks. From pageblocks on, only blocks that are both reported or both not are merged: else a page that
 * comes and goes in a large free block would make all of it one that reclaim looks at, and a large block could not be given
 * back piece by piece.
 *
 * Migrate types. A pageblock (2 MiB) has a type; a free page goes to the list of its pageblock's type. A request
 * that finds its lists empty takes the largest block of another type, and the whole pageblock's type with it when
 * the block is at least half of one (kernel: steal_suitable_fallback).
 *
 * Kernel counterpart. mm/page_alloc.c: __rmqueue, __free_one_page, expand. Knowlton 1965 for the algorithm.
 */
#include "page/mmzone.h"

#include "page/sparse.h"
#include "page/vmstat.h"

#define MAP_RESIDENT make_map_entry(0, 0, 1)	/* of a free page */

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

/* --- which pages are resident ---------------------------------------------------------------------------------- */

/* Four at a time: blocks are of that size and more, but for what is cut to a number of pages. */
typedef map_entry_t map_vector __attribute__((vector_size(16), aligned(4), may_alias));
#define MAP_VECTOR (sizeof(map_vector) / sizeof(map_entry_t))

static void mark_resident(pfn_t pfn, u32 nr, map_entry_t e)
{
	map_entry_t *map = direct_map.map + pfn, *end = map + nr;

	for (; (size_t)(end - map) >= MAP_VECTOR; map += MAP_VECTOR)
		*(map_vector *)map = (map_vector){ e, e, e, e };
	while (map < end)
		*map++ = e;
}

static u32 count_resident(pfn_t pfn, u32 nr)
{
	const map_entry_t *map = direct_map.map + pfn, *end = map + nr;
	map_vector sums = { 0 };
	u32 sum = 0;

	for (; (size_t)(end - map) >= MAP_VECTOR; map += MAP_VECTOR)
		sums += *(const map_vector *)map / MAP_RESIDENT;
	while (map < end)
		sum += *map++ / MAP_RESIDENT;
	return sum + sums[0] + sums[1] + sums[2] + sums[3];
}

/* Of nr pages that are a part of a block of size pages, of which nr_resident are. */
static u32 resident_part(pfn_t pfn, u32 nr, u32 size, u32 nr_resident)
{
	if (!nr_resident)
		return 0;
	return nr_resident == size ? nr : count_resident(pfn, nr);
}

/* --- lists ------------------------------------------------------------------------------------------------------ */

static void add_to_free_list(struct zone *zone, pfn_t pfn, unsigned order, enum migratetype mt, u32 nr_resident)
{
	struct free_list *list = &zone->free_area[order].free_list[mt];
	struct page *page = pfn_to_page(pfn);

	page->flags = PG_buddy | (nr_resident ? 0 : PG_reported);
	page->order = (u8)order;
	page->migratetype = mt & 0xf;
	page->nr_resident = (u16)nr_resident;
	if (!nr_resident) {
		page->next = 0;
		page->prev = list->tail;
		*(list->tail ? &pfn_to_page(list->tail)->next : &list->head) = pfn;
		list->tail = pfn;
		if (!list->reported)
			list->reported = pfn;
	} else {
		page->prev = 0;
		page->next = list->head;
		*(list->head ? &pfn_to_page(list->head)->prev : &list->tail) = pfn;
		list->head = pfn;
		zone->resident_orders[mt] |= 1u << order;
	}
	list->nr++;
	zone->free_orders[mt] |= 1u << order;
	zone->free_pages += 1u << order;
	zone->reported_pages += (1u << order) - nr_resident;
}

void __del_from_free_list(struct zone *zone, pfn_t pfn)
{
	struct page *page = pfn_to_page(pfn);
	struct free_list *list = &zone->free_area[page->order].free_list[page->migratetype];

	VM_BUG_ON(!(page->flags & PG_buddy));
	if (list->reported == pfn)
		list->reported = page->next;
	*(page->prev ? &pfn_to_page(page->prev)->next : &list->head) = page->next;
	*(page->next ? &pfn_to_page(page->next)->prev : &list->tail) = page->prev;
	if (list->head == list->reported)
		zone->resident_orders[page->migratetype] &= ~(1u << page->order);
	if (--list->nr == 0)
		zone->free_orders[page->migratetype] &= ~(1u << page->order);
	zone->free_pages -= 1u << page->order;
	zone->reported_pages -= (1u << page->order) - page->nr_resident;
	page->flags = 0;
}

/*
 * Frees what a block of order high, of which nr_resident pages are resident, has behind its first nr pages. Returns how many of
 * those are. Kernel: expand().
 */
static u32 expand(struct zone *zone, pfn_t pfn, u32 nr, unsigned high, enum migratetype mt, u32 nr_resident)
{
	u32 stamp = pfn_to_page(pfn)->stamp_ms, left = nr_resident;

	while (nr < 1u << high) {
		unsigned order = (unsigned)__builtin_ctz(nr);
		u32 part = resident_part(pfn + nr, 1u << order, 1u << high, nr_resident);

		pfn_to_page(pfn + nr)->stamp_ms = stamp;
		add_to_free_list(zone, pfn + nr, order, mt, part);
		left -= part;
		nr += 1u << order;
	}
	return left;
}

/* nr pages are not free any more; returns how many of them are not resident. */
static u32 claim(pfn_t pfn, u32 nr, u32 nr_resident)
{
	if (nr_resident)
		mark_resident(pfn, nr, 0);
	return nr - nr_resident;
}

static pfn_t take_block(struct zone *zone, pfn_t pfn, u32 nr, enum migratetype mt, u32 *absent)
{
	const struct page *page = pfn_to_page(pfn);
	unsigned high = page->order;
	u32 nr_resident = page->nr_resident;

	__del_from_free_list(zone, pfn);
	*absent = claim(pfn, nr, expand(zone, pfn, nr, high, mt, nr_resident));
	return pfn;
}

u32 __take_block(struct zone *zone, pfn_t pfn, unsigned order)
{
	u32 absent;

	take_block(zone, pfn, 1u << order, (enum migratetype)pfn_to_page(pfn)->migratetype, &absent);
	return (1u << order) - absent;
}

/* Takes the largest block of another type; converts pageblocks when it is worth it. */
static pfn_t rmqueue_fallback(struct zone *zone, u32 nr, unsigned order, enum migratetype mt, u32 *absent)
{
	u32 first = zone->free_orders[fallbacks[mt][0]] >> order, second = zone->free_orders[fallbacks[mt][1]] >> order;
	enum migratetype other;
	unsigned o, keep;
	u32 nr_resident;
	pfn_t pfn;

	if (!(first | second))
		return 0;
	o = ilog2(first | second);
	other = (enum migratetype)fallbacks[mt][!(first >> o & 1)];
	o += order;
	pfn = zone->free_area[o].free_list[other].head;
	count_vm_event(VM_pgsteal_fallback);
	if (o < PAGEBLOCK_ORDER - 1)
		return take_block(zone, pfn, nr, other, absent);
	/* What is taken and not used stays of the old type unless its pageblock changed hands. */
	keep = o <= PAGEBLOCK_ORDER ? o : max(order, (unsigned)PAGEBLOCK_ORDER);
	nr_resident = pfn_to_page(pfn)->nr_resident;
	__del_from_free_list(zone, pfn);
	nr_resident = expand(zone, pfn, 1u << keep, o, other, nr_resident);
	for (u32 n = 0; n < 1u << keep; n += 1u << PAGEBLOCK_ORDER)
		set_pageblock_migratetype(pfn + n, mt);
	count_vm_event(VM_pageblock_convert);
	*absent = claim(pfn, nr, expand(zone, pfn, nr, keep, mt, nr_resident));
	return pfn;
}

pfn_t __rmqueue_exact(struct zone *zone, u32 nr, unsigned order, enum migratetype mt, u32 *absent)
{
	u32 orders = zone->resident_orders[mt] >> order;

	if (!orders)
		orders = zone->free_orders[mt] >> order;
	if (unlikely(!orders))
		return rmqueue_fallback(zone, nr, order, mt, absent);
	order += (unsigned)__builtin_ctz(orders);
	return take_block(zone, zone->free_area[order].free_list[mt].head, nr, mt, absent);
}

/* May the free block at pfn, if there is one, be merged with one of that order? */
static bool page_is_buddy(pfn_t pfn, unsigned order, bool reported)
{
	const struct page *page = pfn_to_page(pfn);

	return page->flags & PG_buddy && page->order == order &&
	       (order < PAGEBLOCK_ORDER || reported == !!(page->flags & PG_reported));
}

/* Both zones end at 2 MiB boundaries of the window; blocks must not span the gap. */
static bool may_join(struct zone *zone, pfn_t pfn, unsigned order, bool reported)
{
	return pfn >= zone->start_pfn && pfn < zone->end_pfn && page_is_buddy(pfn, order, reported);
}

static void free_block(struct zone *zone, pfn_t pfn, unsigned order, u32 stamp_ms, u32 nr_resident)
{
	pfn_to_page(pfn)->stamp_ms = stamp_ms;
	add_to_free_list(zone, pfn, order, get_pageblock_migratetype(pfn), nr_resident);
}

/* What has joined a range that is freed, at one of its ends. */
struct joined {
	u32 nr, nr_resident, stamp_ms;
};

/*
 * Takes a block off its list to merge it with a range; blank: nothing in that is resident. The youngest resident part tells how old
 * the whole is: else what was freed just now would go home because what lies beside it, not resident, has been free for long.
 */
static void absorb(struct zone *zone, pfn_t pfn, bool blank, struct joined *j)
{
	const struct page *page = pfn_to_page(pfn);

	if (page->nr_resident && (blank || (s32)(page->stamp_ms - j->stamp_ms) > 0))
		j->stamp_ms = page->stamp_ms;
	j->nr += 1u << page->order;
	j->nr_resident += page->nr_resident;
	__del_from_free_list(zone, pfn);
}

static void __free_one_page(struct zone *zone, pfn_t pfn, unsigned order, struct joined *j)
{
	for (; order < MAX_PAGE_ORDER; order++) {
		pfn_t buddy = pfn ^ 1u << order;

		if (!may_join(zone, buddy, order, !j->nr_resident))
			break;
		absorb(zone, buddy, !j->nr_resident, j);
		pfn = min(pfn, buddy);
	}
	free_block(zone, pfn, order, j->stamp_ms, j->nr_resident);
}

/* A block that leaves a range at an end, with what has joined it there; all else in it is resident or not. */
static void free_end(struct zone *zone, pfn_t pfn, unsigned order, bool reported, struct joined *j, u32 stamp_ms)
{
	u32 own = reported ? 0 : (1u << order) - j->nr;

	free_block(zone, pfn, order, j->stamp_ms, own + j->nr_resident);
	*j = (struct joined){ .stamp_ms = stamp_ms };
}

/* Both ends are one block in the end. */
static void join_ends(struct joined *left, const struct joined *right, u32 size, bool reported)
{
	bool blank_left = reported && !left->nr_resident, blank_right = reported && !right->nr_resident;

	if (!blank_right && (blank_left || (s32)(right->stamp_ms - left->stamp_ms) > 0))
		left->stamp_ms = right->stamp_ms;
	left->nr += right->nr;
	left->nr_resident += right->nr_resident + (reported ? 0 : size - left->nr);
}

void __free_range(struct zone *zone, pfn_t start, u32 nr, u32 stamp_ms, bool reported)
{
	struct joined left = { .stamp_ms = stamp_ms }, right = { .stamp_ms = stamp_ms };
	pfn_t end = start + nr;
	unsigned o = min((unsigned)__builtin_ctz(start | end), (unsigned)MAX_PAGE_ORDER);

	if (!reported)
		mark_resident(start, nr, MAP_RESIDENT);
	for (; end - start > 1u << o; o += o < MAX_PAGE_ORDER) {
		bool blank = reported && !left.nr_resident;
		u32 size = 1u << o;

		if (o < MAX_PAGE_ORDER && start & size && may_join(zone, start - size, o, blank)) {
			start -= size;
			absorb(zone, start, blank, &left);
		} else if (o == MAX_PAGE_ORDER || start & size) {
			free_end(zone, start, o, reported, &left, stamp_ms);
			start += size;
		}
		if (o == MAX_PAGE_ORDER || !(end & size))
			continue;
		blank = reported && !right.nr_resident;
		if (may_join(zone, end, o, blank)) {
			absorb(zone, end, blank, &right);
			end += size;
		} else {
			end -= size;
			free_end(zone, end, o, reported, &right, stamp_ms);
		}
	}
	if (start < end) {
		join_ends(&left, &right, end - start, reported);
		__free_one_page(zone, start, o, &left);
	}
}

static __cold void validate_block(struct zone *zone, pfn_t pfn, unsigned order, int mt)
{
	const struct page *page = pfn_to_page(pfn);
	pfn_t buddy = pfn ^ 1u << order;

	BUG_ON(!(page->flags & PG_buddy) || page->order != order || page->migratetype != mt);
	BUG_ON(!IS_ALIGNED(pfn, 1u << order));
	BUG_ON(page->nr_resident != count_resident(pfn, 1u << order) || !page->nr_resident != !!(page->flags & PG_reported));
	BUG_ON(pfn < zone->start_pfn || pfn + (1u << order) > zone->end_pfn);
	if (order < MAX_PAGE_ORDER && buddy >= zone->start_pfn && buddy < zone->end_pfn)
		BUG_ON(page_is_buddy(buddy, order, page->flags & PG_reported));
}

__cold void buddy_validate(struct zone *zone)
{
	u64 free = 0, reported = 0;

	for (unsigned o = 0; o < NR_PAGE_ORDERS; o++) {
		for (int mt = 0; mt < MIGRATE_TYPES; mt++) {
			struct free_list *list = &zone->free_area[o].free_list[mt];
			pfn_t prev = 0, first_reported = 0;
			u32 nr = 0;

			for (pfn_t pfn = list->head; pfn; prev = pfn, pfn = pfn_to_page(pfn)->next) {
				validate_block(zone, pfn, o, mt);
				BUG_ON(pfn_to_page(pfn)->prev != prev);
				free += 1u << o;
				reported += (1u << o) - pfn_to_page(pfn)->nr_resident;
				if (pfn_to_page(pfn)->flags & PG_reported && !first_reported)
					first_reported = pfn;
				BUG_ON(first_reported && !(pfn_to_page(pfn)->flags & PG_reported));
				BUG_ON(++nr > list->nr);
			}
			BUG_ON(list->tail != prev || nr != list->nr || list->reported != first_reported);
			BUG_ON(!nr != !(zone->free_orders[mt] >> o & 1));
			BUG_ON((list->head == list->reported) != !(zone->resident_orders[mt] >> o & 1));
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
