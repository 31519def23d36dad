/* SPDX-License-Identifier: MIT */
/* Large blocks: placement, reuse, resizing, purging, foreign mappings, no memory; a seeded stress with validators. */
#include "../areas.h"
#include "mm/vmap_range.h"
#include "page/reclaim.h"

TestSuite(vmalloc, .init = setup_region, .timeout = 120);

Test(vmalloc, fresh_block_reads_zero_and_has_a_guard)
{
	bool zeroed = false;
	char *p = vmalloc_aligned(MIB(3) + 1, 0, &zeroed);
	struct vmap_area va;
	struct vm_area_struct vma;

	cr_assert_not_null(p);
	cr_assert(zeroed);
	for (size_t i = 0; i < MIB(3); i += 4096)
		cr_assert_eq(p[i], 0);
	memset(p, 1, MIB(3) + 1);
	cr_assert(find_vmap_area(p + MIB(3), &va));
	cr_assert_eq(va.va_start, (uintptr_t)p);
	cr_assert_eq(va.requested, MIB(3) + 1);
	cr_assert_eq(vmalloc_usable(p), va.va_end - va.va_start);
	cr_assert_leq(vmalloc_usable(p), MIB(3) + MIB(3) / 16, "more than a sixteenth too much");
	cr_assert_eq(vmalloc_usable(p + 16), 0u);
	cr_assert(!is_mapped(va.va_end), "no guard");
	cr_assert(find_vma((uintptr_t)p, &vma));
	cr_assert_eq(vma.kind, VMA_KMM_VMALLOC);
	cr_assert_eq(vma.vm_end, va.va_end);
	vmalloc_validate();
}

Test(vmalloc, alignment)
{
	for (size_t align = 1; align <= GIB(1); align *= 2) {
		void *p = vmalloc_aligned(MIB(2), align, NULL);

		cr_assert_not_null(p);
		cr_assert(IS_ALIGNED((uintptr_t)p, align));
	}
	cr_assert(IS_ALIGNED((uintptr_t)vmalloc_aligned(MIB(5), 0, NULL), PAGEBLOCK_SIZE));
	vmalloc_validate();
}

Test(vmalloc, sizes_that_cannot_be)
{
	cr_assert_null(vmalloc_aligned(PTRDIFF_MAX, 0, NULL));
	cr_assert_null(vmalloc_aligned(SIZE_MAX, 0, NULL));
	cr_assert_null(vmalloc_aligned(REGION_SIZE, 0, NULL));
	cr_assert_null(vmalloc_aligned(MIB(1), 1ul << 47, NULL));
	cr_assert_not_null(vmalloc_aligned(0, 0, NULL));
	vmalloc_validate();
}

Test(vmalloc, a_freed_block_is_used_again)
{
	struct vmalloc_stat st;
	char *p = vmalloc_aligned(MIB(10), 0, NULL), *q;

	memset(p, 1, MIB(10));
	cr_assert_eq(vfree(p), 0);
	get_vmalloc_stat(&st);
	cr_assert_eq(st.nr_lazy, 1u);
	cr_assert_eq(st.lazy_bytes, MIB(10));
	cr_assert_eq(st.bytes, 0u);
	q = vmalloc_aligned(MIB(9), 0, NULL);
	cr_assert_eq(q, p);
	cr_assert_eq(q[0], 1, "as it is");
	get_vmalloc_stat(&st);
	cr_assert_eq(st.nr_lazy, 0u);
	vmalloc_validate();
}

Test(vmalloc, misuse_is_told)
{
	struct vmap_area va;
	char *p = vmalloc_aligned(MIB(3), 0, NULL);

	cr_assert_eq(vfree(p + 4096), -EINVAL);
	cr_assert_eq(vfree((void *)(REGION + GIB(1))), -EINVAL);
	cr_assert_eq(vfree(p), 0);
	cr_assert_eq(vfree(p), -EALREADY);
	cr_assert(!find_vmap_area(p, &va));
	cr_assert(!find_vmap_area(NULL, &va));
	cr_assert(!find_vmap_area(&va, &va));
	cr_assert_null(vrealloc(p, MIB(4)));
	vmalloc_validate();
}

