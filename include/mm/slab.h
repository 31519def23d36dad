/* SPDX-License-Identifier: MIT */
/*
 * slab.h - size classes, nodes, sheaves. Kernel: mm/slab.h, mm/slub.c (percpu sheaves, Linux 6.18).
 */
#ifndef KMM_MM_SLAB_H
#define KMM_MM_SLAB_H

#include "os/mutex.h"
#include "page/mm_types.h"
#include "page/percpu.h"

/* --- size classes: 16 to 128 by 16, then eight to a doubling, up to 256 KiB --------------------------- */
#define KMALLOC_MIN_SIZE      16u
#define KMALLOC_MAX_SIZE      (256u << 10)	/* beyond: kmalloc_large(), then vmalloc */
#define KMALLOC_LARGE_MAX     (2ul << 20)
#define NR_KMALLOC_CLASSES    97		/* class 0 is the slow path */

/*
 * One size class, the kernel's struct kmem_cache. Constant after boot but for capacity and barn_max.
 */
struct kmem_cache {
	u32 size;		/* bytes of an object */
	u16 sheaf_capacity;	/* objects of a sheaf, at most 63 */
	u16 barn_max;		/* full sheaves a barn keeps */
	u16 nr_objects;		/* of a slab */
	u16 nr_pages;		/* of a slab */
	u64 inverse;		/* ceil(2^48 / size): division by multiplication */
};
extern struct kmem_cache kmalloc_caches[NR_KMALLOC_CLASSES];

/*
 * Size to class. Up to 1 KiB in steps of 16 bytes, beyond in eighths of a power of two. Whoever must see every
 * allocation (profile, groups) points the entries to class 0, whose slot always leads to the slow path.
 */
#define SIZE_INDEX_SMALL 1024u
#define SIZE_INDEX_ENTRIES (65 + 8 * 8)
extern u8 size_index[SIZE_INDEX_ENTRIES];

/* Index into size_index for sizes above SIZE_INDEX_SMALL and up to KMALLOC_MAX_SIZE. */
static __always_inline size_t size_index_large(size_t n)
{
	unsigned lg = ilog2(n - 1);

	return 65 + (lg - 10) * 8 + (((n - 1) >> (lg - 3)) & 7);
}

/* n at most KMALLOC_MAX_SIZE. */
static __always_inline unsigned kmalloc_class(size_t n)
{
	return size_index[likely(n <= SIZE_INDEX_SMALL) ? (n + 15) >> 4 : size_index_large(n)];
}

/* The largest size that leads to entry i. */
static inline size_t size_index_limit(unsigned i)
{
	if (i <= 64)
		return i * 16;

	unsigned group = (i - 65) / 8, step = (i - 65) % 8 + 1;

	return (1024u << group) + (128u << group) * step;
}

/* Index of the object that contains byte offset off of a slab. */
static inline unsigned obj_to_index(const struct kmem_cache *s, size_t off)
{
	return (unsigned)((off * s->inverse) >> 48);
}

/* --- nodes: what belongs to one home (a CPU, or a cache domain) and class ------------------------------ */
#define NR_SLAB_BUCKETS 4	/* by share of free objects: up to 1/4, 1/2, 3/4, more */
#define SLAB_UNLISTED	0xff

struct kmem_cache_node {
	struct mutex lock;
	u32 nr_full;		/* sheaves in the barn */
	struct sheaf *full;	/* linked through their first word; in the node of class 0: empty sheaves */
	pfn_t partial[NR_SLAB_BUCKETS];
	u32 nr_slabs;
	u32 nr_partial;		/* slabs on the lists, empty ones included */
	u64 nr_empty;		/* slabs on the lists of which every object is free */
	u64 nr_free;		/* free objects in slabs (not in sheaves) */
} __aligned(64);
_Static_assert(sizeof(struct kmem_cache_node) == 64, "a node is one cache line");

/* Homes 0 .. max_percpu_areas-1 are CPUs; beyond are cache domains, for slabs that were given up. */
#define HOME_DOMAIN	0xff00u
#define NR_DOMAINS	128u
struct kmem_cache_node *get_node(unsigned home, unsigned cls);	/* NULL if that home has no area yet */

/* --- sheaves ------------------------------------------------------------------------------------------ */
/*
 * 64 pointers, 512-byte aligned, type-stable. A class of capacity n uses the last n slots; the slot before is
 * NULL, the bottom sentinel. A CPU's slot holds only `top`, the address behind the last object:
 *   top[-1] == NULL        empty
 *   (top & 511) == 0       full
 * The stop sheaf and the boot sheaf are both at once: a pop finds NULL, a push finds the end.
 * While a sheaf is in a barn, slot[0] is the link, with the number of objects in its low 9 bits.
 */
#define SHEAF_SIZE	512u
#define SHEAF_SLOTS	64u
#define SHEAF_MAX_CAPACITY 63u

struct sheaf {
	void *slot[SHEAF_SLOTS];
} __aligned(512);

/* All NULL, never written. A slot on the boot sheaf may be exchanged for a real one, on the stop sheaf not. */
extern struct sheaf stop_sheaf, boot_sheaf;

static inline void **sheaf_full_top(struct sheaf *sh)
{
	return &sh->slot[SHEAF_SLOTS];
}

static inline struct sheaf *sheaf_of_top(void **top)
{
	return (struct sheaf *)(((uintptr_t)top - 1) & ~(uintptr_t)(SHEAF_SIZE - 1));
}

/* The slot of the first object of a sheaf of class cls. */
static inline void **sheaf_bottom(struct sheaf *sh, unsigned cls)
{
	return &sh->slot[SHEAF_SLOTS - kmalloc_caches[cls].sheaf_capacity];
}

/* --- the allocator ------------------------------------------------------------------------------------ */
int kmem_cache_init(void);		/* 0 or -ENOMEM */

/* Slow ways of malloc and free; the fast ones are in arch/percpu_ops.h and api/malloc.c. */
void *kmem_cache_alloc_slowpath(unsigned cls);			/* NULL when out of memory */
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
/* All CPUs, all barns; empty slabs go to the page allocator. Inside the gate. */
void kmem_cache_shrink_all(void);

/* Sums for slabinfo. */
struct slabinfo {
	u64 nr_slabs, nr_objects, nr_free, nr_sheaf, nr_barn;	/* objects: total, free in slabs, in sheaves, in barns */
};
void get_slabinfo(unsigned cls, struct slabinfo *si);

/* Whole-structure check of every slab, node and sheaf; the world should be quiet. BUGs when wrong. */
void slab_validate_all(void);

#endif
