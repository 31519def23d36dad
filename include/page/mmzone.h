/* SPDX-License-Identifier: MIT */
/*
 * mmzone.h - zones and their buddy. Kernel: include/linux/mmzone.h, mm/page_alloc.c.
 */
#ifndef KMM_PAGE_MMZONE_H
#define KMM_PAGE_MMZONE_H

#include "os/mutex.h"
#include "page/mm_types.h"

struct free_list {
	pfn_t head, tail;	/* 0: none. Those with resident pages at the head, reported ones at the tail */
	pfn_t reported;		/* the first reported one, 0: none */
	u32 nr;
};

struct free_area {
	struct free_list free_list[MIGRATE_TYPES];
};

enum zone_watermarks { WMARK_MIN, WMARK_LOW, WMARK_HIGH, NR_WMARK };

struct zone {
	struct mutex lock;
	const char *name;
	enum zone_type type;
	pfn_t start_pfn, end_pfn;	/* spanned */
	u64 present_pages;		/* spanned less holes */
	u64 managed_pages;		/* present less metadata */
	u64 free_pages;
	u64 reported_pages;		/* free and not resident, part of free_pages */
	u64 watermark[NR_WMARK];	/* pages of free resident memory */
	u32 free_orders[MIGRATE_TYPES];	/* a bit set: there are free blocks of that order */
	u32 resident_orders[MIGRATE_TYPES];	/* of which some are resident */
	struct free_area free_area[NR_PAGE_ORDERS];
};

extern struct zone zones[MAX_NR_ZONES];
extern const char *const migratetype_names[MIGRATE_TYPES];

/* --- buddy.c: one zone, caller holds zone->lock ------------------------------------------------------- */

/*
 * nr pages, aligned to 2^order >= nr pages, or 0. Splits larger blocks, falls back to other migrate types. *absent: how many
 * of the pages are not resident and read as zeroes.
 */
pfn_t __rmqueue_exact(struct zone *zone, u32 nr, unsigned order, enum migratetype mt, u32 *absent);
/* A block of exactly order. */
static inline pfn_t __rmqueue(struct zone *zone, unsigned order, enum migratetype mt, u32 *absent)
{
	return __rmqueue_exact(zone, 1u << order, order, mt, absent);
}
/* Takes a free block off its list. */
void __del_from_free_list(struct zone *zone, pfn_t pfn);
/* The same, and frees all but its first 2^order pages again; returns how many of those are resident. Kernel: expand(). */
u32 __take_block(struct zone *zone, pfn_t pfn, unsigned order);
/* The resident block that has been on the list longest, 0: none. */
static inline pfn_t oldest_resident(const struct free_list *list)
{
	return list->reported ? pfn_to_page(list->reported)->prev : list->tail;
}
/* Enters [start, start + nr) as free and merges it with its free buddies. reported: known not to be resident. */
void __free_range(struct zone *zone, pfn_t start, u32 nr, u32 stamp_ms, bool reported);
enum migratetype get_pageblock_migratetype(pfn_t pfn);
void set_pageblock_migratetype(pfn_t pfn, enum migratetype mt);

/* Walks every list: links, alignment, flags, counts, no mergeable pair left. BUGs when something is wrong. */
void buddy_validate(struct zone *zone);

/* Pageblocks by type, for pagetypeinfo. */
void count_pageblocks(struct zone *zone, u64 nr[MIGRATE_TYPES]);

#endif
