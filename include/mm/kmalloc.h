/* SPDX-License-Identifier: MIT */
/*
 * kmalloc.h - the size classes, and how a size finds its class. Kernel: include/linux/slab.h (kmalloc_caches).
 */
#ifndef KMM_MM_KMALLOC_H
#define KMM_MM_KMALLOC_H

#include "arch/percpu_ops.h"
#include "base/align.h"
#include "base/types.h"

/* --- size classes: 16 to 128 by 16, then eight to a doubling, up to 256 KiB --------------------------- */
#define KMALLOC_MIN_SIZE      16u
#define KMALLOC_MAX_SIZE      (256u << 10)	/* beyond: kmalloc_large(), then vmalloc */
#define KMALLOC_LARGE_MAX     (2ul << 20)
#define NR_KMALLOC_CLASSES    97		/* class 0 is the slow path */

/*
 * One size class, the kernel's struct kmem_cache. Constant after boot.
 */
struct kmem_cache {
	u32 size;		/* bytes of an object */
	u16 sheaf_capacity;	/* objects of a sheaf at first, at most 61 */
	u16 chain_max;		/* full sheaves a CPU keeps below the one in use, at least (sheaf.c) */
	u16 nr_objects;		/* of a slab */
	u16 nr_pages;		/* of a slab */
	u64 inverse;		/* ceil(2^48 / size): division by multiplication */
};
extern struct kmem_cache kmalloc_caches[NR_KMALLOC_CLASSES];

/*
 * Whoever is given a class below this line may be given one of a memory group: cls | colour << MAP_COLOUR_SHIFT, which is
 * the number of its slots. Colour 0, the root group's, is the plain class.
 */
static inline struct kmem_cache *cache_of(unsigned cls)
{
	return &kmalloc_caches[cls & MAP_CLASS_MASK];
}

/*
 * Size to class. Up to 1 KiB in steps of 16 bytes, beyond in eighths of a power of two. Whoever must see every
 * allocation (profile, groups) points the entries of size_index, which the fast paths read, to class 0, whose slot always
 * leads to the slow path; those of kmalloc_index stay.
 */
#define SIZE_INDEX_SMALL 1024u
#define SIZE_INDEX_ENTRIES (65 + 8 * 8)
extern u8 size_index[SIZE_INDEX_ENTRIES], kmalloc_index[SIZE_INDEX_ENTRIES];

/* Index into size_index for sizes above SIZE_INDEX_SMALL and up to KMALLOC_MAX_SIZE. */
static __always_inline size_t size_index_large(size_t n)
{
	unsigned lg = ilog2(n - 1);

	return 65 + (lg - 10) * 8 + (((n - 1) >> (lg - 3)) & 7);
}

/* Into either table. False: larger than any class. */
static __always_inline bool size_to_index(size_t n, size_t *i)
{
	if (likely(n <= SIZE_INDEX_SMALL))
		*i = (n + 15) >> 4;
	else if (likely(n <= KMALLOC_MAX_SIZE))
		*i = size_index_large(n);
	else
		return false;
	return true;
}

/* n at most KMALLOC_MAX_SIZE. */
static __always_inline unsigned kmalloc_class(size_t n)
{
	return kmalloc_index[likely(n <= SIZE_INDEX_SMALL) ? (n + 15) >> 4 : size_index_large(n)];
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

#endif
