/* SPDX-License-Identifier: MIT */
/* Assembly: pages of freed areas move into new ones; nothing faults that need not, nothing is lost, VMAs are bounded. */
#include "../areas.h"

TestSuite(vmap_assemble, .init = setup_region, .timeout = 120);

/* How many pages of block p carry the tag, whatever their number. */
static size_t tagged_bytes(const char *p, size_t size, u64 tag)
{
	size_t n = 0;

	for (size_t i = 0; i < size; i += os_page_size)
		n += *(const u64 *)(p + i) >> 32 == tag ? os_page_size : 0;
	return n;
}

Test(vmap_assemble, a_part_of_a_larger_one_moves)
{
	char *p = new_block(MIB(32), 1), *q;

	vfree(p);
	q = vmalloc_aligned(MIB(8), 0, NULL);
	cr_assert_neq(q, p);
	cr_assert_eq(tagged_bytes(q, MIB(8), 1), MIB(8));
	cr_assert_eq(vmalloc_stat().lazy_bytes, MIB(24), "the rest stays lazy");
	cr_assert_eq(vm_resident(p + MIB(8), MIB(24)), (ssize_t)MIB(24));
	cr_assert(!is_mapped((uintptr_t)p), "what has moved is no longer there");
	cr_assert(!is_mapped((uintptr_t)q + vmalloc_usable(q)), "no guard");
	cr_assert_eq(vmalloc_stat().nr_seams, 0u);
	vmalloc_validate();
	mm_validate();
}

Test(vmap_assemble, several_smaller_ones_are_joined)
{
	char *a = new_block(MIB(6), 1), *b = new_block(MIB(8), 2), *c = new_block(MIB(4), 3), *q;

	vfree(a);
	vfree(b);
	vfree(c);
	q = vmalloc_aligned(MIB(20), 0, NULL);
	cr_assert_eq(vm_resident(q, MIB(20)), (ssize_t)MIB(18), "the rest is fresh");
	cr_assert_eq(tagged_bytes(q, MIB(20), 1), MIB(6));
	cr_assert_eq(tagged_bytes(q, MIB(20), 2), MIB(8));
	cr_assert_eq(tagged_bytes(q, MIB(20), 3), MIB(4));
	cr_assert(reads_zero(q + MIB(18), MIB(2)));
	cr_assert_eq(vmalloc_stat().nr_lazy, 0u);
	cr_assert_eq(vmalloc_stat().nr_seams, 3u);
	vmalloc_validate();
	tag_pages(q, 0, MIB(20), 4);
	cr_assert_eq(vfree(q), 0);
	cr_assert_eq(vmalloc_aligned(MIB(20), 0, NULL), q, "and is one area from now on");
	cr_assert(pages_are_tagged(q, MIB(20), 4));
	vfree(q);
	cr_assert_eq(purge_vmap_area_lazy(0), MIB(20));
	cr_assert_eq(vmalloc_stat().nr_seams, 0u);
	cr_assert_eq(nr_mappings(), 0u);
	mm_validate();
}

/* Huge pages are to stay whole: of an area with a tail the body is taken from the front, of another the tail from its end. */
Test(vmap_assemble, pieces_keep_huge_page_boundaries)
{
	char *a = new_block(MIB(6) + KIB(512), 1), *q;

	vfree(a);
	q = vmalloc_aligned(MIB(4) + KIB(256), 0, NULL);
	for (size_t i = 0; i < MIB(4); i += os_page_size)
		cr_assert_eq(*(u64 *)(q + i), 1ul << 32 | i / os_page_size);
	cr_assert_eq(*(u64 *)(q + MIB(4)), 1ul << 32 | (MIB(6) + KIB(256)) / os_page_size);
	cr_assert_eq(vmalloc_stat().lazy_bytes, MIB(2) + KIB(256));
	cr_assert(IS_ALIGNED((uintptr_t)q, PAGEBLOCK_SIZE));
	vmalloc_validate();
}

Test(vmap_assemble, zeroed_memory_is_zero)
{
	char *a = new_block(MIB(6), 1), *b = new_block(MIB(9), 2), *q;
	bool zeroed = false;

	vfree(a);
	vfree(b);
	q = vmalloc_aligned(MIB(20) - 100, 0, &zeroed);
	cr_assert(zeroed);
	cr_assert_eq(vmalloc_stat().nr_lazy, 0u);
	cr_assert(reads_zero(q, MIB(20)));
	cr_assert_leq(vm_resident(q, MIB(20)), (ssize_t)MIB(20));
	memset(q, 1, MIB(20));
	vfree(q);
	zeroed = false;
	cr_assert_eq(vmalloc_aligned(MIB(19), 0, &zeroed), q);
	cr_assert(zeroed);
	cr_assert(reads_zero(q, MIB(19)));
}

