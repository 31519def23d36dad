/* SPDX-License-Identifier: MIT */
/*
 * call_sites.h - which callers most of a memory group's pages were charged for, roughly. Kernel: lib/alloc_tag.c.
 */
#ifndef KMM_PAGE_CALL_SITES_H
#define KMM_PAGE_CALL_SITES_H

#include "base/types.h"

#define NR_CALL_SITES 12

struct call_site {
	const void *caller;		/* return address of malloc, new, ...; NULL: unused */
	u64 pages;
};

struct call_sites {
	u32 busy;
	u64 total;			/* of all callers, also those that have been pushed out */
	struct call_site site[NR_CALL_SITES];
};

/* So many pages were charged for the caller; the group holds usage pages. Any context; may be lost when others do so, too. */
void call_sites_note(struct call_sites *sites, const void *caller, u64 pages, u64 usage);
/* Adds the callers of from; reads what others may be changing. */
void call_sites_merge(struct call_sites *to, const struct call_sites *from);
/* The largest first. */
void call_sites_sort(struct call_sites *sites);

#endif
