/* SPDX-License-Identifier: MIT */
/* lock_holds.h - how long this thread's work holds the locks that allocations wait for. Debug library only. */
#ifndef KMM_TESTS_UNIT_LOCK_HOLDS_H
#define KMM_TESTS_UNIT_LOCK_HOLDS_H

#include "boot.h"

#if KMM_DEBUG >= 1
#define HELD_MAX_NS 50000u	/* that the background thread may hold one */

static inline void lock_holds_begin(void)
{
	memset(lockdep_longest_ns, 0, sizeof(lockdep_longest_ns));
	lockdep_time_this_thread(true);
}

/* The longest since then, ns of this thread's CPU time; 0: none was taken. */
static inline u64 lock_holds_end(void)
{
	u64 longest = 0;

	lockdep_time_this_thread(false);
	for (unsigned c = LOCK_percpu_area; c < NR_LOCK_CLASSES; c++)
		longest = max(longest, lockdep_longest_ns[c]);
	return longest;
}
#endif

#endif
