/* SPDX-License-Identifier: MIT */
/* mesh_scan_test.c - the budget of mappings: what is left to the program, which slabs get them, and what if there are none. */
#include "../lock_holds.h"
#include "mesh_objects.h"

#include "os/procfs.h"
#include <sys/mman.h>

TestSuite(mesh_scan, .init = boot_auto, .timeout = 120);

static u32 max_map_count(void)
{
	u32 max = 0;
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");

	cr_assert(f && fscanf(f, "%u", &max) == 1);
	fclose(f);
	return max;
}

/* Every second page of it becomes a mapping of its own, until there are nr more, or no more to be had. */
static char *hog_mappings(u32 nr, size_t *size)
{
	char *area;

	*size = (nr / 2 + 1) * 2 * (size_t)os_page_size;
	area = mmap(NULL, *size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	cr_assert_neq((void *)area, MAP_FAILED);
	for (size_t off = os_page_size; off < *size; off += 2 * os_page_size)
		if (mprotect(area + off, os_page_size, PROT_READ | PROT_WRITE) != 0)
			break;
	return area;
}

/* The mappings of the program's own count: beyond seven eighths of all none is made. */
Test(mesh_scan, leaves_mappings_to_the_program)
{
	unsigned cls = kmalloc_class(512);
	u32 max = max_map_count();
	size_t size;
	char *area;
	u64 some;

	need_backend();
	if (max > 300000)
		cr_skip_test("vm.max_map_count is too large");
	take(cls, 16000);
	thin_out(cls, 10, 40);
	kmem_cache_shrink_all();
	area = hog_mappings(max / 8 * 7, &size);
	compact_all();
	cr_assert_eq(global_vm_event(VM_mesh_slab), 0u);
	munmap(area, size);
	area = hog_mappings(max / 8 * 7 - count_proc_maps() - 200, &size);
	compact_all();
	cr_assert_gt(global_vm_event(VM_mesh_slab), 50u);
	cr_assert_leq(count_proc_maps(), max / 8 * 7 + 10);
	some = global_vm_event(VM_mesh_slab);
	cr_assert_lt(some, 250u);
	munmap(area, size);
	compact_all();
	cr_assert_gt(global_vm_event(VM_mesh_slab), some + 100);
	cr_assert_eq(count_wrong(cls), 0u);
	slab_validate_all();
}

/* Every third slab stays full at first, and so lies between two views in the end. */
static void thin_out_but_thirds(unsigned cls, bool thirds, u64 seed)
{
	u64 r = rng_of(seed);

	for (unsigned i = 0; i < nr_objects; i++)
		if (object[i] && virt_to_pfn(object[i]) / kmalloc_caches[cls].nr_pages % 3 / 2 == thirds && rng_below(&r, 10))
			give(cls, i);
}

/* What lies between two views costs no mapping, and so is meshed although there are none left. */
Test(mesh_scan, gaps_are_filled_without_mappings)
{
	unsigned cls = kmalloc_class(512);
	u32 max = max_map_count(), maps;
	size_t size;
	u64 slabs;
	char *area;

	need_backend();
	if (max > 300000)
		cr_skip_test("vm.max_map_count is too large");
	take(cls, 16000);
	thin_out_but_thirds(cls, false, 44);
	kmem_cache_shrink_all();
	compact_all();
	slabs = global_vm_event(VM_mesh_slab);
	cr_assert_gt(slabs, 200u);
	thin_out_but_thirds(cls, true, 45);
	kmem_cache_shrink_all();
	area = hog_mappings(max / 8 * 7 - (u32)count_proc_maps(), &size);
	maps = (u32)count_proc_maps();
	compact_all();
	cr_assert_gt(global_vm_event(VM_mesh_slab), slabs + 80, "%lu then", (unsigned long)global_vm_event(VM_mesh_slab));
	cr_assert_leq(count_proc_maps(), maps + 2);
	cr_assert_eq(count_wrong(cls), 0u);
	munmap(area, size);
	slab_validate_all();
}

/* Where there are mappings for a part only, those slabs get them of which most pages go home. */
Test(mesh_scan, the_best_slabs_first)
{
	unsigned poor = kmalloc_class(3584), rich = kmalloc_class(256);
	u64 slabs, pages, r = rng_of(41);
	static void *p[4000];
	u32 max = max_map_count();
	size_t size;
	char *area;

	need_backend();
	if (max > 300000 || !mesh_class_is_worth(poor))
		cr_skip_test("not here");
	for (unsigned i = 0; i < ARRAY_SIZE(p); i += 4)
		cr_assert_eq(slab_alloc_bulk(0, poor, p + i, 4), 4u);
	for (unsigned i = 0; i < ARRAY_SIZE(p); i++)
		if (rng_below(&r, 4))
			slab_free_bulk(poor, &p[i], 1);
	take(rich, 32000);
	thin_out(rich, 10, 42);
	kmem_cache_shrink_all();
	area = hog_mappings(max / 8 * 7 - count_proc_maps() - 300, &size);
	compact_all();
	slabs = global_vm_event(VM_mesh_slab);
	pages = global_vm_event(VM_mesh_page);
	cr_assert_gt(slabs, 50u);
	cr_assert_gt(pages * 2, slabs * 5, "%lu pages of %lu slabs", (unsigned long)pages, (unsigned long)slabs);
	cr_assert_eq(count_wrong(rich), 0u);
	munmap(area, size);
}

/* No mapping at all is to be had: what is freed then comes back when there is. */
Test(mesh_scan, lost_slabs_come_back)
{
	unsigned cls = kmalloc_class(512);
	u32 max = max_map_count();
	char *area, *more[64];
	size_t size;
	unsigned nr = 0;

	need_backend();
	if (max > 300000)
		cr_skip_test("vm.max_map_count is too large");
	take(cls, 16000);
	thin_out(cls, 10, 43);
	kmem_cache_shrink_all();
	compact_all();
	area = hog_mappings(max, &size);
	for (; nr < ARRAY_SIZE(more); nr++) {	/* one more than may be split off */
		more[nr] = mmap(NULL, 2 * os_page_size, nr & 1 ? PROT_EXEC : PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (more[nr] == MAP_FAILED)
			break;
	}
	cr_assert_lt(nr, ARRAY_SIZE(more));
	give_all(cls);
	cr_assert_gt(mesh_view_bytes(), 0u, "the kernel has refused");
	munmap(area, size);
	while (nr)
		munmap(more[--nr], 2 * os_page_size);
	compact_all();
	cr_assert_eq(mesh_view_bytes(), 0u);
	cr_assert_eq(global_vm_event(VM_slab_alloc), global_vm_event(VM_slab_free));
	slab_validate_all();
}

#if KMM_DEBUG >= 1
/* Whole passes hold no lock longer than reclaim may. Interrupts count: best of some. */
Test(mesh_scan, locks_are_held_shortly)
{
	unsigned cls = kmalloc_class(256);
	u64 longest = UINT64_MAX, slabs;

	need_backend();
	for (u64 seed = 50; seed < 55 && longest > HELD_MAX_NS; seed++) {
		take(cls, 60000);
		thin_out(cls, 10, seed);
		kmem_cache_shrink_all();
		slabs = global_vm_event(VM_mesh_slab);
		lock_holds_begin();
		compact_all();
		longest = min(longest, lock_holds_end());
		cr_assert_gt(global_vm_event(VM_mesh_slab), slabs + 500);
		cr_assert_eq(count_wrong(cls), 0u);
		give_all(cls);
	}
	cr_assert_gt(longest, 0u, "measured");
	cr_assert_leq(longest, HELD_MAX_NS, "%llu ns", (unsigned long long)longest);
}
#endif
