/* SPDX-License-Identifier: MIT */
/* slub_test.c - what a pointer is, large blocks, every size at random, in both modes. */
#include "../../../lib/mm/internal.h"

#include "../boot.h"
#include "mm/gate.h"
#include "page/reclaim.h"
#include "page/vmstat.h"

TestSuite(slub, .init = boot_auto, .timeout = 120);
TestSuite(slub_lock, .init = boot_lock, .timeout = 120);

static u64 managed(void)
{
	return zones[ZONE_BRK].managed_pages + zones[ZONE_NORMAL].managed_pages;
}

/* As the slow path of malloc and free do it. */
static void *alloc_any(size_t size)
{
	return size <= KMALLOC_MAX_SIZE ? kmalloc(size) : kmalloc_large(size, 0, NULL);
}

static void all_back(void)
{
	gate_enter();
	try_to_free_pages(0);
	gate_leave();
	slab_validate_all();
	vmalloc_validate();
	cr_assert_eq(nr_free_pages(), managed());
}

/* --- classes --------------------------------------------------------------------------------------------------- */

/* --- sizes ---------------------------------------------------------------------------------------------------- */

Test(slub, every_class_is_usable_to_the_last_byte)
{
	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++) {
		u32 size = kmalloc_caches[cls].size;
		char *p = kmalloc(size), *q = kmalloc(size);

		cr_assert(p && q);
		cr_assert_eq(ksize(p), size);
		memset(p, 1, size);
		memset(q, 2, size);
		cr_assert(p[0] == 1 && p[size - 1] == 1 && q[0] == 2 && q[size - 1] == 2);
		cr_assert(IS_ALIGNED((uintptr_t)p, 16));
		cr_assert(!is_power_of_2(size) || IS_ALIGNED((uintptr_t)p, min(size, (u32)PAGE_SIZE)), "%u", size);
		kfree(p);
		kfree(q);
	}
	slab_validate_all();
	all_back();
}

Test(slub, size_zero)
{
	char *p = kmalloc(0), *q = kmalloc(0);

	cr_assert(p && q && p != q);
	cr_assert_eq(ksize(p), KMALLOC_MIN_SIZE);
	kfree(p);
	kfree(q);
}

/* --- large blocks --------------------------------------------------------------------------------------------- */

Test(slub, large_blocks)
{
	for (size_t size = KMALLOC_MAX_SIZE + 1; size <= KMALLOC_LARGE_MAX; size += size / 7) {
		u64 before = nr_free_pages() + nr_pcp_pages(), grown = managed();
		char *p = kmalloc_large(size, 0, NULL);

		cr_assert_not_null(p);
		cr_assert(virt_addr_valid(p));
		cr_assert(IS_ALIGNED((uintptr_t)p, PAGE_SIZE));
		cr_assert_eq(ksize(p), PAGE_ALIGN(size));
		cr_assert_eq(before + (managed() - grown) - nr_free_pages() - nr_pcp_pages(), PAGE_ALIGN(size) >> PAGE_SHIFT,
			     "nothing is rounded up to a power of two");
		memset(p, 3, size);
		kfree(p);
		slab_validate_all();
	}
	all_back();
}

Test(slub, large_alignment)
{
	for (size_t align = PAGE_SIZE; align <= MIB(16); align *= 2) {
		for (size_t size = 1; size <= MIB(4); size = size * 9 + 1) {
			char *p = kmalloc_large(size, align, NULL);

			cr_assert_not_null(p);
			cr_assert(IS_ALIGNED((uintptr_t)p, align), "%zu of %zu: %p", align, size, p);
			cr_assert_geq(ksize(p), size);
			p[0] = p[size - 1] = 1;
			kfree(p);
		}
	}
	slab_validate_all();
	all_back();
}

/* Memory that is said to read as zeroes does, however dirty it was left. */
Test(slub, zeroed_is_zero)
{
	u64 r = rng_of(1);
	unsigned zeroes = 0;

	kmm_params.decay_ms = 0;
	for (int n = 0; n < 300; n++) {
		size_t size = KMALLOC_MAX_SIZE + 1 + rng_below(&r, MIB(3));
		bool zeroed = true;
		char *p = kmalloc_large(size, 0, &zeroed);

		cr_assert_not_null(p);
		for (size_t i = 0; zeroed && i < size; i += 8)
			cr_assert_eq(p[i], 0);
		zeroes += zeroed;
		memset(p, 0xff, ksize(p));
		kfree(p);
		if (n % 8 == 0)
			try_to_free_pages(0);
	}
	cr_assert_gt(zeroes, 20u);
}

