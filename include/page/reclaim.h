/* SPDX-License-Identifier: MIT */
/*
 * reclaim.h - free memory goes back to the kernel. Kernel: mm/page_reporting.c, mm/vmscan.c.
 */
#ifndef KMM_PAGE_RECLAIM_H
#define KMM_PAGE_RECLAIM_H

#include "base/list.h"
#include "page/mmzone.h"

/* Called after pages were freed, without locks: reports old blocks when the zone is above its high watermark. */
void page_reporting_notify_free(struct zone *zone, u32 now_ms);

/* Advises away free blocks of at least min_order that are older than max_age_ms. Returns bytes. */
size_t page_report(struct zone *zone, unsigned min_order, u64 max_age_ms);

/* Lowers the break over free pages at the end of the brk zone, keeping pad bytes. Returns bytes. */
size_t brk_trim(size_t pad);

/* Upper layers that hold free memory (kernel: struct shrinker). scan gives back what it can, returns bytes. */
struct shrinker {
	const char *name;
	size_t (*scan)(u64 max_age_ms);
	struct shrinker *next;
};
void register_shrinker(struct shrinker *s);
size_t shrink_all(u64 max_age_ms);

/* Everything at once: shrinkers, per-CPU lists, free blocks, brk. What malloc_trim() does. Returns bytes. */
size_t try_to_free_pages(size_t pad, u64 max_age_ms);

#endif
