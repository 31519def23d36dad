/* SPDX-License-Identifier: MIT */
/*
 * page_alloc.c - pages for everybody above: per-CPU lists over the zones' buddies.
 *
 * Purpose. A request is served by, in this order: the CPU's page list of that order and type; the buddy of ZONE_BRK;
 * of ZONE_NORMAL; after that what upper layers and the lists of all CPUs keep comes back, and is looked through again;
 * then more memory is brought online, brk first.
 *
 * Objects. struct per_cpu_pages: for orders up to NR_PCP_ORDERS-1, singly linked lists of blocks, PG_pcp on the first
 * page. Refilled and drained in batches under one taking of the zone lock.
 *
 * Watermarks, in pages of free memory of a zone: `min` is how much a zone grows by beyond the request; resident free
 * memory above `high` is a reason for page reporting to look for old blocks, and it stops at `low`. These two follow what is
 * resident, so that a heap that has shrunk does not keep what a large one may.
 *
 * alloc_pages_exact() cuts exactly so many pages off a buddy block, so a 5-page slab costs 5 pages.
 *
 * Locks. pcp before zone. Neither is held while the kernel is asked to take pages back.
 *
 * Kernel counterpart. mm/page_alloc.c: rmqueue_pcplist, free_frozen_page_commit, alloc_contig/exact.
 */
#include "page/page_alloc.h"

#include "os/os.h"
#include "page/percpu.h"
#include "page/reclaim.h"
#include "page/sparse.h"

#define PCP_BATCH_PAGES	16
#define PCP_HIGH_PAGES	96

void setup_per_zone_wmarks(struct zone *zone)
{
	u64 managed = zone->managed_pages, resident = managed - zone->reported_pages;

	zone->watermark[WMARK_MIN] = clamp(managed / 32, KIB(64) >> PAGE_SHIFT, MIB(8) >> PAGE_SHIFT);
	zone->watermark[WMARK_LOW] = clamp(resident / 32, KIB(256) >> PAGE_SHIFT, MIB(16) >> PAGE_SHIFT);
	zone->watermark[WMARK_HIGH] = zone->watermark[WMARK_LOW] * 2;
}

static u32 now_ms(void)
{
	return (u32)os_clock_ms();
}

/* --- the zones ----------------------------------------------------------------------------------------- */

/* Whether it is worth locking the zone for a block of 2^order pages. */
static bool zone_may_have(const struct zone *zone, unsigned order)
{
	u32 orders = 0;

	for (int mt = 0; mt < MIGRATE_TYPES; mt++)
		orders |= READ_ONCE(zone->free_orders[mt]);
	return orders >> order;
}

static pfn_t zone_alloc(struct zone *zone, u32 nr, unsigned order, enum migratetype mt, bool grow, u32 *absent)
{
	u64 present = 0;
	pfn_t pfn, end = 0;

	mutex_lock(&zone->lock, LOCK_zone);
	pfn = __rmqueue_exact(zone, nr, order, mt, absent);
	if (!pfn && grow) {
		present = zone->present_pages;
		/* Twice as much holds an aligned block wherever it begins. */
		if (online_pages(zone, (2u << order) + (u32)zone->watermark[WMARK_MIN]) == 0) {
			setup_per_zone_wmarks(zone);
			pfn = __rmqueue_exact(zone, nr, order, mt, absent);
		}
		present = zone->present_pages - present;	/* what was added, at the end */
		end = zone->end_pfn;
	}
	mutex_unlock(&zone->lock, LOCK_zone);
	if (present && memory_notifier)
		memory_notifier(zone->type, (uintptr_t)pfn_to_virt(end - (pfn_t)present), (uintptr_t)pfn_to_virt(end));
	if (pfn)
		count_vm_event(zone->type == ZONE_BRK ? VM_pgalloc_brk : VM_pgalloc_normal);
	return pfn;
}

static struct page *get_page_from_zones(u32 nr, unsigned order, enum migratetype mt, bool grow, u32 *absent)
{
	for (int z = 0; z < MAX_NR_ZONES; z++) {
		pfn_t pfn = 0;

		if (grow || zone_may_have(&zones[z], order))
			pfn = zone_alloc(&zones[z], nr, order, mt, grow, absent);
		if (pfn)
			return pfn_to_page(pfn);
	}
	return NULL;
}

