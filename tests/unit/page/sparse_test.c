/* SPDX-License-Identifier: MIT */
/* sparse_test.c - the window, the map over it, and memory that comes online in spite of neighbours. */
#include "page/sparse.h"

#include "../boot.h"
#include "page/percpu.h"
#include <sys/resource.h>

static void boot(void)
{
	boot_pages(PERCPU_AUTO);
}

TestSuite(sparse, .init = boot, .timeout = 60);
TestSuite(sparse_unbooted, .timeout = 60);

static int grow(enum zone_type z, u32 nr_pages)
{
	struct zone *zone = &zones[z];
	int ret;

	mutex_lock(&zone->lock, LOCK_zone);
	ret = online_pages(zone, nr_pages);
	buddy_validate(zone);
	mutex_unlock(&zone->lock, LOCK_zone);
	return ret;
}

Test(sparse, window)
{
	u64 size = direct_map.end - direct_map.start;

	cr_assert(IS_ALIGNED(direct_map.start, PAGEBLOCK_SIZE));
	cr_assert(is_power_of_2(size));
	cr_assert_geq(size, MIB(256));
	cr_assert(IS_ALIGNED(direct_map.sections - direct_map.start, PAGEBLOCK_SIZE));
	cr_assert(direct_map.start < direct_map.sections && direct_map.sections < direct_map.end);
	cr_assert_lt((uintptr_t)__os_sbrk(0), direct_map.sections);
	cr_assert_geq(brk_end(), direct_map.start);
	cr_assert_geq(direct_map.end - direct_map.sections, os_ram_bytes(), "sections for all memory there is");
	cr_assert_leq((size >> PAGE_SHIFT) - 1, UINT32_MAX, "a pfn fits");
	cr_assert_not(virt_addr_valid((void *)direct_map.sections), "no section yet");
}

Test(sparse, arrays_do_not_overlap)
{
	for (int a = 0; a < NR_REGIONS; a++) {
		if (a == REGION_VMALLOC)
			continue;
		cr_assert_lt(regions[a].start, regions[a].end, "%s", regions[a].name);
		for (int b = 0; b < a; b++)
			if (b != REGION_VMALLOC)
				cr_assert(regions[a].end <= regions[b].start || regions[b].end <= regions[a].start,
					  "%s and %s", regions[a].name, regions[b].name);
	}
	cr_assert_eq(regions[REGION_MAP].end - regions[REGION_MAP].start, (direct_map.end - direct_map.start) >> 10);
	cr_assert_eq(regions[REGION_VMEMMAP].end - regions[REGION_VMEMMAP].start, (direct_map.end - direct_map.start) >> 7);
}

Test(sparse, conversions)
{
	u64 r = rng_of(1);
	char *end = (char *)direct_map.start + direct_map.limit16 * 16;

	for (int i = 0; i < 1000; i++) {
		char *p = (char *)direct_map.start + rng_below(&r, (u32)(end - (char *)direct_map.start));
		pfn_t pfn = virt_to_pfn(p);

		cr_assert(virt_addr_valid(p));
		cr_assert_eq((uintptr_t)pfn_to_virt(pfn), (uintptr_t)p & PAGE_MASK);
		cr_assert_eq(page_to_pfn(pfn_to_page(pfn)), pfn);
		cr_assert_eq(page_address(virt_to_page(p)), pfn_to_virt(pfn));
		cr_assert_eq(pfn_zone(pfn), ZONE_BRK);
	}
	cr_assert_eq(pfn_zone(virt_to_pfn((void *)direct_map.sections)), ZONE_NORMAL);
}

/* Whatever a program may give to free(): the answer is no, or the map can be read and says "nothing of mine". */
Test(sparse, foreign_addresses)
{
	static int a_global;
	int on_stack;
	char *limit = (char *)direct_map.start + direct_map.limit16 * 16, *mapped = vm_map(MIB(1)), *small = malloc(10);
	const void *foreign[] = { NULL, (void *)1, (void *)8, (void *)4096, &on_stack, &a_global, (void *)memblock_init,
		mapped, (void *)-1, (void *)-16, (void *)(1ul << 63), (void *)(1ul << 47), (char *)direct_map.start - 1,
		(char *)direct_map.start - 16, limit, limit + 1, limit + 15, limit + GIB(1), (void *)direct_map.end,
		(char *)direct_map.end - 16, direct_map.map, direct_map.vmemmap, percpu_hot.base };
	u64 r = rng_of(2);

	for (unsigned i = 0; i < ARRAY_SIZE(foreign); i++)
		cr_assert_not(virt_addr_valid(foreign[i]), "%p", foreign[i]);
	cr_assert(virt_addr_valid(limit - 1));
	cr_assert(virt_addr_valid(limit - 16));
	if (virt_addr_valid(small))
		cr_assert_eq(map_entry(virt_to_pfn(small)), 0u);
	for (unsigned i = 0; i < 1000000; i++) {
		void *p = (void *)(rng_next(&r) >> rng_below(&r, 64));

		if (virt_addr_valid(p))
			cr_assert((uintptr_t)p >= direct_map.start && (char *)p < limit);
	}
}

