/* SPDX-License-Identifier: MIT */
/* vmap.h - what vmalloc.c and vmap_lazy.c share. Not for others. */
#ifndef KMM_LIB_MM_VMAP_H
#define KMM_LIB_MM_VMAP_H

#include "mm/vmalloc.h"
#include "mm/vmap_range.h"
#include "os/mutex.h"
#include "page/memblock.h"

struct vmap_state {
	struct mutex lock;
	struct rb_root areas;		/* by address, busy and lazy */
	struct rb_root lazy;		/* by size, address */
	struct list_head lru;		/* lazy, oldest first */
	struct vmap_space space;
	struct vmalloc_stat stat;
	u64 lazy_max;			/* bytes */
};
extern struct vmap_state vmap;
extern struct metapool vmap_area_pool;

static inline void vmap_lock(void)
{
	mutex_lock(&vmap.lock, LOCK_vmap);
}

static inline void vmap_unlock(void)
{
	mutex_unlock(&vmap.lock, LOCK_vmap);
}

static inline size_t area_size(const struct vmap_area *va)
{
	return va->va_end - va->va_start;
}

/* --- vmap_lazy.c; those with underscores under the vmap lock --------------------------------------------- */

/* va is in the tree by address and not accounted as busy. */
void __make_lazy(struct vmap_area *va);
void __unmake_lazy(struct vmap_area *va);
/* Order of the tree by size. */
bool lazy_before(const struct vmap_area *a, const struct vmap_area *b);
/*
 * The smallest lazy area of at least len bytes that is aligned, or NULL; *smaller is the largest of less than len
 * bytes, or NULL.
 */
struct vmap_area *__best_fit(size_t len, size_t align, struct vmap_area **smaller);
/* Takes lazy areas that are too old or too much out of all trees. */
void __collect_victims(struct list_head *victims);
/* Unmaps them. Returns bytes. */
size_t purge_victims(struct list_head *victims);

#endif
