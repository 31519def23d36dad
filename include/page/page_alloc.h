/* SPDX-License-Identifier: MIT */
/*
 * page_alloc.h - pages for everybody above. Kernel: mm/page_alloc.c. All calls: inside the slow-path gate
 * (mm/gate.h); thread-safe. NULL when neither brk nor mmap gives more.
 */
#ifndef KMM_PAGE_PAGE_ALLOC_H
#define KMM_PAGE_PAGE_ALLOC_H

#include "page/mmzone.h"

/* 2^order pages, naturally aligned. Contents undefined. */
struct page *alloc_pages(unsigned order, enum migratetype mt);
void free_pages(struct page *page, unsigned order);

/*
 * nr_pages pages, aligned to 2^align_order pages, cut off a buddy block. *zeroed (may be NULL) tells whether the memory
 * is known to read as zeroes.
 */
struct page *alloc_pages_exact(u32 nr_pages, unsigned align_order, enum migratetype mt, bool *zeroed);
void free_pages_exact(struct page *page, u32 nr_pages);
/* Gives back pages [new_nr, old_nr) of an exact block. */
void trim_pages_exact(struct page *page, u32 old_nr, u32 new_nr);

/* Pages kept by per-CPU lists go back to the buddy: one CPU's, or all. */
void drain_pages(unsigned cpu);
void drain_all_pages(void);

u64 nr_free_pages(void);		/* in the buddy, both zones */
u64 nr_pcp_pages(void);			/* on per-CPU lists */

void setup_per_zone_wmarks(struct zone *zone);	/* zone lock held */

#endif