Test(vmap_assemble, fresh_pages_are_not_touched_for_zeroes)
{
	bool zeroed = false;
	char *a = new_block(MIB(4), 1), *q;

	vfree(a);
	q = vmalloc_aligned(MIB(64), 0, &zeroed);
	cr_assert(zeroed);
	cr_assert_eq(vm_resident(q, MIB(64)), (ssize_t)MIB(4));
}

/* The pattern of a server with large buffers: resident memory never exceeds what it has had in use at once. */
Test(vmap_assemble, resident_memory_stays_at_the_peak_in_use)
{
	struct { char *p; size_t size; } block[20] = { { NULL, 0 } };
	u64 r = rng_of(3), before = 0, faulted = 0;
	struct vmalloc_stat st;

	for (unsigned i = 0; i < rounds(400); i++) {
		unsigned k = rng_below(&r, 20);
		size_t size = MIB(2) + rng_below(&r, MIB(8));
		char *p = vmalloc_aligned(size, 0, NULL);

		faulted += size - (u64)vm_resident(p, ALIGN(size, os_page_size));
		tag_pages(p, 0, size, k);
		if (block[k].p != NULL) {
			cr_assert(pages_are_tagged(block[k].p, block[k].size, k));
			cr_assert_eq(vfree(block[k].p), 0);
		}
		block[k].p = p;
		block[k].size = size;
		st = vmalloc_stat();
		cr_assert_leq(st.bytes + st.lazy_bytes, st.peak_bytes + st.peak_bytes / 8);
		cr_assert_leq(nr_mappings(), st.nr_areas + st.nr_lazy + st.nr_seams);
		if (i == 100)
			before = faulted;
		if (i % 16 == 0)
			vmalloc_validate();
	}
	cr_assert_leq(faulted - before, st.peak_bytes, "%lu MiB came by faults", (faulted - before) >> 20);
	vmalloc_validate();
	mm_validate();
}

/* Seams are bounded for an area, and for all. */
Test(vmap_assemble, seams_are_bounded)
{
	static char *small[200];
	char *q;

	for (unsigned i = 0; i < 200; i++)
		small[i] = new_block(KIB(512), i);
	for (unsigned i = 0; i < 200; i++)
		vfree(small[i]);
	q = vmalloc_aligned(MIB(100), 0, NULL);
	cr_assert_eq(vmalloc_stat().nr_seams, 64u);
	cr_assert_eq(vm_resident(q, MIB(100)), (ssize_t)MIB(32));
	vmalloc_validate();
	vfree(q);
	purge_vmap_area_lazy(0);
	cr_assert_eq(vmalloc_stat().nr_seams, 0u);
	cr_assert_eq(nr_mappings(), 0u);
	mm_validate();
}

/* Beyond an eighth of vm.max_map_count nothing is moved, beyond a quarter areas touch: the kernel's limit is never near. */
Test(vmap_assemble, many_areas_are_few_mappings)
{
	static char *p[70000];
	unsigned nr = ARRAY_SIZE(p);
	u64 seams = 0;

	for (unsigned i = 0; i < nr; i++) {
		p[i] = vmalloc_aligned(KIB(256), 0, NULL);
		cr_assert_not_null(p[i]);
		*(unsigned *)p[i] = i;
		if (i % 64 == 0 && i != 0) {
			vfree(p[i - 1]);
			p[i - 1] = vmalloc_aligned(KIB(512), 0, NULL);
			*(unsigned *)p[i - 1] = i - 1;
		}
		if (i == os_max_map_count() / 8 + 1)
			seams = vmalloc_stat().nr_seams;
	}
	cr_assert_gt(seams, 0u);
	cr_assert_eq(vmalloc_stat().nr_seams, seams);
	cr_assert_lt(nr_mappings(), 30000u);
	vmalloc_validate();
	for (unsigned i = 0; i < nr; i += 1000)
		cr_assert_null(vrealloc(p[i], MIB(1)), "moved among areas that touch");
	for (unsigned i = 0; i < nr; i++) {
		cr_assert_eq(*(unsigned *)p[i], i);
		cr_assert_eq(vfree(p[i]), 0);
	}
	purge_vmap_area_lazy(0);
	cr_assert_eq(nr_mappings(), 0u);
	vmalloc_validate();
}

