/* SPDX-License-Identifier: MIT */
/*
 * slab_common.c - the table of size classes.
 *
 * Purpose. Decides once, at boot, for every class: how many pages a slab has, how many objects, how many objects a
 * sheaf holds, how many full sheaves a CPU keeps at least.
 *
 * Slabs. At most 64 objects where it can be (their bitmap then fits into struct page), at most 16 KiB for small
 * objects, at least two objects up to 16 KiB. The page count is a power of two if that wastes at most a tenth, since
 * those come from the per-CPU page lists; otherwise exactly what the objects need.
 *
 * Sheaves are bounded by bytes, not by count. What a CPU keeps begins at SHEAF_BYTES and CHAIN_BYTES for each class and
 * grows where a program goes up and down by more (sheaf.c).
 *
 * Kernel counterpart. mm/slab_common.c (kmalloc_info), mm/slub.c (calculate_order).
 */
#include "base/param.h"
#include "internal.h"

#define SLAB_TARGET	KIB(16)
#define SHEAF_BYTES	KIB(32)
#define CHAIN_BYTES	KIB(32)
#define PAIRS_BYTES	KIB(64)		/* objects of up to that size come in twos at least */

struct kmem_cache kmalloc_caches[NR_KMALLOC_CLASSES];
u8 size_index[SIZE_INDEX_ENTRIES], kmalloc_index[SIZE_INDEX_ENTRIES];

static u32 class_size(unsigned cls)
{
	if (cls <= 8)
		return cls * 16;

	unsigned group = (cls - 9) / 8, step = (cls - 9) % 8 + 1;

	return (128u << group) + (16u << group) * step;
}

static bool wastes_little(u32 bytes, u32 size, u32 share)
{
	return bytes >= size && bytes % size <= bytes / share;
}

static u32 slab_pages(u32 size)
{
	u32 target = size <= 64 ? PAGE_SIZE : max((u32)SLAB_TARGET, size * 2);

	/* Powers of two from the largest sensible to the smallest. */
	for (u32 bytes = (u32)roundup_pow_of_two(target); bytes >= PAGE_SIZE; bytes /= 2)
		if (bytes <= KIB(128) && (size <= 48 || bytes / size <= 64) && bytes / size >= 2 &&
		    wastes_little(bytes, size, 10))
			return bytes >> PAGE_SHIFT;
	/* Exactly so many pages that little is left over. */
	for (u32 pages = max(1u, (size * (size <= KIB(16) ? 4 : 1)) >> PAGE_SHIFT);; pages++)
		if (wastes_little(pages << PAGE_SHIFT, size, 32))
			return pages;
}

static void init_class(struct kmem_cache *s, u32 size)
{
	s->size = size;
	s->nr_pages = (u16)slab_pages(size);
	s->nr_objects = (u16)(((u32)s->nr_pages << PAGE_SHIFT) / size);
	s->inverse = ((1ull << 48) + size - 1) / size;
	s->sheaf_capacity = (u16)clamp((u32)SHEAF_BYTES / size, size <= PAIRS_BYTES ? 2u : 1u, SHEAF_MAX_CAPACITY);
	s->chain_max = (u16)((u32)CHAIN_BYTES / (size * s->sheaf_capacity));
}

__init void create_kmalloc_caches(void)
{
	unsigned cls = 1;

	for (unsigned c = 1; c < NR_KMALLOC_CLASSES; c++)
		init_class(&kmalloc_caches[c], class_size(c));
	for (unsigned i = 0; i < SIZE_INDEX_ENTRIES; i++) {
		size_t largest = size_index_limit(i);

		while (kmalloc_caches[cls].size < largest)
			cls++;
		size_index[i] = kmalloc_index[i] = (u8)cls;
	}
}
