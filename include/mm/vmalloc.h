/* SPDX-License-Identifier: MIT */
/*
 * vmalloc.h - large blocks in a region of their own. Kernel: mm/vmalloc.c (free_vmap_area tree augmented with
 * subtree_max_size, lazy purge). All calls inside the slow-path gate; thread-safe.
 */
#ifndef KMM_MM_VMALLOC_H
#define KMM_MM_VMALLOC_H

#include "base/list.h"
#include "base/rbtree.h"
#include "base/types.h"

/* Where two VMAs of the kernel meet inside an area, or may: a system call for one of them must not reach over it. */
struct vmap_seam {
	uintptr_t addr;
	struct vmap_seam *next;		/* ascending */
};

struct vmap_area {
	uintptr_t va_start, va_end;	/* mapped, guard not counted */
	struct vmap_seam *seams;	/* those between va_start and va_end */
	struct rb_node rb_node;		/* by address: busy and lazy areas */
	struct rb_node size_node;	/* lazy ones by (size, address) */
	struct list_head lru;		/* lazy ones, oldest first */
	size_t requested;		/* bytes asked for */
	u64 freed_ms;			/* when it became lazy */
	u32 guard;			/* unmapped bytes behind it that are its own */
	bool lazy;			/* freed, but still mapped */
	u8 colour;			/* busy: of the memory group that is charged */
};

int vmalloc_init(uintptr_t start, uintptr_t end);
/* align: power of two, any size. zeroed not NULL: the memory is to read as zeroes, and *zeroed says so. NULL: no memory. */
void *vmalloc_aligned(size_t size, size_t align, bool *zeroed);
/* 0; -EALREADY: an area that is free already starts at p; -EINVAL: none does. Nothing is done then. */
int vfree(void *p);
/* Grows or shrinks by mremap, in place or moved; NULL: could not, the old block stands. */
void *vrealloc(void *p, size_t new_size);
/* The busy area that contains p; copied out. false if none. Any address may be asked. */
bool find_vmap_area(const void *p, struct vmap_area *copy);
/* Addresses that belong to vmalloc, mapped or not. */
bool vmalloc_region_contains(const void *p);
size_t vmalloc_usable(const void *p);	/* p an area's start, else 0 */

/* Unmaps lazily freed areas older than max_age_ms; 0: all. Returns bytes. */
size_t purge_vmap_area_lazy(u64 max_age_ms);
/* One slice of giving them back by age, oldest first (page/reclaim.h). */
struct scan_control;
bool shrink_vmap_area_lazy(struct scan_control *sc);
size_t vmap_lazy_bytes(void);	/* that may be resident */

struct vmalloc_stat { u64 nr_areas, bytes, nr_lazy, lazy_bytes, peak_bytes, nr_seams; };
void get_vmalloc_stat(struct vmalloc_stat *st);
/* Calls fn for each busy area in address order, under the lock: fn must not allocate. */
void for_each_vmap_area(void (*fn)(const struct vmap_area *, void *), void *arg);
void vmalloc_validate(void);

#endif
