/* SPDX-License-Identifier: MIT */
/*
 * sparse.c - the direct-map window, and bringing memory online in it.
 *
 * Purpose. All pages lie in one window of addresses, so that an address becomes a page frame number by a subtraction
 * and a shift. Two arrays over the window, the map and vmemmap, are reserved read-only in one mapping (unbacked
 * reads give zeroes, which mean "nothing here") and made writable span by span, in steps of ONLINE_STEP.
 *
 * Objects.
 *   one reservation:  | map: 4 bytes a page | vmemmap: 32 bytes a page | percpu: 1 MiB a CPU | metadata |
 *   the window:       | ZONE_BRK -> ...            | ZONE_NORMAL: sections -> ...                  |
 *
 * Invariants. limit16 covers every online address; [0, meta_brk) and [sections, meta_normal) of the arrays are
 * writable. Reading map or vmemmap below limit16 never faults. pfn 0 is never online.
 *
 * Locks. Spans are brought online under the lock of their zone; the two zones touch different ends.
 *
 * Kernel counterpart. mm/sparse-vmemmap.c and mm/memory_hotplug.c. Unlike there, a struct page that is all zero is
 * valid and means a hole, so onlining touches only the head of each free block, and memory that is mapped but
 * not yet used costs no metadata either.
 */
#include "page/sparse.h"

#include "os/vm.h"
#include "page/huge_memory.h"
#include "page/memblock.h"
#include "page/percpu.h"
#include "page/reclaim.h"
#include <errno.h>

#define ONLINE_STEP	MIB(4)		/* map and vmemmap become writable for this much memory at a time */
#define BRK_ZONE_MAX	MIB(64)
#define BRK_STEP_MIN	KIB(128)
#define SECTION_MIN	MIB(4)
#define SECTION_MAX	MIB(64)
#define METADATA_SHARE	64		/* of the window, for metadata */
#define SECTION_TRIES	16

struct direct_map direct_map;
struct zone zones[MAX_NR_ZONES] = {
	[ZONE_BRK] = { .name = "BRK", .type = ZONE_BRK },
	[ZONE_NORMAL] = { .name = "Normal", .type = ZONE_NORMAL },
};

struct region regions[NR_REGIONS] = {
	[REGION_BRK] = { "brk zone", 0, 0, "pages from brk" },
	[REGION_NORMAL] = { "normal zone", 0, 0, "sections from mmap" },
	[REGION_VMALLOC] = { "vmalloc", 0, 0, "blocks above 2 MiB" },
	[REGION_MAP] = { "map", 0, 0, "address to class, home, group" },
	[REGION_VMEMMAP] = { "vmemmap", 0, 0, "struct page" },
	[REGION_METADATA] = { "metadata", 0, 0, "sheaves, bitmaps, VMAs" },
	[REGION_PERCPU] = { "percpu", 0, 0, "areas of the CPUs" },
};

static pfn_t online_end[MAX_NR_ZONES];	/* arrays are writable up to here */
static uintptr_t section_end;		/* the next section goes here */
static uintptr_t first_break;
static bool brk_blocked;		/* it could not grow once: a mapping, or a limit, is in the way for good */

/* 4 x RAM, so that brk, holes and churn have room; less where address space is rationed. */
static u64 window_size(u64 limit)
{
	u64 size = roundup_pow_of_two(4 * os_ram_bytes());

	if (limit < size)
		size = roundup_pow_of_two(max(limit, (u64)MIB(64))) * 2;
	return clamp(size, (u64)MIB(256), (u64)GIB(8192));
}

static u32 percpu_areas(u64 limit)
{
	return (u32)clamp(limit / MIB(64), (u64)2, (u64)512);
}

/*
 * What the percpu region begins with: where a thread without rseq reads, and where nothing is for as many indices as the
 * kernel may write. So many areas there must be, too. Where address space is rationed and CPUs are many it is too much.
 */