/* Below the limit every entry can be read, holes and the span between the zones included. */
Test(sparse, whole_span_can_be_read)
{
	u64 sum = 0, flags = 0;

	cr_assert_eq(grow(ZONE_NORMAL, 1), 0);
	cr_assert(virt_addr_valid((void *)direct_map.sections));
	for (pfn_t pfn = 0; pfn < direct_map.limit16 >> (PAGE_SHIFT - 4); pfn++) {
		sum += map_entry(pfn);
		flags += pfn_to_page(pfn)->flags != 0;
	}
	cr_assert_eq(sum, 0u, "no object yet");
	cr_assert_gt(flags, 0u, "free blocks");
	cr_assert_eq(pfn_to_page(0)->flags, 0, "page 0 is never online");
}

Test(sparse, a_map_entry)
{
	pfn_t pfn = zones[ZONE_BRK].start_pfn;

	set_map_entry(pfn, make_map_entry(9, 2, 513));
	cr_assert_eq(map_entry(pfn), 9u | 2u << 8 | 513u << 16);
	cr_assert_eq(map_entry(pfn + 1), 0u);
	cr_assert_eq(map_entry(pfn - 1), 0u);
}

Test(sparse, brk_zone_grows_to_its_bound)
{
	struct zone *zone = &zones[ZONE_BRK];
	u64 before = 0;
	unsigned steps = 0;

	while (grow(ZONE_BRK, 1) == 0) {
		cr_assert_gt(zone->present_pages, before);
		cr_assert_eq(zone->free_pages, zone->managed_pages);
		cr_assert_eq(zone->reported_pages, zone->free_pages, "fresh memory is not resident");
		cr_assert_eq((uintptr_t)pfn_to_virt(zone->end_pfn), brk_end());
		before = zone->present_pages;
		steps++;
	}
	cr_assert_leq(before << PAGE_SHIFT, MIB(64));
	cr_assert_geq(before << PAGE_SHIFT, MIB(60));
	cr_assert_leq(steps, 100u, "the steps grow");
	cr_assert_eq(grow(ZONE_NORMAL, 1), 0);
}

Test(sparse, brk_zone_passes_over_a_foreign_hole)
{
	struct zone *zone = &zones[ZONE_BRK];
	u64 present = zone->present_pages;
	char *hole = foreign_sbrk(KIB(20));

	memset(hole, 7, KIB(20));
	cr_assert_eq(grow(ZONE_BRK, 32), 0);
	cr_assert_geq(zone->present_pages, present + 32);
	cr_assert_eq(zone->end_pfn - zone->start_pfn, zone->present_pages + 5, "five pages of hole");
	cr_assert(virt_addr_valid(hole));
	cr_assert_eq(map_entry(virt_to_pfn(hole)), 0u);
	cr_assert_eq(virt_to_page(hole)->flags, 0);
	for (size_t i = 0; i < KIB(20); i++)
		cr_assert_eq(hole[i], 7);
}

Test(sparse, brk_blocked)
{
	cr_assert_eq(vm_map_at((void *)(brk_end() + os_page_size), os_page_size), 0);
	cr_assert_eq(grow(ZONE_BRK, 1), -ENOMEM);
	cr_assert_eq(grow(ZONE_BRK, 1), -ENOMEM);
	cr_assert_eq(grow(ZONE_NORMAL, 1), 0);
	cr_assert_gt(zones[ZONE_NORMAL].free_pages, 0u);
}

/* Something foreign lies where the first section should go: it is passed over and stays as it is. */
Test(sparse, section_passes_over_a_foreign_mapping)
{
	char *foreign = (char *)direct_map.sections + MIB(1);
	struct zone *zone = &zones[ZONE_NORMAL];

	cr_assert_eq(vm_map_at(foreign, os_page_size), 0);
	memset(foreign, 7, os_page_size);
	for (int i = 0; i < 10; i++)
		cr_assert_eq(grow(ZONE_NORMAL, 1), 0);
	cr_assert_gt((char *)pfn_to_virt(zone->start_pfn), foreign);
	cr_assert_eq(zone->free_pages, zone->present_pages);
	cr_assert_eq(map_entry(virt_to_pfn(foreign)), 0u);
	for (size_t i = 0; i < os_page_size; i++)
		cr_assert_eq(foreign[i], 7);
	memset(pfn_to_virt(zone->start_pfn), 1, PAGE_SIZE);
}