/* nr pages aligned to 2^order >= nr pages. Never called with a lock held. */
static struct page *__zones_alloc(u32 nr, unsigned order, enum migratetype mt, u32 *absent)
{
	struct page *page = get_page_from_zones(nr, order, mt, false, absent);
	bool retry;

	if (page)
		return page;
	retry = reap_all(REAP_EMPTY);
	if (nr_pcp_pages() >= nr) {
		drain_all_pages();
		retry = true;
	}
	if (retry)
		page = get_page_from_zones(nr, order, mt, false, absent);
	if (!page && reap_before_growth())
		page = get_page_from_zones(nr, order, mt, false, absent);
	return page ? page : get_page_from_zones(nr, order, mt, true, absent);
}

static struct page *zones_alloc(u32 nr, unsigned order, enum migratetype mt, u32 *absent)
{
	struct page *page = __zones_alloc(nr, order, mt, absent);

	if (page && *absent)
		balance_growth();
	return page;
}

static void zone_free(pfn_t pfn, u32 nr, u32 stamp)
{
	struct zone *zone = &zones[pfn_zone(pfn)];

	mutex_lock(&zone->lock, LOCK_zone);
	__free_range(zone, pfn, nr, stamp, false);
	mutex_unlock(&zone->lock, LOCK_zone);
	count_vm_event(VM_pgfree);
	page_reporting_notify_free(zone, stamp);
}

/* --- per-CPU lists ------------------------------------------------------------------------------------- */

static void pcp_push(struct per_cpu_pages *pcp, pfn_t pfn, unsigned order, enum migratetype mt)
{
	struct page *page = pfn_to_page(pfn);

	page->flags = PG_pcp;
	page->order = (u8)order;
	page->next = pcp->list[mt][order].head;
	pcp->list[mt][order].head = pfn;
	pcp->list[mt][order].nr++;
	pcp->count += 1u << order;
}

static pfn_t pcp_pop(struct per_cpu_pages *pcp, unsigned order, enum migratetype mt)
{
	pfn_t pfn = pcp->list[mt][order].head;

	if (pfn) {
		struct page *page = pfn_to_page(pfn);

		VM_BUG_ON(page->flags != PG_pcp || page->order != order);
		page->flags = 0;
		pcp->list[mt][order].head = page->next;
		pcp->list[mt][order].nr--;
		pcp->count -= 1u << order;
	}
	return pfn;
}

/* Takes a batch from zones that have it without growing; returns one block. *grown: some were not resident. */
static pfn_t pcp_refill(struct per_cpu_pages *pcp, unsigned order, enum migratetype mt, bool *grown)
{
	unsigned want = PCP_BATCH_PAGES >> order;
	pfn_t first = 0;
	u32 absent;

	for (int z = 0; z < MAX_NR_ZONES && !first; z++) {
		struct zone *zone = &zones[z];
		pfn_t pfn, batch[PCP_BATCH_PAGES];
		unsigned nr = 0;

		if (!zone_may_have(zone, order))
			continue;
		mutex_lock(&zone->lock, LOCK_zone);
		while (nr < want && (pfn = __rmqueue(zone, order, mt, &absent)) != 0) {
			batch[nr++] = pfn;
			*grown |= absent != 0;
		}
		mutex_unlock(&zone->lock, LOCK_zone);
		if (!nr)
			continue;
		/* The block with the lowest address is used first, the others in order. */
		first = batch[0];
		while (nr > 1)
			pcp_push(pcp, batch[--nr], order, mt);
		count_vm_event(VM_pcp_refill);
	}
	return first;
}

static struct page *alloc_pcp(unsigned order, enum migratetype mt)
{
	struct per_cpu_pages *pcp = &pcpu_of(any_cpu())->pcp;
	bool grown = false;
	pfn_t pfn;

	mutex_lock(&pcp->lock, LOCK_pcp);
	pfn = pcp_pop(pcp, order, mt);
	if (pfn)
		count_vm_event(VM_pcp_hit);
	else
		pfn = pcp_refill(pcp, order, mt, &grown);
	mutex_unlock(&pcp->lock, LOCK_pcp);
	if (unlikely(grown))
		balance_growth();
	return pfn ? pfn_to_page(pfn) : NULL;
}

/* Locks the zone of pfn; held, if any, is the zone that is locked now. */
static struct zone *lock_zone_of(pfn_t pfn, struct zone *held)
{
	struct zone *zone = &zones[pfn_zone(pfn)];