static __init size_t place_nowhere(u64 limit, u32 *areas)
{
	u32 nr_index = percpu_nr_index(max((u64)*areas, limit / MIB(16)));

	*areas = max(*areas, nr_index);
	return (PERCPU_UNREGISTERED + 1 + (size_t)nr_index) << PERCPU_SHIFT;
}

static __init uintptr_t place_region(enum region_id id, uintptr_t start, size_t size)
{
	regions[id].start = start;
	regions[id].end = start + size;
	return start + size;
}

__init int sparse_init(uintptr_t brk_start)
{
	u64 limit = os_address_space_limit(), size = window_size(limit);
	u32 areas = percpu_areas(limit);
	size_t map_size, vmemmap_size, nowhere_size = place_nowhere(limit, &areas);
	size_t percpu_size = nowhere_size + ((size_t)areas << PERCPU_SHIFT);
	uintptr_t base, next;

	for (;; size /= 2) {
		map_size = ALIGN((size >> PAGE_SHIFT) * sizeof(map_entry_t), PAGEBLOCK_SIZE);
		vmemmap_size = ALIGN((size >> PAGE_SHIFT) * sizeof(struct page), PAGEBLOCK_SIZE);
		base = (uintptr_t)vm_reserve(map_size + vmemmap_size + percpu_size + size / METADATA_SHARE, PROT_READ);
		if (base)
			break;
		if (size <= MIB(64))
			return -ENOMEM;
	}
	next = place_region(REGION_MAP, base, map_size);
	next = place_region(REGION_VMEMMAP, next, vmemmap_size);
	next = place_region(REGION_PERCPU, next, percpu_size);
	place_region(REGION_METADATA, next, size / METADATA_SHARE);
	memblock_set_region(regions[REGION_METADATA].start, regions[REGION_METADATA].end);

	first_break = brk_start;
	direct_map.start = ALIGN_DOWN(brk_start - PAGE_SIZE, PAGEBLOCK_SIZE);
	direct_map.end = direct_map.start + size;
	direct_map.sections = direct_map.start + size / 4;
	direct_map.map = (map_entry_t *)regions[REGION_MAP].start;
	direct_map.vmemmap = (struct page *)regions[REGION_VMEMMAP].start;
	place_region(REGION_BRK, direct_map.start, size / 4);
	place_region(REGION_NORMAL, direct_map.sections, size - size / 4);
	section_end = direct_map.sections;
	online_end[ZONE_NORMAL] = virt_to_pfn((void *)section_end);
	percpu_hot.nowhere = (char *)regions[REGION_PERCPU].start + (PERCPU_UNREGISTERED + 1) * PERCPU_SIZE;
	percpu_hot.base = (char *)regions[REGION_PERCPU].start + nowhere_size;
	percpu_hot.rseq_base = percpu_hot.nowhere;
	max_percpu_areas = areas;
	return 0;
}

static int protect_array(void *array, size_t elem, pfn_t from, pfn_t to)
{
	uintptr_t a = ALIGN_DOWN((uintptr_t)array + from * elem, os_page_size);
	uintptr_t b = ALIGN((uintptr_t)array + to * elem, os_page_size);

	return vm_protect((void *)a, b - a, PROT_READ | PROT_WRITE);
}

int sparse_online_span(uintptr_t start, uintptr_t end)
{
	enum zone_type z = start >= direct_map.sections ? ZONE_NORMAL : ZONE_BRK;
	pfn_t need = virt_to_pfn((void *)PAGE_ALIGN(end));
	u64 limit = (end - direct_map.start) >> 4;

	if (end > direct_map.end || (z == ZONE_BRK && end > direct_map.sections))
		return -ENOMEM;
	if (need > online_end[z]) {
		pfn_t from = online_end[z];
		pfn_t to = ALIGN(need, ONLINE_STEP >> PAGE_SHIFT);

		if (protect_array(direct_map.map, sizeof(map_entry_t), from, to) ||
		    protect_array(direct_map.vmemmap, sizeof(struct page), from, to))
			return -ENOMEM;
		online_end[z] = to;
	}
	if (limit > direct_map.limit16)
		smp_store_release(&direct_map.limit16, limit);
	return 0;
}

