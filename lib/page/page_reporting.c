/* SPDX-License-Identifier: MIT */
/*
 * page_reporting.c - free blocks are given back to the kernel, and the break is lowered.
 *
 * Purpose. A free block carries the time at which it was freed. Here blocks that have been free for long enough are
 * advised away (MADV_DONTNEED), a batch at a time, oldest first, by size; policy is vmscan.c's. Where there
 * is no background thread, a zone with more resident free memory than its high watermark makes the freeing slow
 * path do a pass, at most once in an eighth of the decay time.
 *
 * Invariants. A block being reported is off its list (PG_isolated), so nobody can get it; it counts as allocated
 * meanwhile. Afterwards it is free again, PG_reported, at the tail of its list. Blocks larger than a pageblock are
 * taken piece by piece.
 *
 * The break is lowered over pages that have been given back only: taking resident ones would need as long as giving
 * them back, with the zone locked.
 *
 * Locks. zone; not held during madvise.
 *
 * Kernel counterpart. mm/page_reporting.c (page_reporting_cycle: isolate a batch, report, put back). Measured: DONTNEED
 * 0.3 us a page, refaulting 2 us: hence by age. MADV_FREE would take half the time, but its pages stay resident until
 * the kernel is short of memory, and who looks at the program before that sees no difference (os/vm.c).
 */
#include "page/reclaim.h"

#include "base/param.h"
#include "os/os.h"
#include "os/vm.h"
#include "page/huge_memory.h"
#include "page/memblock.h"
#include "page/page_alloc.h"
#include "page/percpu.h"

#define REPORT_BATCH	 32
#define REPORT_PAGES	 (1u << PAGEBLOCK_ORDER)	/* of a batch: 150 us */
#define REPORT_MIN_ORDER 2				/* smaller blocks are kept for the deep age */

struct report_batch {
	struct vm_range range[REPORT_BATCH];
	unsigned nr;
	u32 nr_pages, nr_resident;
};

static u32 last_pass_ms;

__resident u64 resident_free_pages(const struct zone *zone)
{
	u64 reported = READ_ONCE(zone->reported_pages), free = READ_ONCE(zone->free_pages);

	return free - min(free, reported);
}

static unsigned os_page_order(void)
{
	return get_order(os_page_size >> PAGE_SHIFT);
}

static bool block_may_go(const struct zone *zone, struct scan_control *sc, pfn_t pfn, unsigned order)
{
	bool deep = order < REPORT_MIN_ORDER || (order < PAGEBLOCK_ORDER && pageblock_is_huge(pfn)) ||
		    resident_free_pages(zone) <= zone->watermark[WMARK_LOW];

	return scan_is_old(sc, pfn_to_page(pfn)->stamp_ms, deep ? sc->deep_age_ms : sc->max_age_ms);
}

static bool batch_is_full(const struct report_batch *batch, unsigned order, size_t limit)
{
	return batch->nr == REPORT_BATCH || (size_t)batch->nr_resident << PAGE_SHIFT >= limit ||
	       (batch->nr && batch->nr_pages + (1u << order) > REPORT_PAGES);
}

/* Zone lock held. Takes old resident blocks of an order off their list. false: the batch is full. */
static bool __isolate_blocks(struct zone *zone, struct scan_control *sc, unsigned order, struct free_list *list,
			     struct report_batch *batch)
{
	unsigned part = min(order, (unsigned)PAGEBLOCK_ORDER);
	pfn_t pfn;

	while ((pfn = oldest_resident(list)) != 0 && block_may_go(zone, sc, pfn, order)) {
		if (batch_is_full(batch, part, sc->nr_to_reclaim))
			return false;
		batch->nr_resident += __take_block(zone, pfn, part);
		pfn_to_page(pfn)->flags = PG_isolated;
		batch->range[batch->nr++] = (struct vm_range){ pfn_to_virt(pfn), PAGE_SIZE << part };
		batch->nr_pages += 1u << part;
	}
	return true;
}

static void isolate_batch(struct zone *zone, struct scan_control *sc, struct report_batch *batch)
{
	unsigned min_order = os_page_order();

	mutex_lock(&zone->lock, LOCK_zone);
	for (unsigned i = min_order; i <= MAX_PAGE_ORDER; i++) {
		unsigned o = sc->small_first ? i : MAX_PAGE_ORDER + min_order - i;

		for (int mt = 0; mt < MIGRATE_TYPES; mt++)
			if (!__isolate_blocks(zone, sc, o, &zone->free_area[o].free_list[mt], batch))
				goto full;
	}
full:
	mutex_unlock(&zone->lock, LOCK_zone);
}

