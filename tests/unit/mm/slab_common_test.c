/* SPDX-License-Identifier: MIT */
/* slab_common_test.c - the table of size classes: what fits, what is wasted, what describing it costs. */
#include "../../../lib/mm/internal.h"

#include "../boot.h"

TestSuite(slab_common, .init = create_kmalloc_caches, .timeout = 30);

#define for_each_class(c) for (unsigned c = 1; c < NR_KMALLOC_CLASSES; c++)

Test(slab_common, sizes_rise_in_eighths)
{
	for_each_class(c) {
		u32 size = kmalloc_caches[c].size, below = kmalloc_caches[c - 1].size;

		cr_assert_gt(size, below);
		cr_assert(IS_ALIGNED(size, 16));
		if (below >= 128)
			cr_assert_leq(size - below, below / 8, "%u", size);
	}
	cr_assert_eq(kmalloc_caches[1].size, KMALLOC_MIN_SIZE);
	cr_assert_eq(kmalloc_caches[NR_KMALLOC_CLASSES - 1].size, KMALLOC_MAX_SIZE);
}

/* Every size: the smallest class that holds it, so at most an eighth and 16 bytes too much. */
Test(slab_common, every_size_has_the_right_class)
{
	for (size_t n = 0; n <= KMALLOC_MAX_SIZE; n++) {
		unsigned c = kmalloc_class(n);

		cr_assert(c >= 1 && c < NR_KMALLOC_CLASSES, "%zu", n);
		cr_assert_geq(kmalloc_caches[c].size, n);
		cr_assert(c == 1 || kmalloc_caches[c - 1].size < n, "%zu: a smaller class would do", n);
		cr_assert_leq(kmalloc_caches[c].size - n, n / 8 + 16);
	}
}

Test(slab_common, index_limits)
{
	for (unsigned i = 1; i < SIZE_INDEX_ENTRIES; i++) {
		cr_assert_gt(size_index_limit(i), size_index_limit(i - 1));
		if (i > 64) {
			cr_assert_eq(size_index_large(size_index_limit(i)), i);
			cr_assert_eq(size_index_large(size_index_limit(i - 1) + 1), i);
		}
	}
	cr_assert_eq(size_index_limit(SIZE_INDEX_ENTRIES - 1), KMALLOC_MAX_SIZE);
	cr_assert_eq(size_index_limit(64), SIZE_INDEX_SMALL);
}

/* Division by multiplication, for every byte of every slab. */
Test(slab_common, obj_to_index_is_exact)
{
	for_each_class(c) {
		const struct kmem_cache *s = &kmalloc_caches[c];
		size_t bytes = (size_t)s->nr_pages << PAGE_SHIFT;
		unsigned want = 0;

		for (size_t off = 0, in = 0; off < bytes; off++, in++) {
			if (in == s->size) {
				in = 0;
				want++;
			}
			cr_assert_eq(obj_to_index(s, off), want, "class %u, byte %zu", c, off);
		}
	}
}

Test(slab_common, slabs)
{
	for_each_class(c) {
		const struct kmem_cache *s = &kmalloc_caches[c];
		u32 bytes = (u32)s->nr_pages << PAGE_SHIFT;

		cr_assert_geq(s->nr_pages, 1);
		cr_assert_eq(s->nr_objects, bytes / s->size);
		cr_assert_leq(s->nr_objects, 256, "the bitmap has that many bits");
		cr_assert_leq(bytes, KIB(256) + KIB(64));
		cr_assert(s->size > KIB(16) || s->nr_objects >= 2, "%u bytes", s->size);
		cr_assert(s->nr_objects >= 1);
		cr_assert_leq((bytes - (u32)s->nr_objects * s->size) * 10, bytes, "%u bytes waste a tenth", s->size);
		if (!is_power_of_2(s->nr_pages))
			cr_assert_leq((bytes - (u32)s->nr_objects * s->size) * 32, bytes, "%u bytes in %u pages", s->size, s->nr_pages);
	}
}

Test(slab_common, sheaves_are_bounded)
{
	for_each_class(c) {
		const struct kmem_cache *s = &kmalloc_caches[c];
		u32 bytes = s->size * s->sheaf_capacity;

		cr_assert(s->sheaf_capacity >= 1 && s->sheaf_capacity <= SHEAF_MAX_CAPACITY);
		cr_assert(bytes <= KIB(32) || s->sheaf_capacity == (s->size <= KIB(64) ? 2 : 1), "%u bytes", s->size);
		cr_assert_leq(bytes * s->chain_max, KIB(32));
		cr_assert(s->chain_max || bytes > KIB(32) / 2, "%u bytes", s->size);
	}
}

/* struct page and the map for every page, a bitmap where there are more than 64 objects. */
static double metadata_share(const struct kmem_cache *s)
{
	double bytes = s->nr_pages * (sizeof(struct page) + sizeof(map_entry_t));

	if (s->nr_objects > 64)
		bytes += s->nr_objects <= 128 ? 16 : 32;
	return bytes / ((double)s->nr_pages * PAGE_SIZE);
}

/* Every class has the same share of a mixed heap here; the worst alone. */
Test(slab_common, metadata)
{
	double sum = 0, worst = 0;

	for_each_class(c) {
		double share = metadata_share(&kmalloc_caches[c]);

		sum += share;
		worst = max(worst, share);
	}
	cr_assert_leq(worst, 0.017, "worst class %.4f", worst);
	cr_assert_leq(sum / (NR_KMALLOC_CLASSES - 1), 0.010, "mixed %.4f", sum / (NR_KMALLOC_CLASSES - 1));
	cr_assert_eq(metadata_share(&kmalloc_caches[1]), worst, "the smallest objects cost most");
}