/* The break grows by an eighth of what is there, so that the number of steps is logarithmic. */
static int online_brk(struct zone *zone, size_t need, uintptr_t *start, size_t *size)
{
	size_t have = zone->present_pages << PAGE_SHIFT;

	*size = ALIGN(max(need, clamp(have / 8, BRK_STEP_MIN, PAGEBLOCK_SIZE)), os_page_size);
	if (brk_blocked || have + *size > BRK_ZONE_MAX)
		return -ENOMEM;
	brk_blocked = brk_grow(*size, start) != 0;
	return brk_blocked ? -ENOMEM : 0;
}

/* Sections follow one another; an address that something foreign occupies is passed over. */
static int online_section(struct zone *zone, size_t need, uintptr_t *start, size_t *size)
{
	size_t have = zone->present_pages << PAGE_SHIFT;
	size_t want = ALIGN(clamp(have / 8, SECTION_MIN, SECTION_MAX), PAGEBLOCK_SIZE);

	need = ALIGN(need, PAGEBLOCK_SIZE);
	*size = max(want, need);
	for (int i = 0; i < SECTION_TRIES && section_end + *size <= direct_map.end; i++) {
		int ret = vm_map_at((void *)section_end, *size);

		if (ret == 0) {
			*start = section_end;
			section_end += *size;
			count_vm_event(VM_section_online);
			return 0;
		}
		if (ret == -EEXIST)
			section_end += SECTION_MAX;
		else if (*size > need)
			*size = need;
		else
			break;
	}
	return -ENOMEM;
}

int online_range(struct zone *zone, uintptr_t start, uintptr_t end)
{
	u32 nr = (u32)((end - start) >> PAGE_SHIFT);
	int ret = sparse_online_span(start, end);
	pfn_t pfn;

	if (ret)
		return ret;
	pfn = virt_to_pfn((void *)start);
	if (!zone->start_pfn)
		zone->start_pfn = pfn;
	zone->end_pfn = max(zone->end_pfn, pfn + nr);
	zone->present_pages += nr;
	zone->managed_pages += nr;
	__free_range(zone, pfn, nr, 0, true);
	kswapd_note_growth();
	return 0;
}

void (*memory_notifier)(enum zone_type z, uintptr_t start, uintptr_t end);

/* Memory that could not be described goes back, so that trying again and again costs no address space. */
static void offline_unused(struct zone *zone, uintptr_t start, size_t size)
{
	if (zone->type == ZONE_BRK) {
		brk_shrink(start);
	} else if (vm_unmap((void *)start, size) == 0) {
		section_end = start;
	}
}

/*
 * What the kernel is to know of memory that has come online, and, when that happens for the first time, of what boot has
 * taken: a program that never grows needs no system call for that.
 */
static void advise_online(uintptr_t old_end, uintptr_t start, size_t size)
{
	static bool advised;
	uintptr_t from = start;

	if (!READ_ONCE(advised)) {
		WRITE_ONCE(advised, true);
		thp_advise_metadata();
		if (start == old_end)
			from = first_break;
	}
	thp_advise_heap(from, start + size);
}

int online_pages(struct zone *zone, u32 nr_pages)
{
	size_t size, need = (size_t)nr_pages << PAGE_SHIFT;
	uintptr_t start, old_end = zone->type == ZONE_BRK ? (uintptr_t)pfn_to_virt(zone->end_pfn) : 0;
	int ret;

	if (zone->type == ZONE_BRK)
		ret = online_brk(zone, need, &start, &size);
	else
		ret = online_section(zone, need, &start, &size);
	if (ret)
		return ret;
	ret = online_range(zone, start, start + size);
	if (ret)
		offline_unused(zone, start, size);
	else
		advise_online(old_end, start, size);
	return ret;
}