Test(vmalloc, a_foreign_mapping_is_not_replaced)
{
	char *foreign = mmap((void *)(REGION + MIB(8)), MIB(64), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	char *p, *q;

	cr_assert_eq(foreign, (char *)REGION + MIB(8));
	memset(foreign, 5, MIB(64));
	p = vmalloc_aligned(MIB(4), 0, NULL);
	cr_assert_eq(p, (char *)REGION);
	q = vrealloc(p, MIB(16));
	cr_assert_not_null(q);
	cr_assert(q >= foreign + MIB(64));
	for (unsigned i = 0; i < 20; i++) {
		p = vmalloc_aligned(MIB(6), 0, NULL);
		cr_assert_not_null(p);
		cr_assert(p >= foreign + MIB(64) || p + MIB(6) <= foreign);
		memset(p, 1, MIB(6));
	}
	for (size_t i = 0; i < MIB(64); i += 4096)
		cr_assert_eq(foreign[i], 5);
	vmalloc_validate();
}

Test(vmalloc, purge_by_age)
{
	struct vmalloc_stat st;
	struct vm_area_struct vma;
	char *p = vmalloc_aligned(MIB(4), 0, NULL), *q = vmalloc_aligned(MIB(4), 0, NULL), *r;

	r = vmalloc_aligned(MIB(40), 0, NULL);
	vfree(p);
	for (u64 start = os_clock_ms(); os_clock_ms() < start + 60;)
		os_yield();
	vfree(q);
	cr_assert_eq(purge_vmap_area_lazy(50), MIB(4));
	cr_assert(!is_mapped((uintptr_t)p));
	cr_assert(is_mapped((uintptr_t)q));
	kmm_params.decay_ms = 0;
	cr_assert_eq(vfree(r), 0);
	get_vmalloc_stat(&st);
	cr_assert_eq(st.nr_lazy, 0u);
	cr_assert(!find_vma((uintptr_t)p, &vma));
	vmalloc_validate();
}

static struct scan_control slice_pass(void)
{
	struct scan_control sc = SCAN_ALL((u32)os_clock_ms());

	sc.kswapd = true;
	return sc;
}

/* The background thread takes the oldest first, from its end; what is left can still be used. */
Test(vmalloc, in_slices)
{
	struct scan_control sc;
	char *p = new_block(MIB(9), 1), *q = new_block(MIB(16), 2), *between = new_block(MIB(3), 3);

	vfree(p);
	for (u64 start = os_clock_ms(); os_clock_ms() < start + 30;)
		os_yield();
	vfree(q);
	sc = slice_pass();
	sc.max_age_ms = 1000000;
	cr_assert(!shrink_vmap_area_lazy(&sc), "none is old");
	cr_assert_leq(sc.next_ms, 1000000u - 20);
	sc = slice_pass();
	cr_assert(shrink_vmap_area_lazy(&sc));
	cr_assert(shrink_vmap_area_lazy(&sc));
	cr_assert_eq(sc.nr_reclaimed, MIB(4));
	cr_assert_eq(vmap_lazy_bytes(), MIB(9) + MIB(16) - MIB(4));
	cr_assert(!is_mapped((uintptr_t)p + MIB(5)));
	cr_assert(pages_are_tagged(p, MIB(5), 1));
	vmalloc_validate();
	mm_validate();
	cr_assert_eq(vmalloc_aligned(MIB(5), 0, NULL), p);
	cr_assert(pages_are_tagged(p, MIB(5), 1));
	cr_assert_eq(mlock(q + MIB(15), MIB(1)), 0);
	while (shrink_vmap_area_lazy(&sc))
		vmalloc_validate();
	cr_assert_eq(sc.nr_reclaimed, MIB(4) + MIB(16));
	cr_assert(!is_mapped((uintptr_t)q));
	cr_assert(pages_are_tagged(p, MIB(5), 1) && pages_are_tagged(between, MIB(3), 3));
	cr_assert_eq(vmap_lazy_bytes(), 0u);
	mm_validate();
}

/* What is left of an area keeps its age. */
Test(vmalloc, oldest_first)
{
	struct scan_control sc;
	char *p = new_block(MIB(16), 1), *q = new_block(MIB(3), 2);

	vfree(p);
	for (u64 start = os_clock_ms(); os_clock_ms() < start + 30;)
		os_yield();
	vfree(q);
	p = vmalloc_aligned(MIB(10), 0, NULL);
	cr_assert_eq(vmap_lazy_bytes(), MIB(6) + MIB(3));
	sc = slice_pass();
	sc.max_age_ms = 25;
	while (shrink_vmap_area_lazy(&sc))
		vmalloc_validate();
	cr_assert_eq(vmap_lazy_bytes(), MIB(3), "the young one stays");
	cr_assert(pages_are_tagged(q, MIB(3), 2));
}

/* As much as is in use may stay, or what the kernel's lazy_max_pages() says. */
Test(vmalloc, lazy_bytes_have_a_limit)
{
	struct vmalloc_stat st;
	void *p[100];

	for (unsigned i = 0; i < 100; i++)
		p[i] = vmalloc_aligned(MIB(16), 0, NULL);
	for (unsigned i = 0; i < 100; i++) {
		vfree(p[i]);
		get_vmalloc_stat(&st);
		cr_assert_leq(st.lazy_bytes, max(st.bytes, MIB(32) * 11));
		if (i == 49)
			cr_assert_eq(st.lazy_bytes, st.bytes);
	}
	cr_assert_eq(st.nr_areas, 0u);
	cr_assert_geq(st.lazy_bytes, MIB(16));
	cr_assert_eq(st.peak_bytes, MIB(1600));
	vmalloc_validate();
}

Test(vmalloc, no_memory)
{
	void *p = vmalloc_aligned(MIB(4), 0, NULL), *q = vmalloc_aligned(MIB(4), 0, NULL);

	os_fault_every = 1;
	cr_assert_null(vmalloc_aligned(MIB(4), 0, NULL));
	cr_assert_null(vrealloc(p, MIB(16)));
	vfree(q);
	os_fault_every = 2;
	for (unsigned i = 0; i < 50; i++) {
		void *r = vmalloc_aligned(MIB(3) + i * 4096, 0, NULL);

		if (r != NULL)
			memset(r, 1, 4096);
		vmalloc_validate();
	}
	os_fault_every = 0;
	cr_assert_eq(vmalloc_usable(p), MIB(4));
	cr_assert_not_null(vmalloc_aligned(MIB(4), 0, NULL));
	vmalloc_validate();
	mm_validate();
}

Test(vmalloc, free_space_merges)
{
	struct vmap_space space;
	uintptr_t p[64];

	cr_assert_eq(vmap_space_init(&space, MIB(64), MIB(128)), 0);
	for (unsigned i = 0; i < 64; i++) {
		p[i] = __alloc_vmap_range(&space, KIB(512), PAGE_SIZE);
		cr_assert_eq(p[i], MIB(64) + i * KIB(512), "lowest first");
	}
	for (unsigned i = 0; i < 64; i += 2)
		__free_vmap_range(&space, p[i], KIB(512));
	cr_assert_eq(vmap_space_validate(&space), MIB(32) + MIB(16));
	cr_assert_eq(__alloc_vmap_range(&space, MIB(1), PAGE_SIZE), MIB(96));
	cr_assert(!__alloc_vmap_range_at(&space, p[2], KIB(513)));
	cr_assert(__alloc_vmap_range_at(&space, p[2] + KIB(4), KIB(8)));
	__free_vmap_range(&space, p[2] + KIB(4), KIB(8));
	__free_vmap_range(&space, MIB(96), MIB(1));
	for (unsigned i = 1; i < 64; i += 2)
		__free_vmap_range(&space, p[i], KIB(512));
	cr_assert_eq(vmap_space_validate(&space), MIB(64));
	__forget_vmap_range(&space, MIB(80), MIB(112));
	cr_assert_eq(vmap_space_validate(&space), MIB(32));
	cr_assert_eq(__alloc_vmap_range(&space, MIB(20), PAGE_SIZE), 0u);
	cr_assert_eq(__alloc_vmap_range(&space, MIB(16), MIB(16)), MIB(64));
}

/* --- stress: each page of a block is tagged with the block's number, and checked whenever it is touched ---- */

#define NR_BLOCKS 24

struct worker {
	u64 seed;
	u32 steps;
	struct { char *p; size_t size; } block[NR_BLOCKS];
};

static void step(struct worker *w)
{
	u32 i = rng_below(&w->seed, NR_BLOCKS), what = rng_below(&w->seed, 5);
	size_t size = KIB(256) + (size_t)rng_below(&w->seed, 4096) * KIB(2);
	char *p = w->block[i].p;
	bool zeroed = false;

	if (p == NULL) {
		p = vmalloc_aligned(size, what == 0 ? MIB(2) : 0, what == 1 ? &zeroed : NULL);
		CHECK(p != NULL && zeroed == (what == 1));
		if (zeroed)
			CHECK(reads_zero(p, size));
		tag_pages(p, 0, size, i);
	} else if (what == 0) {
		p = vrealloc(p, size);
		CHECK(p != NULL && pages_are_tagged(p, min(size, w->block[i].size), i));
		tag_pages(p, 0, size, i);
	} else {
		CHECK(pages_are_tagged(p, w->block[i].size, i));
		CHECK(vfree(p) == 0);
		p = NULL;
	}
	w->block[i].p = p;
	w->block[i].size = size;
}

static void *work(void *arg)
{
	struct worker *w = arg;

	for (u32 i = 0; i < w->steps; i++) {
		step(w);
		if (i % 64 == 0)
			vmalloc_validate();
	}
	return NULL;
}

static void purger(struct worker *w, pthread_t *threads, unsigned nr)
{
	for (unsigned i = 0; i < nr; i++)
		cr_assert_eq(pthread_create(&threads[i], NULL, work, &w[i]), 0);
	for (unsigned i = 0; i < 20; i++) {
		purge_vmap_area_lazy(0);
		mm_validate();
		vmalloc_validate();
		os_yield();
	}
	for (unsigned i = 0; i < nr; i++)
		pthread_join(threads[i], NULL);
}

Test(vmalloc, stress)
{
	static struct worker w[3] = { { .seed = 11, .steps = 600 }, { .seed = 12, .steps = 600 },
				      { .seed = 13, .steps = 600 } };
	pthread_t threads[3];
	struct vmalloc_stat st;

	purger(w, threads, 3);
	for (unsigned t = 0; t < 3; t++)
		for (unsigned i = 0; i < NR_BLOCKS; i++)
			if (w[t].block[i].p != NULL)
				cr_assert_eq(vfree(w[t].block[i].p), 0);
	purge_vmap_area_lazy(0);
	vmalloc_validate();
	get_vmalloc_stat(&st);
	cr_assert_eq(st.nr_areas + st.nr_lazy, 0u);
	cr_assert_eq(st.bytes + st.lazy_bytes + st.nr_seams, 0u);
	cr_assert_eq(init_mm.map_count, 0u);
}
