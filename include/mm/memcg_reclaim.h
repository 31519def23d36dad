/* SPDX-License-Identifier: MIT */
/*
 * memcg_reclaim.h - making room in a memory group, and what happens when there is none. Kernel: mm/memcontrol.c,
 * mm/oom_kill.c. All calls outside the gate and without locks; those of the program's functions that are called may allocate.
 */
#ifndef KMM_MM_MEMCG_RECLAIM_H
#define KMM_MM_MEMCG_RECLAIM_H

#include "page/memcontrol.h"

/*
 * The calling thread's allocation of so many bytes has failed: if that was for want of room in a group, tries to make
 * some, then asks the group's policy. true: try again. *tries counts, and begins at 0.
 */
bool memcg_make_room(size_t bytes, unsigned *tries);
/* The calling thread has charged over some high: reclaim, and wait if that was not enough. */
void __memcg_handle_over_high(void);
static inline void memcg_handle_over_high(void)
{
	if (unlikely(memcg_thread.over_high != 0))
		__memcg_handle_over_high();
}
extern u32 memcg_nr_stalled;		/* threads that wait now */
/* On slow paths: while others wait, the calling thread is busy. */
void __memcg_note_busy(void);
static inline void memcg_note_busy(void)
{
	if (unlikely(READ_ONCE(memcg_nr_stalled)))
		__memcg_note_busy();
}
/*
 * Gives back what the group and those below it cache, and asks the program's shrinkers for bytes more. Pages by which
 * usage fell. Kernel: try_to_free_mem_cgroup_pages().
 */
u64 mem_cgroup_reclaim(struct mem_cgroup *memcg, size_t bytes);
/* Milliseconds that a thread which has charged nr pages has to wait in a group that is over its high. */
u32 calculate_high_delay(u64 usage, u64 high, u64 nr_pages);

/*
 * The program's caches: shrink gives back about bytes of what is charged to the group or below it, and returns how many.
 * The number of the entry, or -ENOSPC.
 */
int register_memcg_shrinker(u32 memcg_id, size_t (*shrink)(size_t bytes, void *arg), void *arg);
int unregister_memcg_shrinker(int nr);		/* -ENOENT. Waits until nobody is in it, but for the caller */
/* In a child of fork nobody is in one but perhaps the caller. */
void memcg_reclaim_reset_child(void);

/* The policy of the group that an allocation of bytes does not fit into. true: try again. oom_kill.c */
bool out_of_memory(struct mem_cgroup *over, size_t bytes);
void oom_report(struct mem_cgroup *over, size_t bytes);

#endif
