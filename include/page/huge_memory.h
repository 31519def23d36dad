/* SPDX-License-Identifier: MIT */
/*
 * huge_memory.h - huge pages under the heap: what may have them, khugepaged, and how they are broken up. Kernel:
 * mm/huge_memory.c, mm/khugepaged.c. A huge page is a pageblock, 2 MiB: with OS pages larger than 4 KiB khugepaged rests.
 */
#ifndef KMM_PAGE_HUGE_MEMORY_H
#define KMM_PAGE_HUGE_MEMORY_H

#include "os/vm.h"
#include "page/mm_types.h"

/* Values of KMM_THP. */
enum thp_mode { THP_NEVER, THP_AUTO, THP_ALWAYS };

/*
 * Tells the kernel what KMM_THP wants of memory that has just been mapped: of the heap, of all metadata (none ever; it is told
 * once, when there is as much as a huge page), of a large block. Errors do not matter. Any lock may be held.
 */
void thp_advise_heap(uintptr_t start, uintptr_t end);
void thp_advise_metadata(void);
void thp_advise_area(uintptr_t start, size_t size);

/*
 * As vm_dontneed_ranges(), of memory of the heap. Where that takes part of a huge page it is noted: the rest of it keeps all
 * of it charged to the control group until khugepaged has split it.
 */
int discard_ranges(const struct vm_range *range, unsigned nr);

/* What is known about a pageblock. */
enum huge_state {
	HUGE_NONE,
	HUGE_WHOLE,	/* khugepaged has made it one page */
	HUGE_TORN,	/* part of it has been given back since */
	HUGE_BROKEN,	/* split, and the kernel told not to make it huge again */
};
extern u8 *huge_states;		/* of all pageblocks of the window; NULL: none is known to be huge */

/* To be left whole if it can be: what is free in it goes home later than elsewhere. */
static inline bool pageblock_is_huge(pfn_t pfn)
{
	const u8 *states = READ_ONCE(huge_states);

	return unlikely(states != NULL) && READ_ONCE(states[pfn >> PAGEBLOCK_ORDER]) == HUGE_WHOLE;
}

/* In huge pages that khugepaged has made, and nobody has torn since; those that came by a fault are not known. */
u64 thp_heap_bytes(void);

/* --- khugepaged --------------------------------------------------------------------------------------------- */

/* A pageblock's worth of memory, as somebody who knows what lies there sees it. */
struct huge_block {
	void *addr;		/* 2 MiB aligned */
	u32 nr_used;		/* pages that are not free */
	size_t live;		/* bytes that are in use, at most */
	u32 sum;		/* of what lies where: changes when something is allocated or freed */
	bool barred;		/* not to be touched: meshed, or on its way */
};

/*
 * Looks at memory block by block, from the lowest address on: false: that was the last. begin starts anew. Called by the
 * background thread only, outside the gate, without locks.
 */
struct huge_source {
	void (*begin)(void);
	bool (*next)(struct huge_block *b);
};
void register_huge_source(const struct huge_source *source);

/* The background thread's turn, as kcompactd_run() (page/compaction.h): at most one huge page is made or split. */
u32 khugepaged_run(u32 reclaim_ms, bool may_open, bool (*stop)(void));
void khugepaged_exit(void);	/* that thread ends; or does not exist, in a child */
/* There is so much memory in use that huge pages alone are worth a background thread. */
bool khugepaged_is_worth_a_thread(void);

#endif
