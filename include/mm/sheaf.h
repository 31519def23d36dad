/* SPDX-License-Identifier: MIT */
/*
 * sheaf.h - what a sheaf looks like. Kernel: struct slab_sheaf of mm/slub.c.
 */
#ifndef KMM_MM_SHEAF_H
#define KMM_MM_SHEAF_H

#include "base/compiler.h"
#include "base/types.h"

/*
 * 64 words, 512-byte aligned, type-stable. The first is a link (arch/percpu_chain.h), the second the number of the word
 * where objects begin: a sheaf of capacity n uses the last n; the word before those is NULL, the bottom sentinel. A CPU's
 * slot holds only `top`, the address behind the last object:
 *   top[-1] == NULL        empty
 *   (top & 511) == 0       full
 * The stop sheaf and the boot sheaf are both at once: a pop finds NULL, a push finds the end.
 */
#define SHEAF_SIZE	512u
#define SHEAF_SLOTS	64u
#define SHEAF_MAX_CAPACITY 61u

struct sheaf {
	void *slot[SHEAF_SLOTS];
} __aligned(512);

/* All NULL, never written. A slot on the boot sheaf may be exchanged for a real one, on the stop sheaf not. */
extern struct sheaf stop_sheaf, boot_sheaf;

static inline void **sheaf_full_top(struct sheaf *sh)
{
	return &sh->slot[SHEAF_SLOTS];
}

static inline struct sheaf *sheaf_of_top(void **top)
{
	return (struct sheaf *)(((uintptr_t)top - 1) & ~(uintptr_t)(SHEAF_SIZE - 1));
}

/* The full sheaf beneath this one in its slot, or NULL. */
static inline struct sheaf *sheaf_below(const struct sheaf *sh)
{
	return (struct sheaf *)((uintptr_t)sh->slot[0] & ~(uintptr_t)(SHEAF_SIZE - 1));
}

/* The place of the first object. */
static inline void **sheaf_bottom(struct sheaf *sh)
{
	return &sh->slot[(uintptr_t)sh->slot[1]];
}

static inline unsigned sheaf_capacity(struct sheaf *sh)
{
	return (unsigned)(sheaf_full_top(sh) - sheaf_bottom(sh));
}

#endif