Test(slub, absurd_sizes)
{
	cr_assert_null(kmalloc_large(SIZE_MAX, 0, NULL));
	cr_assert_null(kmalloc_large((size_t)PTRDIFF_MAX + 1, 0, NULL));
	cr_assert_null(kmalloc_large(PTRDIFF_MAX, 0, NULL));
	cr_assert_null(kmalloc_large(1ul << 46, 0, NULL));
	cr_assert_null(kmalloc_large(1, 1ul << 62, NULL));
	cr_assert_geq(global_vm_event(VM_alloc_fail), 4u);
	cr_assert_not(gate_is_inside());
	all_back();
}

Test(slub, shrinking_in_place)
{
	char *p = kmalloc_large(MIB(2), 0, NULL);
	u64 used = managed() - nr_free_pages() - nr_pcp_pages();

	memset(p, 5, MIB(2));
	cr_assert_eq(krealloc_large(p, MIB(1) + 1), p);
	cr_assert_eq(ksize(p), MIB(1) + PAGE_SIZE);
	cr_assert_eq(managed() - nr_free_pages() - nr_pcp_pages(), used - (MIB(1) - PAGE_SIZE) / PAGE_SIZE);
	cr_assert_null(krealloc_large(p, MIB(2)), "it cannot grow");
	cr_assert_null(krealloc_large(p, 1000), "that is for slabs");
	cr_assert_eq(ksize(p), MIB(1) + PAGE_SIZE);
	cr_assert_eq(krealloc_large(p, KIB(300)), p);
	cr_assert(p[0] == 5 && p[KIB(300) - 1] == 5);
	slab_validate_all();
	kfree(p);
	all_back();
}

/* --- classify ------------------------------------------------------------------------------------------------- */

static enum addr_kind kind_of(const void *p)
{
	struct addr_info info;

	classify_address(p, &info);
	return info.kind;
}

Test(slub, classify)
{
	static int global;
	struct addr_info i;
	char *small = kmalloc(100), *large = kmalloc_large(MIB(1), 0, NULL), *huge = kmalloc_large(MIB(5), 0, NULL);
	char *boot = memblock_boot_object(100, 16), *freed = kmalloc(5000), *stays = kmalloc(5000);
	int local;

	classify_address(small, &i);
	cr_assert(i.kind == ADDR_OBJECT && i.base == small && i.size == 112 && i.cls == kmalloc_class(100));
	classify_address(small + 111, &i);
	cr_assert(i.kind == ADDR_INTERIOR && i.base == small && i.size == 112);
	classify_address(large, &i);
	cr_assert(i.kind == ADDR_LARGE && i.base == large && i.size == MIB(1));
	classify_address(huge + MIB(4), &i);
	cr_assert(i.kind == ADDR_VMALLOC && i.base == huge && i.size == MIB(5));
	cr_assert_eq(kind_of(boot), ADDR_BOOT);
	cr_assert_eq(kind_of(&global), ADDR_FOREIGN);
	cr_assert_eq(kind_of(&local), ADDR_FOREIGN);
	cr_assert_eq(kind_of(NULL), ADDR_FOREIGN);
	cr_assert_eq(kind_of((void *)-1), ADDR_FOREIGN);
	cr_assert_eq(kind_of(pfn_to_virt(zones[ZONE_BRK].start_pfn - 1)), ADDR_METADATA);
	cr_assert_eq(ksize(&global), 0u);
	cr_assert_eq(ksize(NULL), 0u);
	kfree(freed);
	cr_assert_eq(kind_of(freed), ADDR_OBJECT, "the slab thinks so until the sheaf is emptied");
	kmem_cache_shrink_all();
	cr_assert_eq(kind_of(freed), ADDR_FREE_OBJECT);
	kfree(stays);
	kmem_cache_shrink_all();
	drain_all_pages();
	cr_assert_eq(kind_of(freed), ADDR_FREE_PAGE);
	kfree(large);
	drain_all_pages();
	cr_assert_eq(kind_of(large), ADDR_FREE_PAGE);
	cr_assert_eq(kind_of(large + KIB(777)), ADDR_FREE_PAGE);
}

/* Interior of large blocks: the message names the block. */
Test(slub, classify_the_middle_of_a_large_block)
{
	struct addr_info i;
	char *large = kmalloc_large(MIB(1), 0, NULL);

	classify_address(large + PAGE_SIZE - 1, &i);
	cr_assert(i.kind == ADDR_LARGE && i.base == large);
	classify_address(large + KIB(500), &i);
	cr_assert_neq(i.kind, ADDR_OBJECT);
	cr_assert_neq(i.kind, ADDR_FREE_PAGE);
}

/* Any address in and around the window can be asked for, while all kinds of blocks exist. */
/* Pages where no object begins are blank; what lies there belongs to the object all the same. */
Test(slub, classify_the_middle_of_an_object)
{
	static const size_t sizes[] = { KIB(4), KIB(6), KIB(20), KIB(24), KIB(40), KIB(120), KIB(256) };
	struct addr_info i;

	for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
		for (unsigned nr = 0; nr < 4; nr++) {
			char *p = kmalloc(sizes[k]);

			for (size_t off = 1; off < sizes[k]; off += 511) {
				classify_address(p + off, &i);
				cr_assert(i.kind == ADDR_INTERIOR && i.base == p && i.size == ksize(p), "%zu + %zu", sizes[k], off);
			}
		}
	}
	slab_validate_all();
}

