/* SPDX-License-Identifier: MIT */
/* mesh_frames_test.c - frames in line with their slabs, and how many mappings that makes. */
#include "mesh_objects.h"

#include "../../../lib/mm/mesh_frames.h"
#include "os/procfs.h"

TestSuite(mesh_frames, .init = boot_auto, .timeout = 120);

Test(mesh_frames, each_place_once)
{
	size_t size = 4 * os_page_size;
	pfn_t pfn = (pfn_t)(64 * (size >> PAGE_SHIFT)), next = pfn + (pfn_t)(size >> PAGE_SHIFT);
	u64 line = (u64)pfn << PAGE_SHIFT, first, second;

	cr_assert_eq(mesh_frames_open(), 0);
	cr_assert_eq(mesh_frames_place(pfn, size), line);
	cr_assert_eq(mesh_frames_merit(pfn, size), -1);
	cr_assert_neq(mesh_frames_merit(next, size), -1);
	first = mesh_frames_place(pfn, size);
	second = mesh_frames_place(next - 1, size);	/* its first page is taken */
	cr_assert_geq(first, direct_map.end - direct_map.start);
	cr_assert_geq(second, first + size);
	mesh_frames_free(first, size);
	cr_assert_geq(mesh_frames_place(pfn, size), second + size, "never twice");
	mesh_frames_free(line, size);
	cr_assert_eq(mesh_frames_place(next - 1, size), (u64)(next - 1) << PAGE_SHIFT);
	cr_assert_eq(mesh_frames_open(), 0);
	cr_assert_eq(mesh_frames_place(pfn, size), line, "another memfd");
}

/* Mappings of frames, as the kernel has them. */
static unsigned nr_view_mappings(void)
{
	FILE *f = fopen("/proc/self/maps", "r");
	char line[512];
	unsigned nr = 0;

	cr_assert_not_null(f);
	while (fgets(line, sizeof(line), f))
		nr += strstr(line, "kmm-mesh") != NULL;
	fclose(f);
	return nr;
}

/* Views of a heap of one class lie side by side: many share a mapping, and what is counted is what the kernel has. */
Test(mesh_frames, neighbours_share_a_mapping)
{
	unsigned cls = kmalloc_class(512), maps, views;
	u32 room;

	need_backend();
	compact_all();		/* opens the backend, which maps areas of its own */
	take(cls, 16000);
	thin_out(cls, 10, 50);
	kmem_cache_shrink_all();
	room = mesh_room();
	maps = count_proc_maps();
	compact_all();
	views = (unsigned)global_vm_event(VM_mesh_slab);
	cr_assert_gt(views, 300u);
	cr_assert_lt(nr_view_mappings() * 20, views * 19, "%u of %u", nr_view_mappings(), views);
	cr_assert_leq(llabs((s64)(room - mesh_room()) - ((s64)count_proc_maps() - maps)), 20, "counted %u, are %d", room - mesh_room(),
		      (int)count_proc_maps() - (int)maps);
	cr_assert_eq(count_wrong(cls), 0u);
	give_all(cls);
	cr_assert_leq(llabs((s64)room - mesh_room()), 20, "%u left, %u before", mesh_room(), room);
	cr_assert_eq(nr_view_mappings(), 0u);
	slab_validate_all();
}

/* What lies between two views costs no mapping, and so is meshed although there are none left. */
Test(mesh_frames, gaps_cost_nothing)
{
	unsigned cls = kmalloc_class(512), closed = 0, open = 0;

	need_backend();
	take(cls, 16000);
	thin_out(cls, 10, 51);
	kmem_cache_shrink_all();
	compact_all();
	for (unsigned i = 0; i < nr_objects; i++) {
		struct page *slab = object[i] ? compound_head(virt_to_page(object[i])) : NULL;
		size_t size = mesh_slab_size(cls);
		bool left, right;

		if (!slab)
			continue;
		left = compound_head(slab - 1)->flags & PG_meshed;
		right = compound_head(slab + (size >> PAGE_SHIFT))->flags & PG_meshed;
		cr_assert_eq(mesh_view_cost(page_to_pfn(slab), size), !left + !right);
		closed += left && right;
		open += !left || !right;
	}
	cr_assert(closed && open);
}
