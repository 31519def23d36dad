/* SPDX-License-Identifier: MIT */
/* Large blocks grow and shrink: no copy, few system calls, contents kept whatever their pieces are and the kernel refuses. */
#include "../areas.h"
#include "page/vmstat.h"
#include <sys/resource.h>

TestSuite(vrealloc, .init = setup_region, .timeout = 120);

Test(vrealloc, in_place_and_moving)
{
	char *p = new_block(MIB(4), 7), *blocker, *q;

	q = vrealloc(p, MIB(20));
	cr_assert_eq(q, p, "nothing is behind it");
	cr_assert(pages_are_tagged(q, MIB(4), 7));
	tag_pages(q, 0, MIB(20), 7);
	blocker = vmalloc_aligned(MIB(4), 0, NULL);
	cr_assert_gt(blocker, q);
	p = vrealloc(q, MIB(60));
	cr_assert_neq(p, q);
	cr_assert(IS_ALIGNED((uintptr_t)p, PAGEBLOCK_SIZE));
	cr_assert(pages_are_tagged(p, MIB(20), 7));
	cr_assert(reads_zero(p + MIB(20), MIB(40)));
	cr_assert(!is_mapped((uintptr_t)q));
	q = vrealloc(p, MIB(5));
	cr_assert_eq(q, p);
	cr_assert_eq(vmalloc_usable(q), MIB(5));
	cr_assert(!is_mapped((uintptr_t)q + MIB(5)));
	vmalloc_validate();
	mm_validate();
}

/* A block of three pieces and a fresh rest. */
static char *block_in_pieces(size_t size, u64 tag)
{
	char *a = new_block(MIB(6), 1), *b = new_block(MIB(8), 2), *c = new_block(MIB(4), 3), *q;

	vfree(a);
	vfree(b);
	vfree(c);
	q = new_block(size, tag);
	cr_assert_geq(vmalloc_stat().nr_seams, 2u);
	return q;
}

Test(vrealloc, a_block_in_pieces)
{
	char *p = block_in_pieces(MIB(20), 9), *q;
	u64 seams = vmalloc_stat().nr_seams;

	q = vrealloc(p, MIB(24));
	cr_assert_eq(q, p);
	cr_assert_eq(vmalloc_stat().nr_seams, seams, "the last piece grows");
	tag_pages(q, MIB(20), MIB(24), 9);
	cr_assert_gt((char *)vmalloc_aligned(MIB(30), 0, NULL), q);
	q = vrealloc(p, MIB(64));
	cr_assert_neq(q, p);
	cr_assert_eq(vmalloc_stat().nr_seams, seams);
	cr_assert(pages_are_tagged(q, MIB(24), 9));
	cr_assert(reads_zero(q + MIB(24), MIB(40)));
	vmalloc_validate();
	cr_assert_eq(vrealloc(q, MIB(10)), q);
	cr_assert_lt(vmalloc_stat().nr_seams, seams);
	cr_assert(pages_are_tagged(q, MIB(10), 9));
	vmalloc_validate();
	vfree(q);
	purge_vmap_area_lazy(0);
	cr_assert_eq(vmalloc_stat().nr_seams, 0u);
	mm_validate();
}

/* Every n-th call fails: at once, at the second piece, at a later one, never. */
Test(vrealloc, a_block_in_pieces_when_the_kernel_refuses)
{
	for (unsigned n = 1; n < 12; n++) {
		char *p = block_in_pieces(MIB(20), n), *blocker = vmalloc_aligned(MIB(30), 0, NULL), *q;

		cr_assert_gt(blocker, p);
		os_fault_every = n;
		q = vrealloc(p, MIB(64));
		os_fault_every = 0;
		cr_assert(pages_are_tagged(q != NULL ? q : p, MIB(20), n));
		cr_assert_neq(q, p);
		cr_assert(n <= 2 || q != NULL, "what has moved cannot be given up: refusal %u", n);
		vmalloc_validate();
		mm_validate();
		vfree(q != NULL ? q : p);
		vfree(blocker);
		purge_vmap_area_lazy(0);
		cr_assert_eq(init_mm.map_count, 0u);
		cr_assert_eq(nr_mappings(), 0u);
	}
}

