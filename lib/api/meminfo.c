/* SPDX-License-Identifier: MIT */
/*
 * meminfo.c - where the memory is: the sums behind meminfo, mallinfo() and malloc_info().
 *
 * Purpose: one walk over zones, per-CPU lists, size classes and vmalloc areas. Nothing is counted on a fast path, so
 * all figures are derived here when somebody asks.
 *
 * Invariants: managed = free + pcp + slab + large; slab = inuse + free objects + cached + what a slab's size leaves
 * over. Other threads move memory between these while the walk lasts, so every difference is cut off at zero.
 *
 * Locks: inside the gate; each zone's lock for its own figures.
 */
#include "api/stats.h"

#include "api/malloc.h"
#include "mm/gate.h"
#include "mm/slab.h"
#include "page/huge_memory.h"
#include "page/memblock.h"
#include "page/page_alloc.h"
#include <string.h>

static u64 minus(u64 a, u64 b)
{
	return a > b ? a - b : 0;
}

static void add_zone(struct meminfo *mi, struct zone *zone)
{
	mutex_lock(&zone->lock, LOCK_zone);
	mi->present += zone->present_pages * PAGE_SIZE;
	mi->managed += zone->managed_pages * PAGE_SIZE;
	mi->free += zone->free_pages * PAGE_SIZE;
	mi->reported += zone->reported_pages * PAGE_SIZE;
	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++) {
		for (unsigned mt = 0; mt < MIGRATE_TYPES; mt++)
			mi->nr_free_blocks += zone->free_area[order].free_list[mt].nr;
	}
	mutex_unlock(&zone->lock, LOCK_zone);
}

static void add_class(struct meminfo *mi, unsigned cls)
{
	const struct kmem_cache *s = &kmalloc_caches[cls];
	struct slabinfo si = { 0 };
	u64 nr_cached;

	get_slabinfo(cls, &si);
	nr_cached = si.nr_sheaf + si.nr_barn;
	mi->slab += si.nr_slabs * s->nr_pages * PAGE_SIZE;
	mi->slab_free += si.nr_free * s->size;
	mi->cached += nr_cached * s->size;
	mi->slab_inuse += minus(si.nr_objects, si.nr_free + nr_cached) * s->size;
	mi->nr_slab_free += si.nr_free;
	mi->nr_cached += nr_cached;
}

void get_meminfo(struct meminfo *mi)
{

	kmm_boot();
	gate_enter();
	memset(mi, 0, sizeof(*mi));
	for (unsigned i = 0; i < MAX_NR_ZONES; i++)
		add_zone(mi, &zones[i]);
	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++)
		add_class(mi, cls);
	mi->huge = thp_heap_bytes();
	mi->slab_returned = nr_shrunk_pages() * PAGE_SIZE;
	mi->pcp = nr_pcp_pages() * PAGE_SIZE;
	mi->large = minus(mi->managed, mi->free + mi->pcp + mi->slab);
	mi->metadata = memblock_bytes() + mi->present / PAGE_SIZE * (sizeof(struct page) + sizeof(map_entry_t));
	get_vmalloc_stat(&mi->vmalloc);
	gate_leave();
}
