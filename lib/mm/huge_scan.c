/* SPDX-License-Identifier: MIT */
/*
 * huge_scan.c - shows khugepaged what lies where (page/huge_memory.h).
 *
 * Purpose. Looks at one pageblock at a time: how many of its pages are in use, how many bytes of its slabs' objects, and a
 * sum that changes when any of that does. Objects in sheaves and barns count as used. Then at the 2 MiB pieces of blocks in
 * the vmalloc region, of which nothing is known but that somebody wanted them: whether they are resident the kernel knows.
 *
 * Objects. walk: the next pageblock, and how far a block that began in an earlier one reaches.
 *
 *	pageblocks   |  slab slab free slab | large ......... | ...... large | ...
 *	                                      covered: ------------------->
 *
 * Invariants. Nothing is locked: what is read of a struct page may be nonsense, or of two moments. Then a block is wrongly
 * taken for dense, or not. The kernel makes a huge page of any memory without changing it, so all that it costs is a look,
 * or a huge page that soon is broken up again.
 *
 * Locks. vmap, to find an area; the heap is read without any. The walk is the background thread's own.
 *
 * Kernel counterpart. mm/khugepaged.c: hpage_collapse_scan_pmd(), which looks at page table entries.
 */
#include "internal.h"
#include "vmap.h"

#include "mm/gate.h"
#include "page/huge_memory.h"

#define BLOCK_PAGES (1u << PAGEBLOCK_ORDER)

static struct {
	int zone;
	pfn_t pfn;		/* first of the next block */
	pfn_t covered;		/* pages below belong to something that has been seen */
} walk;

static void begin(void)
{
	walk.zone = -1;
	walk.pfn = walk.covered = 0;
}

static bool next_pageblock(pfn_t *pfn)
{
	while (walk.zone < 0 || walk.pfn >= READ_ONCE(zones[walk.zone].end_pfn)) {
		if (++walk.zone == MAX_NR_ZONES) {
			walk.zone = MAX_NR_ZONES - 1;
			return false;
		}
		walk.pfn = walk.covered = ALIGN_DOWN(zones[walk.zone].start_pfn, BLOCK_PAGES);
	}
	*pfn = walk.pfn;
	walk.pfn += BLOCK_PAGES;
	return true;
}

static void add(struct huge_block *b, u32 nr, size_t live, u32 what)
{
	b->nr_used += nr;
	b->live += live;
	b->sum = (b->sum ^ what) * 0x9e3779b1u + nr;
}

/* What begins at page: pages of it, at most nr, lie in the block. */
static void add_page(struct huge_block *b, const struct page *page, u32 flags, u32 nr)
{
	u32 what = flags & (PG_slab | PG_large | PG_pages | PG_buddy | PG_pcp);

	if (flags & PG_slab) {
		u32 cls = min(READ_ONCE(page->cls), (u8)(NR_KMALLOC_CLASSES - 1)), nr_free = READ_ONCE(page->nr_free);
		u32 nr_objects = READ_ONCE(page->nr_objects);

		b->barred |= flags & PG_meshed || READ_ONCE(page->bucket) == SLAB_LIMBO;
		add(b, nr, (size_t)(nr_objects - min(nr_free, nr_objects)) * kmalloc_caches[cls].size, what ^ nr_free << 16 ^ cls << 8);
	} else if (flags & (PG_large | PG_pages)) {
		add(b, nr, (size_t)nr << PAGE_SHIFT, what);
	} else {
		b->sum = (b->sum ^ what) * 0x9e3779b1u + nr;
	}
}

static bool next(struct huge_block *b)
{
	pfn_t pfn, end;

	*b = (struct huge_block){ .nr_used = 0 };
	if (!next_pageblock(&pfn))
		return false;
	b->addr = pfn_to_virt(pfn);
	for (end = pfn + BLOCK_PAGES; pfn < end;) {
		const struct page *page = pfn_to_page(pfn);
		u32 flags = READ_ONCE(page->flags), nr = pages_of(page);

		if (pfn < walk.covered) {
			nr = min(walk.covered, end) - pfn;
			add(b, nr, (size_t)nr << PAGE_SHIFT, PG_tail);
		} else {
			walk.covered = flags & (PG_large | PG_pages) ? pfn + nr : walk.covered;
			nr = min(nr, end - pfn);
			add_page(b, page, flags, nr);
		}
		pfn += nr;
	}
	return true;
}

/* --- the vmalloc region --------------------------------------------------------------------------------------- */

static uintptr_t next_piece;

static void begin_areas(void)
{
	next_piece = 0;
}

/* The first busy area that ends above addr, vmap lock held. */
static const struct vmap_area *__area_above(uintptr_t addr)
{
	struct rb_node *node = vmap.areas.node;
	const struct vmap_area *best = NULL;

	while (node != NULL) {
		const struct vmap_area *va = rb_entry(node, struct vmap_area, rb_node);

		if (va->va_end > addr)
			best = va;
		node = va->va_end > addr ? node->left : node->right;
	}
	for (; best != NULL && best->lazy; best = node != NULL ? rb_entry(node, struct vmap_area, rb_node) : NULL)
		node = rb_next(&best->rb_node);
	return best;
}

static bool next_in_area(struct huge_block *b)
{
	const struct vmap_area *va;
	uintptr_t addr = next_piece;
	bool found = false;

	gate_enter();
	vmap_lock();
	while ((va = __area_above(addr)) != NULL) {
		addr = ALIGN(max(addr, va->va_start), PAGEBLOCK_SIZE);
		found = addr + PAGEBLOCK_SIZE <= va->va_end;
		if (found)
			break;
		addr = va->va_end;
	}
	if (found)
		*b = (struct huge_block){ .addr = (void *)addr, .nr_used = BLOCK_PAGES, .live = PAGEBLOCK_SIZE,
					  .sum = (u32)((va->va_start ^ va->requested) >> 4) | 1 };
	vmap_unlock();
	gate_leave();
	next_piece = addr + PAGEBLOCK_SIZE;
	return found;
}

static const struct huge_source areas = { .begin = begin_areas, .next = next_in_area };
static const struct huge_source heap = { .begin = begin, .next = next };

__init void huge_scan_init(void)
{
	register_huge_source(&heap);
	register_huge_source(&areas);
}
