/* SPDX-License-Identifier: MIT */
/* stats.h - figures of the whole allocator, and where they are printed. */
#ifndef KMM_API_STATS_H
#define KMM_API_STATS_H

#include "base/seq_file.h"
#include "base/types.h"
#include "mm/vmalloc.h"

/*
 * Where the memory is, in bytes unless the name says nr_. Each figure is right at some moment of the walk; other
 * threads go on meanwhile, so sums that should agree may differ a little.
 */
struct meminfo {
	u64 present;		/* online in both zones: brk and sections */
	u64 managed;		/* present less metadata */
	u64 free;		/* in the buddy */
	u64 pcp;		/* on per-CPU page lists */
	u64 reported;		/* part of free: given back to the kernel */
	u64 slab;		/* pages of slabs */
	u64 slab_inuse;		/* objects that the program holds */
	u64 slab_free;		/* free objects in slabs */
	u64 slab_returned;	/* of their pages, gone home */
	u64 cached;		/* objects in sheaves and barns */
	u64 nr_slab_free, nr_cached;	/* the same in objects */
	u64 nr_free_blocks;	/* of the buddy */
	u64 large;		/* managed pages that are none of the above: large blocks, pages handed out as pages */
	u64 huge;		/* of all of it: in huge pages that khugepaged has made */
	u64 metadata;		/* memblock, and the map and vmemmap of what is present */
	struct vmalloc_stat vmalloc;
};
void get_meminfo(struct meminfo *mi);

/* Prints every section into m; stats_show.c. */
void show_stats(struct seq_file *m);

/*
 * Reads KMM_STATS; called once at boot after parse_params(). Holds a duplicate of stderr when statistics are to go
 * there, since many programs close it before they end.
 */
void kmm_stats_init(void);
/* Prints what KMM_STATS asks for; called by the destructor of the library. */
void kmm_stats_at_exit(void);

#endif
