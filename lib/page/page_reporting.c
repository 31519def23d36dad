/* SPDX-License-Identifier: MIT */
/*
 * page_reporting.c - free blocks are given back to the kernel, and the break is lowered.
 *
 * Purpose. A free block carries the time at which it was freed. When a zone holds more resident free memory than
 * its high watermark, blocks older than KMM_DECAY_MS are advised away (MADV_DONTNEED) until the low watermark is
 * reached; the freeing slow path that notices does it, at most once in an eighth of the decay time. malloc_trim()
 * does the same with age 0 and down to single pages.
 *
 * Invariants. A block being reported is off its list (PG_isolated), so nobody can get it; it counts as allocated
 * meanwhile. Afterwards it is free again, PG_reported, at the tail of its list.
 *
 * Locks. zone; not held during madvise.
 *
 * Kernel counterpart. mm/page_reporting.c (page_reporting_cycle: isolate a batch, report, put back); the shrinker
 * list is mm/shrinker.c. Measured: DONTNEED 0.3 us a page, refaulting 2 us: hence by age.
 */
#include "page/reclaim.h"

#include "base/param.h"
#include "os/os.h"
#include "os/vm.h"
#include "page/memblock.h"
#include "page/page_alloc.h"
#include "page/percpu.h"

#define REPORT_BATCH	 32
#define REPORT_MIN_ORDER 2	/* below, only malloc_trim() bothers */

static struct shrinker *shrinkers;
static u32 last_cycle_ms;

static u64 resident_free(const struct zone *zone)
{
	return READ_ONCE(zone->free_pages) - READ_ONCE(zone->reported_pages);
}

static unsigned os_page_order(void)
{
	return get_order(os_page_size >> PAGE_SHIFT);
}

/* Takes up to REPORT_BATCH old resident blocks off their lists, but not more than leave stop_at pages. */
static unsigned isolate_batch(struct zone *zone, unsigned order, u32 now, u64 max_age_ms, u64 stop_at, pfn_t *batch)
{
	unsigned nr = 0;

	mutex_lock(&zone->lock, LOCK_zone);
	for (int mt = 0; mt < MIGRATE_TYPES; mt++) {
		pfn_t next, pfn = zone->free_area[order].free_list[mt].head;

		for (; pfn && nr < REPORT_BATCH && resident_free(zone) > stop_at; pfn = next) {
			struct page *page = pfn_to_page(pfn);

			next = page->next;
			if (page->flags & PG_reported)
				break;		/* reported ones follow to the end */
			if (now - page->stamp_ms < max_age_ms)
				continue;
			__del_from_free_list(zone, pfn);
			page->flags = PG_isolated;
			batch[nr++] = pfn;
		}
	}
	mutex_unlock(&zone->lock, LOCK_zone);
	return nr;
}

static void putback_batch(struct zone *zone, unsigned order, const pfn_t *batch, unsigned nr, bool reported)
{
	mutex_lock(&zone->lock, LOCK_zone);
	for (unsigned i = 0; i < nr; i++)
		__free_one_page(zone, batch[i], order, pfn_to_page(batch[i])->stamp_ms, reported);
	mutex_unlock(&zone->lock, LOCK_zone);
}

size_t page_report(struct zone *zone, unsigned min_order, u64 max_age_ms)
{
	u32 now = (u32)os_clock_ms();
	u64 stop_at = max_age_ms ? zone->watermark[WMARK_LOW] : 0;
	pfn_t batch[REPORT_BATCH];
	size_t bytes = 0;
	unsigned nr;

	for (int o = MAX_PAGE_ORDER; o >= (int)max(min_order, os_page_order()); o--) {
		do {
			bool ok = true;

			if (resident_free(zone) <= stop_at)
				goto out;
			nr = isolate_batch(zone, (unsigned)o, now, max_age_ms, stop_at, batch);
			for (unsigned i = 0; i < nr; i++)
				ok = vm_dontneed(pfn_to_virt(batch[i]), PAGE_SIZE << o) == 0 && ok;
			putback_batch(zone, (unsigned)o, batch, nr, ok);
			if (!ok)
				goto out;
			bytes += (size_t)nr << (o + PAGE_SHIFT);
		} while (nr == REPORT_BATCH);
	}
out:
	count_vm_events(VM_page_report, bytes >> PAGE_SHIFT);
	return bytes;
}

/* Cheap when nothing is due; one thread at a time by the exchange of last_cycle_ms. */
void page_reporting_notify_free(struct zone *zone, u32 now_ms)
{
	u32 last = READ_ONCE(last_cycle_ms);
	u64 decay = kmm_params.decay_ms;

	if (resident_free(zone) <= zone->watermark[WMARK_HIGH])
		return;
	if (decay && now_ms - last < max(decay / 8, (u64)1))
		return;
	if (!__atomic_compare_exchange_n(&last_cycle_ms, &last, now_ms, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	count_vm_event(VM_trim_calls);
	page_report(zone, REPORT_MIN_ORDER, decay);
}

/* Takes free blocks that end at the zone's end off the buddy; returns the new end. */
static pfn_t isolate_tail(struct zone *zone, pfn_t keep)
{
	pfn_t end = zone->end_pfn;

	for (;;) {
		pfn_t head = 0;

		for (unsigned o = 0; o <= MAX_PAGE_ORDER && !head; o++) {
			pfn_t pfn = end - (1u << o);
			const struct page *page = pfn_to_page(pfn);

			if (end > 1u << o && IS_ALIGNED(end, 1u << o) && page->flags & PG_buddy && page->order == o)
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
		__free_range(zone, end, old_end - end, (u32)os_clock_ms(), false);
	}
	mutex_unlock(&zone->lock, LOCK_zone);
	return bytes;
}

void register_shrinker(struct shrinker *s)
{
	s->next = shrinkers;
	shrinkers = s;
}

size_t shrink_all(u64 max_age_ms)
{
	size_t bytes = 0;

	for (struct shrinker *s = shrinkers; s; s = s->next)
		bytes += s->scan(max_age_ms);
	return bytes;
}

size_t try_to_free_pages(size_t pad, u64 max_age_ms)
{
	size_t bytes = shrink_all(max_age_ms);

	count_vm_event(VM_trim_calls);
	drain_all_pages();
	bytes += brk_trim(pad);
	for (int z = 0; z < MAX_NR_ZONES; z++)
		bytes += page_report(&zones[z], 0, max_age_ms);
	return bytes;
}
