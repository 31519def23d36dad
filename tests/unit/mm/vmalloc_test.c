/* SPDX-License-Identifier: MIT */
/* Large blocks: placement, reuse, resizing, purging, foreign mappings, no memory; a seeded stress with validators. */
#include "mm/vmalloc.h"

#include "base/align.h"
#include "base/param.h"
#include "mm/mm_struct.h"
#include "mm/vmap_range.h"
#include "os/os.h"
#include "os/vm.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <pthread.h>
#include <string.h>
#include <sys/mman.h>

#define REGION	    0x300000000000ul
#define REGION_SIZE GIB(64)

static void setup(void)
{
	os_init();
	kmm_params.decay_ms = 1000000;
	cr_assert_eq(vmalloc_init(REGION, REGION + REGION_SIZE), 0);
}

TestSuite(vmalloc, .init = setup);

static u32 random_u32(u64 *seed)
{
	*seed = *seed * 6364136223846793005u + 1442695040888963407u;
	return (u32)(*seed >> 33);
}

static bool is_mapped(uintptr_t addr)
{
	return vm_resident((void *)ALIGN_DOWN(addr, os_page_size), os_page_size) >= 0;
}

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
	cr_assert_eq(vmalloc_usable(p), ALIGN(MIB(3) + 1, os_page_size));
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
	bool zeroed = true;
	char *p = vmalloc_aligned(MIB(10), 0, NULL), *q;

	memset(p, 1, MIB(10));
	cr_assert_eq(vfree(p), 0);
	get_vmalloc_stat(&st);
	cr_assert_eq(st.nr_lazy, 1u);
	cr_assert_eq(st.lazy_bytes, MIB(10));
	cr_assert_eq(st.bytes, 0u);
	q = vmalloc_aligned(MIB(9), 0, &zeroed);
	cr_assert_eq(q, p);
	cr_assert(!zeroed);
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

Test(vmalloc, a_larger_one_is_split)
{
	struct vmalloc_stat st;
	char *p = vmalloc_aligned(MIB(32), 0, NULL), *q;

	memset(p, 1, MIB(32));
	vfree(p);
	q = vmalloc_aligned(MIB(8), 0, NULL);
	cr_assert_eq(q, p);
	get_vmalloc_stat(&st);
	cr_assert_eq(st.nr_lazy, 1u, "the rest stays lazy");
	cr_assert_leq(st.bytes, MIB(10));
	cr_assert_geq(st.lazy_bytes, MIB(21));
	cr_assert(!is_mapped((uintptr_t)q + vmalloc_usable(q)), "no guard between");
	memset(q, 2, vmalloc_usable(q));
	vmalloc_validate();
}

Test(vmalloc, a_smaller_one_grows)
{
	struct vmalloc_stat st;
	bool zeroed = true;
	char *p = vmalloc_aligned(MIB(8), 0, NULL), *q;

	memset(p, 1, MIB(8));
	vfree(p);
	q = vmalloc_aligned(MIB(12), 0, &zeroed);
	cr_assert_not_null(q);
	cr_assert(!zeroed);
	get_vmalloc_stat(&st);
	cr_assert_eq(st.nr_lazy, 0u);
	cr_assert_eq(q[0], 1, "its pages came along");
	memset(q, 2, MIB(12));
	vmalloc_validate();
}

Test(vmalloc, realloc_in_place_and_moving)
{
	char *p = vmalloc_aligned(MIB(4), 0, NULL), *blocker, *q;

	memset(p, 7, MIB(4));
	q = vrealloc(p, MIB(20));
	cr_assert_eq(q, p, "nothing is behind it");
	for (size_t i = 0; i < MIB(4); i += 4096)
		cr_assert_eq(q[i], 7);
	memset(q, 7, MIB(20));
	blocker = vmalloc_aligned(MIB(4), 0, NULL);
	cr_assert_gt(blocker, q);
	p = vrealloc(q, MIB(60));
	cr_assert_neq(p, q);
	cr_assert(IS_ALIGNED((uintptr_t)p, PAGEBLOCK_SIZE));
	for (size_t i = 0; i < MIB(20); i += 4096)
		cr_assert_eq(p[i], 7);
	for (size_t i = MIB(20); i < MIB(60); i += 4096)
		cr_assert_eq(p[i], 0);
	cr_assert(!is_mapped((uintptr_t)q));
	q = vrealloc(p, MIB(5));
	cr_assert_eq(q, p);
	cr_assert_eq(vmalloc_usable(q), MIB(5));
	cr_assert(!is_mapped((uintptr_t)q + MIB(5)));
	vmalloc_validate();
	mm_validate();
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

Test(vmalloc, lazy_bytes_have_a_limit)
{
	struct vmalloc_stat st;
	void *p[100];

	for (unsigned i = 0; i < 100; i++)
		p[i] = vmalloc_aligned(MIB(16), 0, NULL);
	for (unsigned i = 0; i < 100; i++)
		vfree(p[i]);
	get_vmalloc_stat(&st);
	cr_assert_eq(st.nr_areas, 0u);
	cr_assert_geq(st.lazy_bytes, MIB(16));
	cr_assert_leq(st.lazy_bytes, MIB(32) * 11);
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

/* --- stress: each block is filled with its number, and checked whenever it is touched ------------------ */

#define NR_BLOCKS 24

struct worker {
	u64 seed;
	u32 steps;
	struct { unsigned char *p; size_t size; } block[NR_BLOCKS];
};

static void stamp(unsigned char *p, size_t from, size_t to, unsigned char value)
{
	for (size_t i = ALIGN(from, 4096); i < to; i += 4096)
		p[i] = value;
}

static bool stamped(const unsigned char *p, size_t size, unsigned char value)
{
	for (size_t i = 0; i < size; i += 4096)
		if (p[i] != value)
			return false;
	return true;
}

static void step(struct worker *w)
{
	u32 i = random_u32(&w->seed) % NR_BLOCKS, what = random_u32(&w->seed) % 4;
	size_t size = KIB(256) + (size_t)(random_u32(&w->seed) % 4096) * KIB(2);
	unsigned char *p = w->block[i].p, value = (unsigned char)(i + 1);
	bool zeroed;

	if (p == NULL) {
		p = vmalloc_aligned(size, what == 0 ? MIB(2) : 0, &zeroed);
		cr_assert_not_null(p);
		if (zeroed)
			cr_assert(stamped(p, size, 0));
		stamp(p, 0, size, value);
	} else if (what == 0) {
		cr_assert(stamped(p, w->block[i].size, value));
		p = vrealloc(p, size);
		cr_assert_not_null(p);
		cr_assert(stamped(p, min(size, w->block[i].size), value));
		stamp(p, 0, size, value);
	} else {
		cr_assert(stamped(p, w->block[i].size, value));
		cr_assert_eq(vfree(p), 0);
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
	cr_assert_eq(st.bytes + st.lazy_bytes, 0u);
	cr_assert_eq(init_mm.map_count, 0u);
}
