/* SPDX-License-Identifier: MIT */
/*
 * mesh_ksm.c - slabs that share page frames because the kernel finds their pages equal.
 *
 * Purpose. Meshing where userfaultfd is not to be had (no right to it, or Linux before 6.8), on machines on which kernel
 * samepage merging runs (/sys/kernel/mm/ksm/run is 1). Slabs whose live objects do not lie at the same places are made
 * equal, and ksmd lets them share one page:
 *
 *	slab A   | a . . a |          | a b . a |
 *	slab B   | . b . . |   -->    | a b . a |   each keeps its own objects, and fills its free places with the others'
 *
 * Nothing is frozen: only free places are written, and nobody else writes those while the slab is isolated or
 * meshed. An object that changes while it is copied makes the pages differ, and they are not merged, that is all; so does one
 * that is written later. Pinned pages the kernel leaves alone.
 *
 * Invariants. A slab that is meshed is on no list, as with frames in a memfd (mesh.c); its group is MESH_GROUP_KSM, which is
 * none. Its memory stays private anonymous, so that nothing needs to be done when it is given back.
 *
 * What is gained shows later, as ksmd comes by: /proc/self/ksm_merging_pages. A pass reports what was merged since
 * the last one.
 *
 * Locks. None; kmmd's.
 *
 * Kernel counterpart. mm/ksm.c does the work.
 */
#include "mesh.h"

#include "os/os.h"
#include "os/vm.h"
#include "page/compaction.h"
#include "page/vmstat.h"
#include <errno.h>
#include <string.h>

static char *image;			/* what all slabs of a batch are to look like */

static u64 read_number(const char *path)
{
	char text[32];
	u64 nr = 0;

	if (os_read_file(path, text, sizeof(text)) <= 0)
		return 0;
	for (const char *s = text; *s >= '0' && *s <= '9'; s++)
		nr = nr * 10 + (u64)(*s - '0');
	return nr;
}

int mesh_ksm_open(void)
{
	if (read_number("/sys/kernel/mm/ksm/run") != 1)
		return -EOPNOTSUPP;
	if (!image)
		image = vm_map(MESH_PAGES_MAX * os_page_size);
	return image ? mesh_groups_alloc() : -ENOMEM;
}

const char *mesh_ksm_needs(int error)
{
	return error == -EOPNOTSUPP ? "/sys/kernel/mm/ksm/run is not 1" : "memory";
}

/* All of the heap may be merged, also what has come online since: marking single slabs would cost a VMA each. */
void mesh_ksm_begin(struct compact_control *cc)
{
	static u64 last;
	u64 merged = read_number("/proc/thread-self/ksm_merging_pages");

	for (int z = 0; z < MAX_NR_ZONES; z++) {
		uintptr_t start = ALIGN((uintptr_t)pfn_to_virt(zones[z].start_pfn), os_page_size);
		uintptr_t end = ALIGN_DOWN((uintptr_t)pfn_to_virt(zones[z].end_pfn), os_page_size);

		if (end > start)
			vm_advise((void *)start, end - start, MADV_MERGEABLE);
	}
	if (merged > last) {
		cc->nr_freed += (s64)((merged - last) * os_page_size);
		count_vm_events(VM_mesh_page, (merged - last) * (os_page_size >> PAGE_SHIFT));
	}
	last = merged;
}

/* Between two live objects: as in the image, on those pages where the slab has a live one. */
static void fill_gap(char *slab, u64 pages, size_t from, size_t to)
{
	while (from < to) {
		size_t page = from / os_page_size, n = min(to, (page + 1) * os_page_size) - from;

		if (pages >> page & 1)
			memcpy(slab + from, image + from, n);
		from += n;
	}
}

static void fill_slab(const struct mesh_job *job, size_t size, size_t slab_size)
{
	char *slab = page_address(job->slab);
	u64 pages = occupied_pages(job->slab->cls, &job->live);
	size_t at = 0;

	for_each_live(i, &job->live) {
		fill_gap(slab, pages, at, i * size);
		at = (i + 1) * size;
	}
	fill_gap(slab, pages, at, slab_size);
}

/* Slabs of one class, isolated, of which no two have a live object at the same place. */
void mesh_ksm_batch(struct mesh_job *job, unsigned nr)
{
	const struct kmem_cache *s = &kmalloc_caches[job->slab->cls];
	size_t slab_size = (size_t)s->nr_pages << PAGE_SHIFT;

	memset(image, 0, slab_size);
	for (unsigned k = 0; k < nr; k++)
		for_each_live(i, &job[k].live)
			memcpy(image + i * s->size, (char *)page_address(job[k].slab) + i * s->size, s->size);
	for (unsigned k = 0; k < nr; k++) {
		fill_slab(&job[k], s->size, slab_size);
		mesh_enter(job[k].slab, MESH_GROUP_KSM);
		job[k].error = 0;
		job[k].gain = 0;
		count_vm_event(VM_mesh_slab);
	}
}
