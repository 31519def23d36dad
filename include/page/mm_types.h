/* SPDX-License-Identifier: MIT */
/*
 * mm_types.h - struct page, the direct-map window and the map.
 *
 *   window_start                                                            window_start + window_size
 *   | ZONE_BRK: the program's brk, grown upwards ... | ZONE_NORMAL: sections, brought online by mmap |
 *
 * Everything that libkmm hands out below the vmalloc size lies in the window. Two arrays describe it, reserved
 * read-only for the whole window and made writable span by span as memory comes online:
 *   vmemmap[pfn]   struct page, 32 bytes
 *   map[pfn]       u32: what free() must know, in one load (below)
 */
#ifndef KMM_PAGE_MM_TYPES_H
#define KMM_PAGE_MM_TYPES_H

#include "arch/percpu_ops.h"
#include "base/align.h"
#include "base/bug.h"
#include "base/types.h"

enum zone_type { ZONE_BRK, ZONE_NORMAL, MAX_NR_ZONES };

enum migratetype {
	MIGRATE_MOVABLE,	/* slabs: their pages can be meshed and returned one by one. 0: what fresh memory is */
	MIGRATE_UNMOVABLE,	/* pages handed out as pages (kmm_alloc_pages) */
	MIGRATE_RECLAIMABLE,	/* large blocks, short-lived by experience */
	MIGRATE_TYPES
};

/* Orders reach 64 MiB, the size of the largest section. */
#define MAX_PAGE_ORDER 14
#define NR_PAGE_ORDERS (MAX_PAGE_ORDER + 1)

/* A page of which no flag is set is a hole, not online yet, or metadata. */
enum pageflags {
	PG_buddy    = 1 << 0,	/* first page of a free block of ->order */
	PG_slab	    = 1 << 1,	/* first page of a slab (mm/slab.h) */
	PG_tail	    = 1 << 2,	/* ->head is the first page */
	PG_large    = 1 << 3,	/* first page of a kmalloc_large() block */
	PG_reported = 1 << 4,	/* free block: nothing of it is resident, it reads as zeroes */
	PG_pcp	    = 1 << 5,	/* first page of a block on a per-CPU page list */
	PG_isolated = 1 << 6,	/* free block that page reporting has taken off its list */
	PG_pages    = 1 << 7,	/* first page of a block handed out as pages */
	PG_shrunk   = 1 << 9,	/* first page of a slab: nothing was taken since free pages in it went home (slab_reclaim.c) */
	PG_meshed   = 1 << 10,	/* first page of a slab: it is a view of shared frames (mm/mesh.c) */
	PG_quiet    = 1 << 11,	/* first page of a slab: nothing was taken or freed since somebody looked (mm/mesh_scan.c) */
};

struct page {
	u16 flags;
	u8 order;		/* PG_buddy, PG_pcp */
	u8 migratetype : 4;	/* PG_buddy: the list it is on */
	u8 pageblock_mt : 4;	/* on the first page of a pageblock, whatever else that page is */
	pfn_t next, prev;	/* free list, per-CPU list (next only), partial list */
	union {
		u32 stamp_ms;	/* PG_buddy: when it was freed */
		u32 nr_pages;	/* PG_large, PG_pages */
		pfn_t head;	/* PG_tail */
		struct {	/* PG_slab */
			u8 cls;		/* size class */
			u8 colour;	/* memory group */
			u16 home;	/* node whose lock guards this slab */
		};
	};
	union {
		u16 nr_free;		/* PG_slab */
		u16 nr_resident;	/* PG_buddy: pages of the block */
	};
	/* PG_slab only */
	u16 nr_objects;
	union {
		u8 bucket;	/* fullness list it is on, SLAB_UNLISTED if none */
		u8 memcg;	/* PG_pages: colour of the memory group */
	};
	u8 mesh[3];		/* PG_meshed: the group it is a view of */
	union {			/* a bit set: free in the slab */
		u64 word;	/* up to 64 objects */
		u64 *bitmap;	/* more */
	};
};
_Static_assert(sizeof(struct page) == 32, "struct page is 32 bytes: 0.78 % of memory");

/* What every free() reads; one cache line, written at boot and when memory comes online. */
struct direct_map {
	uintptr_t start;	/* address of pfn 0, 2 MiB aligned */
	u64 limit16;		/* end of the online span, in units of 16 bytes from start */
	map_entry_t *map;
	struct page *vmemmap;
	uintptr_t end;		/* end of the window */
	uintptr_t sections;	/* ZONE_NORMAL begins; ZONE_BRK must stay below */
} __aligned(64);
extern struct direct_map direct_map;

static inline void *pfn_to_virt(pfn_t pfn)
{
	return (void *)(direct_map.start + ((uintptr_t)pfn << PAGE_SHIFT));
}

/* Meaningful for addresses in the window only. */
static inline pfn_t virt_to_pfn(const void *p)
{
	return (pfn_t)(((uintptr_t)p - direct_map.start) >> PAGE_SHIFT);
}

/* In the online span: map and vmemmap may be read. Any address may be asked for. */
static inline bool virt_addr_valid(const void *p)
{
	return ((uintptr_t)p - direct_map.start) >> 4 < direct_map.limit16;
}

static inline struct page *pfn_to_page(pfn_t pfn)
{
	return direct_map.vmemmap + pfn;
}

static inline pfn_t page_to_pfn(const struct page *page)
{
	return (pfn_t)(page - direct_map.vmemmap);
}

static inline struct page *virt_to_page(const void *p)
{
	return pfn_to_page(virt_to_pfn(p));
}

static inline void *page_address(const struct page *page)
{
	return pfn_to_virt(page_to_pfn(page));
}

/* The first page of the slab or large block that page belongs to. */
static inline struct page *compound_head(struct page *page)
{
	return page->flags & PG_tail ? pfn_to_page(page->head) : page;
}

static inline enum zone_type pfn_zone(pfn_t pfn)
{
	return (uintptr_t)pfn_to_virt(pfn) >= direct_map.sections ? ZONE_NORMAL : ZONE_BRK;
}

#endif
