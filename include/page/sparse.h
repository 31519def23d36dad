/* SPDX-License-Identifier: MIT */
/*
 * sparse.h - the window, and bringing memory online in it. Kernel: mm/sparse.c, mm/memory_hotplug.c.
 */
#ifndef KMM_PAGE_SPARSE_H
#define KMM_PAGE_SPARSE_H

#include "page/mmzone.h"

/* Regions of libkmm's address space, for the banner, the registry and `kmm` views. */
struct region {
	const char *name;
	uintptr_t start, end;
	const char *help;
};
enum region_id { REGION_BRK, REGION_NORMAL, REGION_VMALLOC, REGION_MAP, REGION_VMEMMAP, REGION_METADATA, REGION_PERCPU,
		 NR_REGIONS };
extern struct region regions[NR_REGIONS];

/* Reserves map and vmemmap for a window that begins at brk_start. 0 or -ENOMEM. */
int sparse_init(uintptr_t brk_start);

/* Makes map and vmemmap of [start, end) writable and extends the online span. 0 or -ENOMEM. zone lock not needed. */
int sparse_online_span(uintptr_t start, uintptr_t end);

/* Enters mapped memory of the zone as free pages; zone->lock held. 0 or -ENOMEM. */
int online_range(struct zone *zone, uintptr_t start, uintptr_t end);
/* Brings at least nr_pages more online in the zone and frees them into its buddy; zone->lock held. 0 or -ENOMEM. */
int online_pages(struct zone *zone, u32 nr_pages);

/*
 * Called without locks after memory came online: [start, end) of the zone. Kernel: register_memory_notifier().
 */
extern void (*memory_notifier)(enum zone_type z, uintptr_t start, uintptr_t end);

static inline map_entry_t map_entry(pfn_t pfn)
{
	return READ_ONCE(direct_map.map[pfn]);
}

static inline void set_map_entry(pfn_t pfn, map_entry_t e)
{
	WRITE_ONCE(direct_map.map[pfn], e);
}

#endif