/* Nor do many of them begin on huge page boundaries, with holes between. */
Test(vmap_assemble, many_larger_areas_are_few_mappings)
{
	unsigned nr = 40000;

	cr_assert_eq(vmalloc_init(REGION, REGION + GIB(512)), 0);
	for (unsigned i = 0; i < nr; i++)
		cr_assert_not_null(vmalloc_aligned(MIB(2) + 1, 0, NULL));
	cr_assert_lt(nr_mappings(), 20000u);
	vmalloc_validate();
}

/* --- when the kernel refuses ------------------------------------------------------------------------------ */

Test(vmap_assemble, refusals_cost_no_data)
{
	struct { char *p; size_t size; } block[12] = { { NULL, 0 } };
	u64 r = rng_of(4);

	for (unsigned i = 0; i < rounds(3000); i++) {
		unsigned k = rng_below(&r, 12);
		size_t size = KIB(300) + rng_below(&r, MIB(6));
		bool zero = rng_below(&r, 4) == 0, zeroed = false;
		char *p;

		os_fault_every = 2 + rng_below(&r, 12);
		if (block[k].p != NULL && rng_below(&r, 3) == 0) {
			p = vrealloc(block[k].p, size);
			os_fault_every = 0;
			cr_assert(pages_are_tagged(p != NULL ? p : block[k].p, min(size, block[k].size), k));
		} else {
			p = vmalloc_aligned(size, 0, zero ? &zeroed : NULL);
			os_fault_every = 0;
			if (p != NULL && zero)
				cr_assert(zeroed && reads_zero(p, ALIGN_DOWN(size, 8)));
			if (p != NULL && block[k].p != NULL) {
				cr_assert(pages_are_tagged(block[k].p, block[k].size, k));
				cr_assert_eq(vfree(block[k].p), 0);
			}
		}
		if (p != NULL) {
			tag_pages(p, 0, size, k);
			block[k].p = p;
			block[k].size = size;
		}
		vmalloc_validate();
	}
	for (unsigned k = 0; k < 12; k++)
		if (block[k].p != NULL)
			vfree(block[k].p);
	purge_vmap_area_lazy(0);
	cr_assert_eq(vmalloc_stat().nr_seams, 0u);
	cr_assert_eq(init_mm.map_count, 0u);
	mm_validate();
}

/* A program may have divided an area's mapping by advice of its own: mremap then fails, and that is all. */
Test(vmap_assemble, mappings_divided_by_the_program)
{
	char *a = new_block(MIB(8), 1), *b = new_block(MIB(8), 2), *q;

	cr_assert_eq(madvise(a + MIB(1), MIB(1), MADV_DONTDUMP), 0);
	cr_assert_eq(madvise(b + MIB(1), MIB(1), MADV_DONTDUMP), 0);
	vfree(a);
	q = vmalloc_aligned(MIB(20), 0, NULL);
	tag_pages(q, 0, MIB(20), 3);
	cr_assert(pages_are_tagged(q, MIB(20), 3));
	a = vrealloc(b, MIB(60));
	cr_assert(pages_are_tagged(a != NULL ? a : b, MIB(8), 2));
	vmalloc_validate();
	mm_validate();
}

Test(vmap_assemble, a_foreign_mapping_is_not_replaced)
{
	char *foreign = mmap((void *)(REGION + MIB(64)), MIB(64), PROT_READ | PROT_WRITE,
			     MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	char *a = new_block(MIB(20), 1), *b = new_block(MIB(20), 2), *q;

	cr_assert_eq(foreign, (char *)REGION + MIB(64));
	memset(foreign, 5, MIB(64));
	vfree(a);
	vfree(b);
	q = vmalloc_aligned(MIB(40), 0, NULL);
	cr_assert(q >= foreign + MIB(64));
	cr_assert_eq(vm_resident(q, MIB(40)), (ssize_t)MIB(40));
	memset(q, 1, MIB(40));
	for (size_t i = 0; i < MIB(64); i += 4096)
		cr_assert_eq(foreign[i], 5);
	vmalloc_validate();
}
