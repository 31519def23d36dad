/* SPDX-License-Identifier: MIT */
/* vmap.h - what vmalloc.c, vrealloc.c, vmap_assemble.c and vmap_lazy.c share. Not for others. */
#ifndef KMM_LIB_MM_VMAP_H
#define KMM_LIB_MM_VMAP_H

#include "base/align.h"
#include "mm/vmalloc.h"
#include "mm/vmap_range.h"
#include "os/mutex.h"
#include "os/vm.h"
#include "page/huge_memory.h"
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

/* Whole pages for size, and no more. */
static inline size_t exact_len(size_t size)
{
	return ALIGN(max(size, (size_t)1), os_page_size);
}

/*
 * Bytes mapped for size: a multiple of 1/32 to 1/16 of it, so that areas, and the pieces that they are assembled from,
 * often fit each other exactly, and growth in small steps mostly finds the room that it needs. What is not touched
 * costs nothing.
 */
#define GRANULE_SHARE 16

static inline size_t area_len(size_t size)
{
	return ALIGN(max(size, (size_t)1), max(os_page_size, 1ul << ilog2(size / GRANULE_SHARE | 1)));
}

/* --- vmalloc.c; those with underscores under the vmap lock ------------------------------------------------ */

bool charge_area(unsigned colour, size_t bytes);	/* false: no room in the memory group */
void uncharge_area(unsigned colour, size_t bytes);

#define VMALLOC_HUGE MIB(2)	/* from here on areas start on a boundary of as much, so that huge pages fit */

void __insert_area(struct vmap_area *va);	/* into the tree by address */
struct vmap_area *__find_area(uintptr_t addr);
void __account_busy(const struct vmap_area *va);
void __unaccount_busy(const struct vmap_area *va);
/* Bytes to leave unmapped behind a new area; 0: there are so many that they had better touch. */
u32 __guard_size(void);
/*
 * Maps len bytes of zeroes at the lowest place with room for len + guard. Where somebody else's mapping lies in our
 * region we forget the range and go on above it, farther each time. Returns 0 when there is no memory.
 */
uintptr_t map_new_range(size_t len, size_t align, u32 guard);

/* --- vmap_lazy.c ------------------------------------------------------------------------------------------ */

/* va is in the tree by address and not accounted as busy. */
void __make_lazy(struct vmap_area *va);
void __unmake_lazy(struct vmap_area *va);
/* A lazy area leaves the tree by address, too. */
void __take_lazy(struct vmap_area *va);
/* Order of the tree by size. */
bool lazy_before(const struct vmap_area *a, const struct vmap_area *b);
/* The smallest lazy area of at least len bytes that is aligned, or NULL. */
struct vmap_area *__best_fit(size_t len, size_t align);
/* Unmaps lazy areas that are too old or too many. */
void purge_excess_lazy(void);
/* Unmaps an area that is in no tree and frees its addresses and itself. */
void release_area(struct vmap_area *va);

/*
 * Puts back an area that was taken: [from, to), its front or its end, is no longer mapped; what is left is lazy again, or
 * released if it is too small to be moved.
 */
#define PIECE_MIN KIB(64)	/* mremap takes as long as six faults (m): smaller pieces do not pay */
void put_back_lazy(struct vmap_area *va, uintptr_t from, uintptr_t to);

/* --- vmap_assemble.c -------------------------------------------------------------------------------------- */

/* Where the piece that contains addr ends, and where the last one begins. */
uintptr_t piece_end(const struct vmap_area *va, uintptr_t addr);
uintptr_t last_piece(const struct vmap_area *va);
/* Forgets seams that are not between va_start and va_end. */
void __drop_seams_outside(struct vmap_area *va);
/*
 * Fills [from, va_end) of the caller's area, freshly mapped, with pages of lazy areas as far as there are any. Returns
 * the end of what may now hold old data; 0: a part of the range is no longer mapped and could not be mapped again.
 */
uintptr_t assemble_area(struct vmap_area *va, uintptr_t from);

#endif
