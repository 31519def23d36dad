/* SPDX-License-Identifier: MIT */
/* mesh_frames.h - where frames lie in the memfd, and how many mappings views of them make. Of meshing's files alone. */
#ifndef KMM_LIB_MM_MESH_FRAMES_H
#define KMM_LIB_MM_MESH_FRAMES_H

#include "mesh.h"

int mesh_frames_open(void);	/* a new memfd: all of it is free. 0 or -ENOMEM */
/* An offset for so many frames: in line with the pages from pfn on if it can be, else anywhere. */
u64 mesh_frames_place(pfn_t pfn, size_t size);
/* Nothing lies there any more, and nobody has a view of it. */
void mesh_frames_free(u64 offset, size_t size);
/* Views beside those pages that would become one mapping with them, if their frames lay in line: 0 to 2; -1: they cannot. */
int mesh_frames_merit(pfn_t pfn, size_t size);

/* Ends of those pages that lie beside an ordinary mapping: if there are none, a view of them takes the place of a mapping. */
int mesh_view_cost(pfn_t pfn, size_t size);
/* A slab has become a view of frames at that offset, or is none any more: VMAs are counted. Its neighbours' tell how many. */
void mesh_count_view(const struct page *slab, u64 offset, bool enters);
void mesh_count_vmas(void);	/* before a pass maps anything: how many are left? */
u32 mesh_room(void);		/* so many VMAs are left */
bool mesh_has_room(void);	/* for those of one more batch */

static inline size_t mesh_slab_size(unsigned cls)
{
	return (size_t)kmalloc_caches[cls].nr_pages << PAGE_SHIFT;
}

#endif
