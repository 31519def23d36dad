/* SPDX-License-Identifier: MIT */
/*
 * slab.h - nodes, and the allocator. Kernel: mm/slab.h, mm/slub.c (percpu sheaves, Linux 6.18).
 */
#ifndef KMM_MM_SLAB_H
#define KMM_MM_SLAB_H

#include "mm/kmalloc.h"
#include "mm/sheaf.h"
#include "os/mutex.h"
#include "page/mm_types.h"
#include "page/percpu.h"

/* --- nodes: what belongs to one home (a CPU, or a cache domain) and class ------------------------------ */
#define NR_SLAB_BUCKETS 5	/* by share of free objects: up to 1/4, 1/2, 3/4, more, all */
#define SLAB_MOSTLY_FREE 3
#define SLAB_EMPTY	4
#define SLAB_UNLISTED	0xff

struct kmem_cache_node {
	struct mutex lock;
	u32 nr_full;		/* sheaves in the barn */
	struct sheaf *full;	/* linked through their first word */
	pfn_t partial[NR_SLAB_BUCKETS];
	u32 nr_slabs;
	u32 nr_partial;		/* slabs on the lists, empty ones included */
	u32 nr_empty;		/* slabs on the last list: every object is free */
	u64 nr_free;		/* free objects in slabs (not in sheaves) */
	u16 chain_extra;	/* full sheaves that the CPU may keep beyond the class's chain_max */
	u8 capacity_extra;	/* objects that its new sheaves take beyond the class's sheaf_capacity */
	bool overflowed;	/* since sheaves were last filled from slabs */
	u32 swung_us;		/* when that was found the last time */
} __aligned(64);
_Static_assert(sizeof(struct kmem_cache_node) == 64, "a node is one cache line");

/* Homes 0 .. max_percpu_areas-1 are CPUs; beyond are cache domains, for slabs that were given up. */
#define HOME_DOMAIN	0xff00u
#define NR_DOMAINS	128u
struct kmem_cache_node *__get_node(unsigned home, unsigned cls);
/* NULL if that home has no node yet; a CPU that is online has, of every group that is. */
static inline struct kmem_cache_node *get_node(unsigned home, unsigned cls)
{
	if (likely(home < HOME_DOMAIN && cls < NR_KMALLOC_CLASSES))
		return (struct kmem_cache_node *)percpu_at(home, PERCPU_NODES) + cls;
	return __get_node(home, cls);
}

/* Makes slots and nodes of a memory group on every CPU, for ever. 0 or -ENOMEM. Inside the gate; the caller serialises. */
int colour_online(unsigned colour);
bool colour_is_online(unsigned colour);
extern u32 nr_colours;		/* those from there on have never been online */
/* All groups that have ever been, the root group first. */
#define for_each_colour(c) for (unsigned c = 0; c < smp_load_acquire(&nr_colours); c++) if (colour_is_online(c))

/* --- the allocator ------------------------------------------------------------------------------------ */
int kmem_cache_init(void);		/* 0 or -ENOMEM */

/* Slow ways of malloc and free; the fast ones are in arch/percpu_ops.h and api/malloc.c. */
void *kmem_cache_alloc_slowpath(unsigned cls);			/* exactly of that class; NULL when out of memory */
void *kmalloc_slowpath(unsigned cls);				/* or of one somewhat larger: not for whom alignment matters */
/*
 * p is whatever the program gave to free(), not NULL. Aborts with one line on misuse. False: not a block of libkmm,
 * and nothing done; then ask foreign_goes_to_next().
 */
bool kfree_slowpath(void *p);

/*
 * What KMM_FOREIGN_FREE wants for a pointer that is no block's: aborts with one line that names it, or returns whether
 * the allocator beneath is to be asked (else it is to be ignored). where: "free", "realloc".
 */
bool foreign_goes_to_next(const void *p, const char *where);

/* Above KMALLOC_MAX_SIZE, or aligned beyond a page. *zeroed (may be NULL): reads as zeroes. Any size. */
void *kmalloc_large(size_t size, size_t align, bool *zeroed);
/* Tries to make the large or vmalloc block at p new_size bytes; where it then is, or NULL: nothing changed. */
void *krealloc_large(void *p, size_t new_size);

/* Bytes that the object at p has; 0 if p is no object of libkmm (any address may be asked). */
size_t ksize(const void *p);

/* What an arbitrary pointer is, for messages and for `kmm whatis`. */
enum addr_kind { ADDR_FOREIGN, ADDR_OBJECT, ADDR_INTERIOR, ADDR_FREE_OBJECT, ADDR_LARGE, ADDR_VMALLOC, ADDR_BOOT,
		 ADDR_FREE_PAGE, ADDR_METADATA, NR_ADDR_KINDS };
struct addr_info {
	enum addr_kind kind;
	void *base;		/* of the object or block */
	size_t size;
	unsigned cls;
	void *slab;		/* address of the slab */
	unsigned home;
};
void classify_address(const void *p, struct addr_info *info);

/* Takes every sheaf of the CPU (area) back into slabs. Needs no cooperation of its threads. Inside the gate. */
void drain_cpu(unsigned cpu);
/*
 * The same of all CPUs for one memory group's classes from first on, with one membarrier, and of its barns; empty slabs go to the
 * page allocator. Inside the gate.
 */
void drain_classes(unsigned colour, unsigned first);
/* All CPUs, all groups, all barns; empty slabs go to the page allocator. Inside the gate. */
void kmem_cache_shrink_all(void);

/* Sums for slabinfo. */
struct slabinfo {
	u64 nr_slabs, nr_objects, nr_free, nr_sheaf, nr_barn;	/* objects: total, free in slabs, in sheaves, in barns */
};
void get_slabinfo(unsigned cls, struct slabinfo *si);	/* of all memory groups */
void get_colour_slabinfo(unsigned cls, unsigned colour, struct slabinfo *si);
u64 nr_shrunk_pages(void);	/* that have gone home out of slabs in use (slab_reclaim.c) */

/* Whole-structure check of every slab, node and sheaf; the world should be quiet. BUGs when wrong. */
void slab_validate_all(void);

#endif
