/* SPDX-License-Identifier: MIT */
/*
 * page_counter.c - hierarchical counters of pages.
 *
 * Purpose. A charge goes into a counter and all its parents, or nowhere.
 *
 * Invariants. usage is at most max, but for a max that was lowered below it. usage of a parent is the sum of its
 * children's and of what was charged to itself; while a charge is on its way up, the child is ahead.
 *
 * Kernel counterpart and what differs. mm/page_counter.c adds first and takes back when that was too much, so that its
 * usage may be seen above max for a moment; here a compare-and-exchange decides. Charges come in batches (memcontrol.c),
 * so the loop is rarely entered twice.
 */
#include "page/page_counter.h"

#include "base/bug.h"
#include "base/compiler.h"

#define RESERVE_SHARE 16
#define RESERVE_MAX   (KIB(512) >> PAGE_SHIFT)

__init void page_counter_init(struct page_counter *counter, struct page_counter *parent)
{
	*counter = (struct page_counter){ .max = PAGE_COUNTER_MAX, .high = PAGE_COUNTER_MAX, .parent = parent };
}

void page_counter_set_max(struct page_counter *counter, u64 max)
{
	WRITE_ONCE(counter->reserve, max == PAGE_COUNTER_MAX ? 0 : min(max / RESERVE_SHARE, (u64)RESERVE_MAX));
	WRITE_ONCE(counter->max, max);
}

static void update_watermark(struct page_counter *counter, u64 usage)
{
	u64 old = READ_ONCE(counter->watermark);

	while (usage > old && !__atomic_compare_exchange_n(&counter->watermark, &old, usage, true, __ATOMIC_RELAXED,
							   __ATOMIC_RELAXED))
		;
}

static bool try_charge_one(struct page_counter *counter, u64 nr, bool emergency)
{
	u64 max = READ_ONCE(counter->max), old = READ_ONCE(counter->usage);

	if (!emergency)
		max -= min(READ_ONCE(counter->reserve), max);
	do {
		if (nr > max || old > max - nr)
			return false;
	} while (!__atomic_compare_exchange_n(&counter->usage, &old, old + nr, true, __ATOMIC_RELAXED, __ATOMIC_RELAXED));
	update_watermark(counter, old + nr);
	return true;
}

static void uncharge_below(struct page_counter *counter, const struct page_counter *end, u64 nr)
{
	for (; counter != end; counter = counter->parent) {
		u64 old = __atomic_fetch_sub(&counter->usage, nr, __ATOMIC_RELAXED);

		VM_BUG_ON(old < nr);
		(void)old;
	}
}

bool page_counter_try_charge(struct page_counter *counter, u64 nr, bool emergency, struct page_counter **fail)
{
	for (struct page_counter *c = counter; c; c = c->parent) {
		if (likely(try_charge_one(c, nr, emergency)))
			continue;
		if (fail)
			*fail = c;
		uncharge_below(counter, c, nr);
		return false;
	}
	return true;
}

void page_counter_uncharge(struct page_counter *counter, u64 nr)
{
	uncharge_below(counter, NULL, nr);
}

u64 page_counter_margin(const struct page_counter *counter)
{
	u64 max = READ_ONCE(counter->max), reserve = READ_ONCE(counter->reserve), usage = READ_ONCE(counter->usage);

	max -= min(reserve, max);
	return max - min(usage, max);
}

bool page_counter_has_room(const struct page_counter *counter)
{
	for (; counter; counter = counter->parent)
		if (page_counter_margin(counter) < READ_ONCE(counter->reserve))
			return false;
	return true;
}
