/* SPDX-License-Identifier: MIT */
/*
 * mesh_frames.c - where page frames lie in the memfd, and how many mappings views of them make.
 *
 * Purpose. A view is a mapping of its own, and the kernel allows a process so many (vm.max_map_count). But two views become
 * one if their slabs are neighbours and their frames are, too. So frames lie, where that can be, in line with one of their
 * slabs: at the offset in the file that the slab has in the window. All slabs that have the frames in line with themselves
 * make one mapping wherever they meet, whatever their classes.
 *
 *	window	| A | B | C | D |	A and B have frames in line, C lies on A's, D's frames are in line:
 *	file	| a | b |   | d |	A+B are one mapping, C, D one each; without that rule it would be four
 *
 * Which slab of those that are to share frames? The one that has most neighbours in line (mesh_frames_merit), of equals the
 * one with the lowest address: so they gather at one end of the heap and come to be neighbours of each other.
 *
 * Objects. in_line has a bit for each page of the window: frames lie at that offset. It is set while the group lives, longer
 * perhaps than the slab is there. What cannot lie in line lies behind, where offsets are never used twice.
 *
 * The budget. Of vm.max_map_count VMAS_OURS at most, and no more than leaves an eighth beyond what the program has. A
 * view in the middle of ordinary memory costs two; between two views none, so those gaps are filled even when nothing is left.
 *
 * Locks. None: kmmd's own, but for nr_vmas, which also those change that give a slab back. What they see of neighbours
 * may be changing, so the number is about right; what others have is found out by a look at /proc at each pass.
 *
 * Kernel counterpart. mm/vma.c: can_vma_merge_before/after, by vm_pgoff; sysctl_max_map_count.
 */
#include "mesh_frames.h"

#include "os/os.h"
#include "os/procfs.h"
#include "os/vm.h"
#include <errno.h>

#define VMAS_OURS(max) ((max) / 16 * 13)	/* of vm.max_map_count, at most */
#define VMAS_ALL(max)  ((max) / 8 * 7)	/* what there may be with those that others have */

static u64 *in_line;
static u64 next_offset, max_vmas;
static u64 nr_vmas;			/* that views have made, about */

/* --- places ------------------------------------------------------------------------------------------------- */

static size_t window_size(void)
{
	return direct_map.end - direct_map.start;
}

int mesh_frames_open(void)
{
	size_t size = ALIGN(window_size() >> PAGE_SHIFT >> 3, os_page_size);

	if (in_line)
		vm_dontneed(in_line, size);
	else
		in_line = vm_map(size);
	next_offset = window_size();
	mesh_count_vmas();
	return in_line ? 0 : -ENOMEM;
}

static u64 offset_in_line(pfn_t pfn)
{
	return (u64)pfn << PAGE_SHIFT;
}

static bool is_free(u64 offset, size_t size)
{
	for (u64 page = offset >> PAGE_SHIFT; page < (offset + size) >> PAGE_SHIFT; page++)
		if (in_line[page / 64] >> (page % 64) & 1)
			return false;
	return true;
}

static void mark(u64 offset, size_t size, bool used)
{
	for (u64 page = offset >> PAGE_SHIFT; page < (offset + size) >> PAGE_SHIFT; page++) {
		if (used)
			in_line[page / 64] |= 1ull << (page % 64);
		else
			in_line[page / 64] &= ~(1ull << (page % 64));
	}
}

u64 mesh_frames_place(pfn_t pfn, size_t size)
{
	u64 offset = offset_in_line(pfn);

	if (!is_free(offset, size)) {
		offset = next_offset;
		next_offset += size;
		return offset;
	}
	mark(offset, size, true);
	return offset;
}

void mesh_frames_free(u64 offset, size_t size)
{
	if (offset < window_size())
		mark(offset, size, false);
}

/* --- neighbours --------------------------------------------------------------------------------------------- */

/* Does a view with frames up to that offset, or from it on, lie beside? -1: no view at all, 1: yes, 0: a view of others. */
static int beside(pfn_t pfn, u64 offset, bool before)
{
	const struct page *slab = compound_head(pfn_to_page(pfn));
	u32 id = slab_group(slab);
	u64 at;

	if (!(READ_ONCE(slab->flags) & PG_meshed) || id == MESH_GROUP_KSM)
		return -1;
	if (!mesh_is_own_group(id))
		return 0;
	at = READ_ONCE(mesh_group(id)->offset) + (before ? mesh_slab_size(slab->cls) : 0);
	return at == offset;
}

int mesh_frames_merit(pfn_t pfn, size_t size)
{
	u64 offset = offset_in_line(pfn);

	if (!is_free(offset, size))
		return -1;
	return (beside(pfn - 1, offset, true) == 1) + (beside(pfn + (pfn_t)(size >> PAGE_SHIFT), offset + size, false) == 1);
}

int mesh_view_cost(pfn_t pfn, size_t size)
{
	return (beside(pfn - 1, 0, true) < 0) + (beside(pfn + (pfn_t)(size >> PAGE_SHIFT), 0, false) < 0);
}

/* Each end of a view: a seam if an ordinary mapping begins there, none more beside another view, one less if they are one. */
void mesh_count_view(const struct page *slab, u64 offset, bool enters)
{
	size_t size = mesh_slab_size(slab->cls);
	pfn_t pfn = page_to_pfn(slab);
	int nr = -beside(pfn - 1, offset, true) - beside(pfn + (pfn_t)(size >> PAGE_SHIFT), offset + size, false);

	__atomic_add_fetch(&nr_vmas, (u64)(s64)(enters ? nr : -nr), __ATOMIC_RELAXED);
}

/* --- the budget --------------------------------------------------------------------------------------------- */

/* Those of a child's parent count as well, and what others tear down may not have been counted: never below zero. */
static u64 vmas_of_views(void)
{
	s64 nr = (s64)__atomic_load_n(&nr_vmas, __ATOMIC_RELAXED);

	return nr > 0 ? (u64)nr : 0;
}

/* The limit may change as the program runs, and what others have does. */
void mesh_count_vmas(void)
{
	u64 ours = vmas_of_views(), all = count_proc_maps(), max = os_read_max_map_count();
	u64 others = all - min(all, ours);

	max_vmas = min(VMAS_OURS(max), VMAS_ALL(max) - min(VMAS_ALL(max), others));
}

u32 mesh_room(void)
{
	return (u32)(max_vmas - min(max_vmas, vmas_of_views()));
}

bool mesh_has_room(void)
{
	return mesh_room() >= 2 * MESH_BATCH;
}
