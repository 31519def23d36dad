/* SPDX-License-Identifier: MIT */
/* internal.h - what the files of the slab allocator share. Not for other layers. */
#ifndef KMM_LIB_MM_INTERNAL_H
#define KMM_LIB_MM_INTERNAL_H

#include "mm/slab.h"

void create_kmalloc_caches(void);				/* slab_common.c */

/* --- slab.c: slabs and nodes ---------------------------------------------------------------------------- */
/* Objects of home's slabs into [p, p + want), by ascending address; makes at most one slab. Returns how many. */
unsigned slab_alloc_bulk(unsigned home, unsigned cls, void **p, unsigned want);
/* One object of at least that class without waiting for any lock, or NULL. For signal handlers inside a slow path. */
void *slab_alloc_nested(unsigned cls);
/* Gives objects of class cls back to their slabs, wherever those have their home. */
void slab_free_bulk(unsigned cls, void **p, unsigned nr);
/* Empty slabs of a node go back. */
void node_shrink(unsigned home, unsigned cls);
/* Calls fn for every slab that exists. The world should be quiet. */
void for_each_slab(void (*fn)(struct page *slab, void *arg), void *arg);
/* Homes in use, CPUs and cache domains: i counts from 0; false behind the last. */
bool home_by_index(unsigned i, unsigned *home);

static inline u64 *slab_bits(struct page *slab)
{
	return slab->nr_objects <= 64 ? &slab->word : slab->bitmap;
}

/* --- sheaf.c -------------------------------------------------------------------------------------------- */
void sheaves_prepare(unsigned cpu);
void free_object_slowpath(map_entry_t e, void *obj);
void barn_flush(unsigned home, unsigned cls);

/* --- slub.c --------------------------------------------------------------------------------------------- */
void defer_free(void *p);	/* any block; by a signal handler inside a slow path */
void __free_deferred(void);
extern void *deferred;
static inline void free_deferred(void)		/* inside the gate, no locks */
{
	if (unlikely(READ_ONCE(deferred) != NULL))
		__free_deferred();
}

/* --- slub_misuse.c -------------------------------------------------------------------------------------- */
__noreturn __cold void report_invalid_pointer(const void *p, const char *where);	/* where: "free" */
__noreturn __cold void report_double_free(const void *obj);

#endif
