/* SPDX-License-Identifier: MIT */
/*
 * memcg_thread.h - what a thread carries of memory groups: its own, and what charges have left to be done.
 *
 * Kernel: task_struct's objcg, memcg_nr_pages_over_high, memcg_in_oom, active_memcg.
 */
#ifndef KMM_PAGE_MEMCG_THREAD_H
#define KMM_PAGE_MEMCG_THREAD_H

#include "arch/percpu_ops.h"

/* A colour as it is added to a class: in bits 8-15, and bit 0 says that it is set. */
#define MEMCG_ASSIGNED 1u
#define MEMCG_COLOUR_BITS 0xff00u
static inline u32 memcg_word(unsigned colour)
{
	return colour << MAP_COLOUR_SHIFT | MEMCG_ASSIGNED;
}

static inline unsigned memcg_word_colour(u32 word)
{
	return (word & MEMCG_COLOUR_BITS) >> MAP_COLOUR_SHIFT;
}

struct memcg_thread {
	u32 word;		/* the thread's group, 0: not known yet */
	u32 active;		/* charged instead while it is set. Kernel: set_active_memcg() */
	u32 lookups;		/* of callers' libraries; at each MEMCG_LOOKUPS-th the thread is looked at anew */
	u32 lib_seq, lib_word;	/* what the last one found, as long as memcg_ranges_seq is that: 0: no rule names it */
	uintptr_t lib_start, lib_size;
	u32 failed;		/* word of the group whose max the last charge that failed was over, 0: none */
	u32 reserved;		/* this allocation has taken a slab of the reserve: a second one would only fill caches */
	u32 over_high;		/* pages charged over some high since the thread was last made to pay */
	u32 over_colour;	/* of the group that they were charged to last */
	u32 prepaid;		/* pages that are charged to the root already (memcg_prepay()) */
	u32 emergency;		/* pages of reserves that it may use (mm/oom_kill.c) */
	u32 asked, refused_bytes;	/* size of the object that it asks for; of the one that was refused */
	u32 refused_slabs;	/* that this size may yet take out of reserves; none before it was refused twice */
	const void *caller;	/* of the allocation that is on a slow path, or was last */
	bool stalled;		/* in reclaim, or throttled */
	bool refused;		/* since it last saw room */
	bool refused_again;	/* the same size, once more */
};
extern __thread struct memcg_thread memcg_thread __initial_exec;

/* The colour that the calling thread's allocations are charged to. */
static inline unsigned memcg_charging_colour(void)
{
	u32 word = memcg_thread.active ? memcg_thread.active : memcg_thread.word;

	return memcg_word_colour(word);
}

#endif