Test(sparse, sections_follow_one_another)
{
	struct zone *zone = &zones[ZONE_NORMAL];

	for (int i = 0; i < 20; i++)
		cr_assert_eq(grow(ZONE_NORMAL, (u32)(MIB(3) >> PAGE_SHIFT)), 0);
	cr_assert_eq(zone->end_pfn - zone->start_pfn, zone->present_pages, "no hole");
	cr_assert_eq(zone->managed_pages, zone->free_pages);
	cr_assert(IS_ALIGNED((uintptr_t)pfn_to_virt(zone->start_pfn), PAGEBLOCK_SIZE));
	cr_assert(IS_ALIGNED((uintptr_t)pfn_to_virt(zone->end_pfn), PAGEBLOCK_SIZE));
}

Test(sparse, beyond_the_window)
{
	cr_assert_eq(sparse_online_span(direct_map.end - PAGE_SIZE, direct_map.end + PAGE_SIZE), -ENOMEM);
	cr_assert_eq(sparse_online_span(direct_map.sections - PAGE_SIZE, direct_map.sections + PAGE_SIZE), -ENOMEM);
	cr_assert_eq(grow(ZONE_NORMAL, UINT32_MAX - 4096), -ENOMEM);
	cr_assert_eq(zones[ZONE_NORMAL].present_pages, 0u);
}

/* mmap, mprotect and the break fail now and then: -ENOMEM, and the zone is as it was. */
Test(sparse, growth_with_faults)
{
	u64 r = rng_of(3);
	unsigned failed = 0;

	for (unsigned i = 0; i < 400; i++) {
		struct zone *zone = &zones[rng_below(&r, 2)];
		u64 present = zone->present_pages, free = zone->free_pages;

		os_fault_every = 2 + rng_below(&r, 3);
		if (grow(zone->type, 1 + rng_below(&r, 2000)) != 0) {
			cr_assert_eq(zone->present_pages, present);
			cr_assert_eq(zone->free_pages, free);
			failed++;
		} else {
			cr_assert_gt(zone->free_pages, free);
		}
		cr_assert_eq(zone->free_pages, zone->managed_pages);
	}
	cr_assert_gt(failed, 10u);
	os_fault_every = 0;
	cr_assert_eq(grow(ZONE_NORMAL, 1), 0);
}

/* Bytes of address space that the process has. */
static size_t vm_size(void)
{
	char buf[64];

	cr_assert_gt(os_read_file("/proc/self/statm", buf, sizeof(buf)), 0);
	return strtoul(buf, NULL, 10) * os_page_size;
}

/* The map cannot be made writable: what was mapped is given back, or address space would run out meanwhile. */
Test(sparse, failed_growth_gives_back)
{
	size_t before, lost;
	int failed = 0;

	cr_assert_eq(grow(ZONE_NORMAL, 1), 0);
	before = vm_size();
	for (int i = 0; i < 50; i++) {
		os_fault_every = 2;
		failed += grow(ZONE_NORMAL, (u32)(MIB(6) >> PAGE_SHIFT)) != 0;
		failed += grow(ZONE_NORMAL, (u32)(MIB(6) >> PAGE_SHIFT)) != 0;
		os_fault_every = 0;
	}
	lost = vm_size() - before - ((zones[ZONE_NORMAL].present_pages << PAGE_SHIFT) - MIB(4));
	cr_assert_gt(failed, 10);
	cr_assert_leq(lost, MIB(64), "%d failures left %zu MiB mapped", failed, lost >> 20);
}

Test(sparse_unbooted, no_reservation)
{
	os_init();
	os_fault_every = 1;
	cr_assert_eq(sparse_init((uintptr_t)__os_sbrk(0)), -ENOMEM);
	os_fault_every = 0;
	cr_assert_eq(sparse_init((uintptr_t)__os_sbrk(0)), 0);
}

static void limited(u64 bytes)
{
	struct rlimit lim = { bytes, bytes };
	u64 total = 0;

	cr_assert_eq(setrlimit(RLIMIT_AS, &lim), 0);
	boot();
	cr_assert_leq((direct_map.end - direct_map.start) * 9 / 1024, bytes / 4, "map and vmemmap leave room");
	while (grow(ZONE_BRK, 256) == 0 || grow(ZONE_NORMAL, 256) == 0)
		;
	total = (zones[ZONE_BRK].present_pages + zones[ZONE_NORMAL].present_pages) << PAGE_SHIFT;
	cr_assert_geq(total, bytes / 2, "most of the space can be used: %lu MiB", total >> 20);
	cr_assert_geq(max_percpu_areas, 2u);
}

Test(sparse_unbooted, address_space_of_500_mb)
{
	limited(500000ul << 10);
}

Test(sparse_unbooted, address_space_of_4_gib)
{
	limited(GIB(4));
}