/* Blocks that the kernel would not take (locked memory) begin to age anew. */
static void putback_batch(struct zone *zone, const struct report_batch *batch, bool reported, u32 now_ms)
{
	mutex_lock(&zone->lock, LOCK_zone);
	for (unsigned i = 0; i < batch->nr; i++) {
		pfn_t pfn = virt_to_pfn(batch->range[i].start);

		__free_range(zone, pfn, (u32)(batch->range[i].size >> PAGE_SHIFT),
			     reported ? pfn_to_page(pfn)->stamp_ms : now_ms, reported);
	}
	mutex_unlock(&zone->lock, LOCK_zone);
}

bool page_report(struct zone *zone, struct scan_control *sc)
{
	struct report_batch batch = { .nr = 0 };
	bool ok;

	if (!resident_free_pages(zone))
		return false;
	isolate_batch(zone, sc, &batch);
	if (!batch.nr)
		return false;
	ok = discard_ranges(batch.range, batch.nr) == 0;
	putback_batch(zone, &batch, ok, sc->now_ms);
	if (!ok) {
		sc->failed = true;
		sc->next_ms = min(sc->next_ms, sc->max_age_ms);
		return false;
	}
	count_vm_events(VM_page_report, batch.nr_resident);
	scan_account(sc, (size_t)batch.nr_resident << PAGE_SHIFT);
	return true;
}

static void report_by_age(struct zone *zone, u32 now_ms)
{
	struct scan_control sc = SCAN_ALL(now_ms);

	sc.max_age_ms = (u32)min(direct_decay_ms(), (u64)NEVER_MS / 2);
	sc.deep_age_ms = sc.max_age_ms ? NEVER_MS : 0;
	while (page_report(zone, &sc))
		;
}

/* Cheap when nothing is due; one thread at a time by the exchange of last_pass_ms. */
__resident void page_reporting_notify_free(struct zone *zone, u32 now_ms)
{
	u32 last = READ_ONCE(last_pass_ms);
	u64 decay = direct_decay_ms();

	u64 resident = resident_free_pages(zone);

	if (resident <= zone->watermark[WMARK_HIGH] || READ_ONCE(kswapd_running))
		return;
	if (resident >= KSWAPD_WORTH >> PAGE_SHIFT && !READ_ONCE(kmmd_wanted))
		WRITE_ONCE(kmmd_wanted, true);
	if (decay && now_ms - last < max(decay / 8, (u64)1))
		return;
	if (!__atomic_compare_exchange_n(&last_pass_ms, &last, now_ms, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	count_vm_event(VM_trim_calls);
	report_by_age(zone, now_ms);
}

/* Takes reported blocks that end at the zone's end off the buddy; returns the new end. */
static pfn_t isolate_tail(struct zone *zone, pfn_t keep)
{
	pfn_t end = zone->end_pfn;

	for (;;) {
		pfn_t head = 0;

		for (unsigned o = 0; o <= MAX_PAGE_ORDER && !head; o++) {
			pfn_t pfn = end - (1u << o);
			const struct page *page = pfn_to_page(pfn);

			if (end > 1u << o && IS_ALIGNED(end, 1u << o) && page->order == o &&
			    (page->flags & (PG_buddy | PG_reported)) == (PG_buddy | PG_reported))
				head = pfn;
		}
		if (!head || head < keep)
			return end;
		__del_from_free_list(zone, head);
		end = head;
	}
}

size_t brk_trim(size_t pad)
{
	struct zone *zone = &zones[ZONE_BRK];
	pfn_t old_end, end, keep, cut;
	size_t bytes = 0;

	mutex_lock(&zone->lock, LOCK_zone);
	old_end = zone->end_pfn;
	keep = zone->start_pfn + (u32)(PAGE_ALIGN(pad) >> PAGE_SHIFT);
	if (old_end && (uintptr_t)pfn_to_virt(old_end) == brk_end()) {
		end = isolate_tail(zone, keep);
		cut = min(old_end, (pfn_t)ALIGN(end, os_page_size >> PAGE_SHIFT));
		if (cut < old_end && brk_shrink((uintptr_t)pfn_to_virt(cut)) == 0) {
			bytes = (size_t)(old_end - cut) << PAGE_SHIFT;
			zone->present_pages -= old_end - cut;
			zone->managed_pages -= old_end - cut;
			zone->end_pfn = cut;
			old_end = cut;
		}
		__free_range(zone, end, old_end - end, (u32)os_clock_ms(), true);
	}
	mutex_unlock(&zone->lock, LOCK_zone);
	return bytes;
}
