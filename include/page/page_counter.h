/* SPDX-License-Identifier: MIT */
/*
 * page_counter.h - a count of pages with limits, below another. Kernel: include/linux/page_counter.h.
 *
 * Unlike the kernel's, usage never exceeds max by a charge, not even for a moment: whoever looks at any time sees so.
 * Lock-free, any context.
 */
#ifndef KMM_PAGE_PAGE_COUNTER_H
#define KMM_PAGE_PAGE_COUNTER_H

#include "base/types.h"

#define PAGE_COUNTER_MAX (UINT64_MAX >> PAGE_SHIFT)	/* no limit */

struct page_counter {
	u64 usage;			/* charged here and below */
	u64 watermark;			/* the most there has been */
	u64 max, high, low, min;
	u64 reserve;			/* of max, for those who have just been refused (page/oom_kill.c) */
	struct page_counter *parent;
} __attribute__((aligned(64)));

void page_counter_init(struct page_counter *counter, struct page_counter *parent);
/*
 * Charges nr pages to the counter and all above it; false: nothing is charged, and *fail (may be NULL) is the lowest
 * whose max forbids it. emergency: the reserve may be used.
 */
bool page_counter_try_charge(struct page_counter *counter, u64 nr, bool emergency, struct page_counter **fail);
void page_counter_uncharge(struct page_counter *counter, u64 nr);
/* Pages that may yet be charged here, whatever is above. */
u64 page_counter_margin(const struct page_counter *counter);
/* As many as are set aside of each max, here and above: the reserve is not needed any more. */
bool page_counter_has_room(const struct page_counter *counter);
/* What of max is set aside: a sixteenth, 512 KiB at most. */
void page_counter_set_max(struct page_counter *counter, u64 max);

#endif
