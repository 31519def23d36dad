/* SPDX-License-Identifier: MIT */
/* slab_steal_test.c - partial slabs pass to the CPU that would make a new one, and everything still goes back. */
#include "../../../lib/mm/internal.h"

#include "../boot.h"
#include "page/sparse.h"
#include "page/vmstat.h"

TestSuite(slab_steal, .init = boot_auto, .timeout = 60);

static unsigned class_of(size_t size)
{
	return kmalloc_class(size);
}

/* Before a slab is made, one that is half free is taken over from another home that has many; objects are whole lines. */
Test(slab_steal, before_a_new_one_is_made)
{
	static const size_t sizes[] = { 2048, 1152, 48 };	/* the last shares lines between objects: never */

	for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
		unsigned cls = class_of(sizes[k]), nr = kmalloc_caches[cls].nr_objects, half = nr / 2;
		u64 made, stolen = global_vm_event(VM_slab_steal);
		bool may = sizes[k] % 64 == 0;
		static void *p[20][256], *q[512];

		cr_assert_eq(percpu_online(3), 0);
		cr_assert_leq(nr, 256u);
		for (int i = 0; i < 20; i++)
			cr_assert_eq(slab_alloc_bulk(1, cls, p[i], nr), nr);
		for (int i = 0; i < 20; i++)
			slab_free_bulk(cls, p[i], half);
		made = global_vm_event(VM_slab_alloc);
		cr_assert_eq(slab_alloc_bulk(0, cls, q, half), half);
		cr_assert_eq(global_vm_event(VM_slab_steal) - stolen, may);
		cr_assert_eq(global_vm_event(VM_slab_alloc) - made, !may);
		cr_assert_eq(map_entry(virt_to_pfn(q[0])) >> MAP_HOME_SHIFT, 0u);
		cr_assert_eq(get_node(1, cls)->nr_slabs, 20u - may);
		slab_validate_all();
		for (int i = 0; may && i < 20; i++)		/* until the other home has no more than it keeps */
			slab_alloc_bulk(0, cls, q + half, half);
		cr_assert_eq(get_node(1, cls)->nr_partial, may ? 8u : 20u);
		slab_validate_all();
	}
}