	if (zone != held) {
		if (held)
			mutex_unlock(&held->lock, LOCK_zone);
		mutex_lock(&zone->lock, LOCK_zone);
	}
	return zone;
}

/* pcp lock held: gives back all of it, or down to keep pages. A zone's lock is kept from block to block. */
static void __drain_pcp(struct per_cpu_pages *pcp, u32 keep)
{
	struct zone *zone = NULL;
	u32 stamp = now_ms();

	for (int o = NR_PCP_ORDERS - 1; o >= 0; o--) {
		for (int mt = 0; mt < MIGRATE_TYPES; mt++) {
			pfn_t pfn;

			while (pcp->count > keep && (pfn = pcp_pop(pcp, (unsigned)o, (enum migratetype)mt)) != 0) {
				zone = lock_zone_of(pfn, zone);
				__free_range(zone, pfn, 1u << o, stamp, false);
			}
		}
	}
	if (zone)
		mutex_unlock(&zone->lock, LOCK_zone);
	count_vm_event(VM_pgfree);
}

void drain_pages(unsigned cpu)
{
	struct per_cpu_pages *pcp = &pcpu_of(cpu)->pcp;

	if (!READ_ONCE(pcp->count))
		return;
	mutex_lock(&pcp->lock, LOCK_pcp);
	__drain_pcp(pcp, 0);
	mutex_unlock(&pcp->lock, LOCK_pcp);
}

void drain_all_pages(void)
{
	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)
		drain_pages(cpu);
}

/* --- the public calls ---------------------------------------------------------------------------------- */

struct page *alloc_pages(unsigned order, enum migratetype mt)
{
	struct page *page = NULL;
	u32 absent;

	if (order > MAX_PAGE_ORDER)
		return NULL;
	if (order < NR_PCP_ORDERS)
		page = alloc_pcp(order, mt);
	return page ? page : zones_alloc(1u << order, order, mt, &absent);
}

void free_pages(struct page *page, unsigned order)
{
	pfn_t pfn = page_to_pfn(page);
	struct per_cpu_pages *pcp;
	bool notify = false;

	if (order >= NR_PCP_ORDERS || nr_percpu_areas() == 0) {
		zone_free(pfn, 1u << order, now_ms());
		return;
	}
	pcp = &pcpu_of(any_cpu())->pcp;
	mutex_lock(&pcp->lock, LOCK_pcp);
	pcp_push(pcp, pfn, order, get_pageblock_migratetype(pfn));
	if (unlikely(pcp->count > PCP_HIGH_PAGES)) {
		__drain_pcp(pcp, PCP_HIGH_PAGES / 2);
		notify = true;
	}
	mutex_unlock(&pcp->lock, LOCK_pcp);
	if (notify)
		page_reporting_notify_free(&zones[pfn_zone(pfn)], now_ms());
}

static bool pcp_takes(u32 nr_pages)
{
	return is_power_of_2(nr_pages) && nr_pages < 1u << NR_PCP_ORDERS;
}

struct page *alloc_pages_exact(u32 nr_pages, unsigned align_order, enum migratetype mt, bool *zeroed)
{
	unsigned order = max(get_order(nr_pages), align_order);
	struct page *page = NULL;
	u32 absent = 0;

	if (order > MAX_PAGE_ORDER)
		return NULL;
	if (pcp_takes(nr_pages) && align_order <= get_order(nr_pages))
		page = alloc_pcp(order, mt);
	if (!page)
		page = zones_alloc(nr_pages, order, mt, &absent);
	if (zeroed)
		*zeroed = absent == nr_pages;
	return page;
}

void free_pages_exact(struct page *page, u32 nr_pages)
{
	if (pcp_takes(nr_pages) && IS_ALIGNED(page_to_pfn(page), nr_pages))
		free_pages(page, get_order(nr_pages));
	else
		zone_free(page_to_pfn(page), nr_pages, now_ms());
}

void trim_pages_exact(struct page *page, u32 old_nr, u32 new_nr)
{
	if (new_nr < old_nr)
		zone_free(page_to_pfn(page) + new_nr, old_nr - new_nr, now_ms());
}

u64 nr_free_pages(void)
{
	return READ_ONCE(zones[ZONE_BRK].free_pages) + READ_ONCE(zones[ZONE_NORMAL].free_pages);
}

u64 nr_pcp_pages(void)
{
	u64 sum = 0;

	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)
		sum += READ_ONCE(pcpu_of(cpu)->pcp.count);
	return sum;
}
