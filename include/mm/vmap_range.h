/* SPDX-License-Identifier: MIT */
/*
 * vmap_range.h - free address space of a region, lowest fit first. Kernel: free_vmap_area of mm/vmalloc.c.
 * Caller holds the lock that guards the space. Nothing is mapped or unmapped here.
 */
#ifndef KMM_MM_VMAP_RANGE_H
#define KMM_MM_VMAP_RANGE_H

#include "base/rbtree.h"
#include "base/types.h"

struct vmap_range {
	uintptr_t start, end;
	size_t subtree_max_size;	/* of the longest range in the subtree of rb_node */
	struct rb_node rb_node;		/* by address */
};

struct vmap_space {
	struct rb_root free;
	uintptr_t start, end;
};

int vmap_space_init(struct vmap_space *space, uintptr_t start, uintptr_t end);
/* The lowest place for size bytes, aligned (a power of two); 0: none. */
uintptr_t __alloc_vmap_range(struct vmap_space *space, size_t size, size_t align);
/* Exactly [start, start + size); false, and nothing taken, when it is not all free. */
bool __alloc_vmap_range_at(struct vmap_space *space, uintptr_t start, size_t size);
/* Takes whatever is free between start and end, and forgets it. */
void __forget_vmap_range(struct vmap_space *space, uintptr_t start, uintptr_t end);
/* Merges with free neighbours. When metadata memory is out, the range is forgotten. */
void __free_vmap_range(struct vmap_space *space, uintptr_t start, size_t size);
/* Order, merging, augmented values; returns the free bytes. */
size_t vmap_space_validate(const struct vmap_space *space);

#endif