Test(slub, classify_anything)
{
	uintptr_t lo = direct_map.start - MIB(1), hi;
	u64 r = rng_of(4);
	struct addr_info i;

	for (int n = 0; n < 3000; n++)
		alloc_any(rng_below(&r, 20) ? rng_below(&r, 3000) : rng_below(&r, MIB(3)));
	hi = direct_map.start + direct_map.limit16 * 16 + MIB(1);
	for (int n = 0; n < 2000000; n++) {
		void *p = (void *)(lo + rng_next(&r) % (rng_below(&r, 2) ? MIB(40) : hi - lo));

		classify_address(p, &i);
		cr_assert_lt(i.kind, NR_ADDR_KINDS);
		cr_assert(i.kind != ADDR_OBJECT || i.base == p);
		cr_assert(i.kind != ADDR_INTERIOR || ((char *)i.base < (char *)p && (char *)p < (char *)i.base + i.size));
		cr_assert(i.kind == ADDR_OBJECT || i.kind == ADDR_LARGE || i.kind == ADDR_INTERIOR ||
			  i.kind == ADDR_FREE_OBJECT || i.kind == ADDR_METADATA || i.kind == ADDR_VMALLOC || i.size == 0);
	}
}

Test(slub, objects_of_the_boot_can_be_freed)
{
	char *p = memblock_boot_object(100, 16);

	cr_assert_eq(ksize(p), 100u);
	kfree(p);
	kfree(p);
	memset(p, 1, 100);
}

/* --- random --------------------------------------------------------------------------------------------------- */

enum { NR_BLOCKS = 1500 };

struct block {
	char *p;
	size_t size;
};

static void fill(struct block *b)
{
	u64 tag = (uintptr_t)b->p * 31 + b->size;

	if (b->size >= 16) {
		memcpy(b->p, &tag, 8);
		memcpy(b->p + b->size - 8, &tag, 8);
	}
}

static void check(const struct block *b)
{
	u64 tag = (uintptr_t)b->p * 31 + b->size;

	CHECK(b->size < 16 || (memcmp(b->p, &tag, 8) == 0 && memcmp(b->p + b->size - 8, &tag, 8) == 0));
}

static size_t some_size(u64 *r)
{
	u32 what = rng_below(r, 100);

	return what < 80 ? rng_below(r, 500) : what < 95 ? rng_below(r, 50000) : what < 99 ? rng_below(r, MIB(1))
											   : rng_below(r, MIB(4));
}

static void random_blocks(struct block *blocks, unsigned nr, u64 *r, unsigned nr_rounds)
{
	for (unsigned n = 0; n < nr_rounds; n++) {
		struct block *b = &blocks[rng_below(r, nr)];

		if (b->p) {
			check(b);
			kfree(b->p);
			b->p = NULL;
			continue;
		}
		b->size = some_size(r);
		b->p = alloc_any(b->size);
		CHECK(b->p);
		CHECK(ksize(b->p) >= b->size);
		fill(b);
	}
}

static void free_blocks(struct block *blocks, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++) {
		if (blocks[i].p) {
			check(&blocks[i]);
			kfree(blocks[i].p);
		}
		blocks[i].p = NULL;
	}
}

static void random_run(u64 stream)
{
	static struct block blocks[NR_BLOCKS];
	u64 r = rng_of(stream);

	for (unsigned n = 0; n < 100; n++) {
		random_blocks(blocks, NR_BLOCKS, &r, rounds(400));
		slab_validate_all();
		if (n % 16 == 0)
			vmalloc_validate();
		if (n % 10 == 9)
			try_to_free_pages(rng_below(&r, MIB(1)));
	}
	free_blocks(blocks, NR_BLOCKS);
	all_back();
}

Test(slub, random_1) { random_run(1); }
Test(slub, random_2) { random_run(2); }
Test(slub_lock, random) { random_run(3); }

static void *random_thread(void *arg)
{
	static struct block all[MAX_THREADS][400];
	struct block *blocks = all[(uintptr_t)arg];
	u64 r = rng_of(30 + (uintptr_t)arg);

	for (unsigned n = 0; n < 20; n++) {
		random_blocks(blocks, 400, &r, rounds(800));
		pin_to(rng_below(&r, 64));
		if (rng_below(&r, 4) == 0) {
			gate_enter();
			try_to_free_pages(0);
			gate_leave();
		}
	}
	free_blocks(blocks, 400);
	return NULL;
}

Test(slub, threads)
{
	run_threads(6, random_thread);
	all_back();
}

Test(slub_lock, threads)
{
	run_threads(6, random_thread);
	all_back();
}