/* Growth uses what is lazy before it asks for more. */
Test(vrealloc, growth_takes_lazy_pages)
{
	char *p = new_block(MIB(8), 1), *b = new_block(MIB(8), 2), *q;

	vfree(b);
	q = vrealloc(p, MIB(16));
	cr_assert(pages_are_tagged(q, MIB(8), 1));
	cr_assert_eq(vm_resident(q, MIB(16)), (ssize_t)MIB(16));
	cr_assert_eq(vmalloc_stat().nr_lazy, 0u);
	vmalloc_validate();
}

/* Small steps are faulted in at once, and only they. */
Test(vrealloc, steps_are_populated)
{
	char *p = new_block(MIB(64), 1);
	size_t usable = vmalloc_usable(p), resident = (size_t)vm_resident(p, usable);

	cr_assert_eq(resident, MIB(64));
	p = vrealloc(p, MIB(64) + 1);
	cr_assert_gt(vmalloc_usable(p), usable);
	cr_assert_leq(vmalloc_usable(p), MIB(64) + MIB(64) / 16);
	cr_assert_eq(vm_resident(p, vmalloc_usable(p)), (ssize_t)vmalloc_usable(p));
	usable = vmalloc_usable(p);
	p = vrealloc(p, MIB(128));
	cr_assert_eq(vm_resident(p, vmalloc_usable(p)), (ssize_t)usable, "a doubled block is faulted as it is used");
	vmalloc_validate();
}

/* A vector up to 1 GiB: never copied, and system calls do not grow with the number of steps. */
Test(vrealloc, a_growing_vector)
{
	char *p = new_block(MIB(4), 5), *blocker = NULL;
	u64 before = global_vm_event(VM_vmalloc_mremap);
	size_t size;

	for (size = MIB(5); size <= GIB(1); size += MIB(1)) {
		if (size % MIB(100) == 0)
			blocker = new_block(MIB(3), 1);
		if (size > vmalloc_usable(p))
			p = vrealloc(p, size);
		cr_assert_not_null(p);
	}
	cr_assert(pages_are_tagged(p, MIB(4), 5));
	cr_assert_leq(global_vm_event(VM_vmalloc_mremap) - before, 32 * 8u);
	cr_assert_leq(vmalloc_stat().nr_seams, 64u);
	cr_assert_not_null(blocker);
	vmalloc_validate();
	mm_validate();
}

Test(vrealloc, no_more_than_asked_for_where_addresses_are_scarce)
{
	struct rlimit lim = { 0, RLIM_INFINITY };
	char *p, *q;
	FILE *f = fopen("/proc/self/statm", "r");
	unsigned long pages;

	cr_assert_eq(fscanf(f, "%lu", &pages), 1);
	fclose(f);
	lim.rlim_cur = pages * os_page_size + MIB(132);
	lim.rlim_max = lim.rlim_cur;
	cr_assert_eq(setrlimit(RLIMIT_AS, &lim), 0);
	p = vmalloc_aligned(MIB(96) + 1, 0, NULL);
	cr_assert_not_null(p);
	cr_assert_gt(vmalloc_usable(p), MIB(97));
	q = vrealloc(p, MIB(128) + 1);
	cr_assert_not_null(q);
	cr_assert_lt(vmalloc_usable(q), MIB(129));
	vfree(q);
	purge_vmap_area_lazy(0);
	q = vmalloc_aligned(MIB(128) + 1, 0, NULL);
	cr_assert_not_null(q);
	cr_assert_lt(vmalloc_usable(q), MIB(129));
	cr_assert_null(vmalloc_aligned(MIB(64), 0, NULL));
	vmalloc_validate();
}
