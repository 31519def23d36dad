/* SPDX-License-Identifier: MIT */
/*
 * slub.c - the allocator's front: what a pointer is, large blocks, start, sums and checks.
 *
 * Purpose. Small objects (up to 256 KiB) live in slabs; large ones, up to 2 MiB, are runs of pages straight from the page
 * allocator; beyond that vmalloc. free() gets any pointer and must find out which, from the map entry of its page.
 *
 * Large blocks. Only the first page has a map entry (class MAP_CLASS_LARGE) and a struct page (PG_large, nr_pages);
 * the map entries of the others are 0, so a pointer into the middle is seen to be no block.
 *
 * Kernel counterpart. mm/slub.c: ___kmalloc_large_node, kfree, ksize, kmem_cache_init.
 */
#include "internal.h"

#include "base/bug.h"
#include "base/printk.h"
#include "mm/gate.h"
#include "mm/memcg_reclaim.h"
#include "mm/memcg_rules.h"
#include "mm/vmalloc.h"
#include "page/memblock.h"
#include "page/page_alloc.h"
#include "page/reclaim.h"
#include "page/sparse.h"
#include <errno.h>
#include <string.h>

static struct shrinker slab_shrinker = { .name = "slab", .scan = shrink_slabs, .count = count_slabs, .reap = kmem_cache_reap };
static struct shrinker vmalloc_shrinker = { .name = "vmalloc", .scan = shrink_vmap_area_lazy, .count = vmap_lazy_bytes };

__init int kmem_cache_init(void)
{
	create_kmalloc_caches();
	percpu_prepare = nodes_prepare;
	register_shrinker(&slab_shrinker);
	register_shrinker(&vmalloc_shrinker);
	mesh_init();
	huge_scan_init();
	return percpu_online(0);
}

/* --- large blocks ------------------------------------------------------------------------------------------ */

static __resident void *alloc_large_pages(size_t size, size_t align, bool *zeroed)
{
	u32 nr = (u32)(PAGE_ALIGN(max(size, (size_t)1)) >> PAGE_SHIFT);
	unsigned align_order = align > PAGE_SIZE ? ilog2(align) - PAGE_SHIFT : 0;
	unsigned colour = memcg_charging_colour();
	struct page *page;

	if (!memcg_charge(colour, MEMCG_LARGE, nr))
		return NULL;
	page = alloc_pages_exact(nr, align_order, MIGRATE_RECLAIMABLE, zeroed);
	if (!page) {
		memcg_uncharge(colour, MEMCG_LARGE, nr);
		return NULL;
	}
	page->nr_pages = nr;
	page->flags = PG_large;
	set_map_entry(page_to_pfn(page), make_map_entry(MAP_CLASS_LARGE, colour, 0));
	count_vm_event(VM_large_alloc);
	return page_address(page);
}

static __resident void *__kmalloc_large(size_t size, size_t align, bool *zeroed)
{
	void *p = NULL;

	if (size <= KMALLOC_LARGE_MAX && align <= PAGEBLOCK_SIZE)
		p = alloc_large_pages(size, align, zeroed);
	if (!p)
		p = vmalloc_aligned(size, align, zeroed);
	/* Where address space is rationed, what small blocks have left in the zones serves as well. */
	if (unlikely(!p) && size > KMALLOC_LARGE_MAX && size <= PAGE_SIZE << MAX_PAGE_ORDER && align <= PAGEBLOCK_SIZE)
		p = alloc_large_pages(size, align, zeroed);
	return p;
}

static void *kmalloc_large_gated(size_t size, size_t align, bool *zeroed)
{
	void *p;

	gate_enter();
	free_deferred();
	memcg_thread.failed = 0;
	memcg_thread.active = memcg_online_slot(memcg_thread.active);
	p = __kmalloc_large(size, align, zeroed);
	if (unlikely(!p) && !memcg_thread.failed && try_to_free_pages(0))
		p = __kmalloc_large(size, align, zeroed);
	gate_leave();
	return p;
}

__resident void *kmalloc_large(size_t size, size_t align, bool *zeroed)
{
	unsigned tries = 0;
	void *p;

	if (size > PTRDIFF_MAX || unlikely(gate_is_inside()))	/* not in a signal handler inside a slow path */
		return NULL;
	if (unlikely(memcg_watched))
		memcg_recheck_thread();
	do
		p = kmalloc_large_gated(size, align, zeroed);
	while (unlikely(!p) && memcg_make_room(size, &tries));
	if (unlikely(!p))
		count_vm_event(VM_alloc_fail);
	memcg_handle_over_high();
	return p;
}

static unsigned large_colour(const struct page *page)
{
	return (map_entry(page_to_pfn(page)) & MAP_SLOT_MASK) >> MAP_COLOUR_SHIFT;
}

static void free_large_pages(void *p)
{
	struct page *page = virt_to_page(p);

	if (page->flags != PG_large || p != page_address(page))
		report_invalid_pointer(p, "free");
	memcg_uncharge(large_colour(page), MEMCG_LARGE, page->nr_pages);
	set_map_entry(page_to_pfn(page), 0);
	page->flags = 0;
	free_pages_exact(page, page->nr_pages);
	count_vm_event(VM_large_free);
}

void *krealloc_large(void *p, size_t new_size)
{
	unsigned tries = 0;
	void *q = NULL;

	if (!virt_addr_valid(p)) {
		if (new_size <= KMALLOC_LARGE_MAX)
			return NULL;
		do {
			gate_enter();
			memcg_thread.failed = 0;
			q = vrealloc(p, new_size);
			gate_leave();
		} while (unlikely(!q && memcg_thread.failed) && memcg_make_room(new_size, &tries));
		memcg_handle_over_high();
		return q;
	}
	struct page *page = virt_to_page(p);
	size_t nr = PAGE_ALIGN(max(new_size, (size_t)1)) >> PAGE_SHIFT;

	if (new_size <= KMALLOC_MAX_SIZE || nr > page->nr_pages)
		return NULL;
	gate_enter();
	memcg_uncharge(large_colour(page), MEMCG_LARGE, page->nr_pages - nr);
	trim_pages_exact(page, page->nr_pages, (u32)nr);
	page->nr_pages = (u32)nr;
	gate_leave();
	return p;
}

/* --- any pointer ------------------------------------------------------------------------------------------- */

/* Inside the gate; p is a large block, or in the vmalloc region. */
static bool free_block(void *p)
{
	int ret = 0;

	if (virt_addr_valid(p))
		free_large_pages(p);
	else
		ret = vfree(p);
	if (ret == -EALREADY)
		panic("double free of %p (vmalloc block)", p);
	return ret == 0;
}

void *deferred;		/* blocks linked by their first word */

void defer_free(void *p)
{
	void *head = READ_ONCE(deferred);

	do
		*(void **)p = head;
	while (!__atomic_compare_exchange_n(&deferred, &head, p, true, __ATOMIC_RELEASE, __ATOMIC_RELAXED));
}

void __free_deferred(void)
{
	void *next, *p = __atomic_exchange_n(&deferred, NULL, __ATOMIC_ACQUIRE);

	for (; p; p = next) {
		unsigned slot = virt_addr_valid(p) ? map_entry(virt_to_pfn(p)) & MAP_SLOT_MASK : 0;
		unsigned cls = slot & MAP_CLASS_MASK;

		next = *(void **)p;
		if (cls && cls < NR_KMALLOC_CLASSES)
			slab_free_bulk(slot, &p, 1);
		else
			free_block(p);
	}
}

__resident bool kfree_slowpath(void *p)
{
	map_entry_t e = virt_addr_valid(p) && !((uintptr_t)p & 15) ? map_entry(virt_to_pfn(p)) : 0;
	unsigned cls = e & MAP_CLASS_MASK;
	bool freed;

	if (likely(cls && cls < NR_KMALLOC_CLASSES)) {
		free_object_slowpath(e, p);
		return true;
	}
	if (cls != MAP_CLASS_LARGE && !vmalloc_region_contains(p))
		return memblock_boot_object_size(p) != 0;	/* those stay */
	if (unlikely(gate_is_inside())) {
		defer_free(p);
		return true;
	}
	gate_enter();
	free_deferred();
	freed = free_block(p);
	gate_leave();
	return freed;
}

__resident size_t ksize(const void *p)
{
	unsigned cls;

	if (!virt_addr_valid(p))
		return vmalloc_region_contains(p) ? vmalloc_usable(p) : memblock_boot_object_size(p);
	cls = map_entry(virt_to_pfn(p)) & MAP_CLASS_MASK;
	if (likely(cls && cls < NR_KMALLOC_CLASSES))
		return kmalloc_caches[cls].size;
	if (cls == MAP_CLASS_LARGE)
		return (size_t)virt_to_page(p)->nr_pages << PAGE_SHIFT;
	return memblock_boot_object_size(p);
}

static void classify_slab(const void *p, struct page *slab, struct addr_info *info)
{
	const struct kmem_cache *s = &kmalloc_caches[slab->cls];
	size_t off = (size_t)((const char *)p - (const char *)page_address(slab));
	unsigned idx = obj_to_index(s, off);

	info->cls = slab->cls;
	info->home = slab->home;
	info->slab = page_address(slab);
	info->size = s->size;
	info->base = (char *)info->slab + (size_t)idx * s->size;
	if (idx >= slab->nr_objects)
		info->kind = ADDR_METADATA;	/* the rest behind the last object */
	else if (slab_bits(slab)[idx >> 6] >> (idx & 63) & 1)
		info->kind = ADDR_FREE_OBJECT;
	else
		info->kind = info->base == p ? ADDR_OBJECT : ADDR_INTERIOR;
}

/* The first page of the slab or large block that page lies in; page itself if it lies in none. */
static struct page *block_head(struct page *page)
{
	struct page *p = page;
	u32 nr = 0;

	while (!p->flags && page - p < 1 << MAX_PAGE_ORDER && page_to_pfn(p) > 0)
		p--;
	p = compound_head(p);
	if (p->flags == PG_large)
		nr = p->nr_pages;
	else if (p->flags & PG_slab)
		nr = kmalloc_caches[p->cls].nr_pages;
	return page - p < nr ? p : page;
}

/* The first page of the free block that a page lies in says so; the others say nothing. */
static bool in_free_block(pfn_t pfn)
{
	for (unsigned o = 0; o <= MAX_PAGE_ORDER; o++) {
		const struct page *head = pfn_to_page(ALIGN_DOWN(pfn, 1u << o));

		if (head->flags & (PG_buddy | PG_pcp) && head->order >= o)
			return true;
	}
	return false;
}

__cold void classify_address(const void *p, struct addr_info *info)
{
	struct vmap_area va;
	struct page *page;

	memset(info, 0, sizeof(*info));
	if (!virt_addr_valid(p)) {
		info->kind = memblock_boot_object_size(p) ? ADDR_BOOT : ADDR_FOREIGN;
		if (find_vmap_area(p, &va)) {
			info->kind = ADDR_VMALLOC;
			info->base = (void *)va.va_start;
			info->size = va.va_end - va.va_start;
		}
		return;
	}
	page = block_head(virt_to_page(p));
	info->base = page_address(page);
	if (page->flags & PG_slab) {
		classify_slab(p, page, info);
	} else if (page->flags & PG_large) {
		info->kind = ADDR_LARGE;
		info->size = (size_t)page->nr_pages << PAGE_SHIFT;
	} else if (memblock_boot_object_size(p)) {
		info->kind = ADDR_BOOT;
	} else if (in_free_block(page_to_pfn(page))) {
		info->kind = ADDR_FREE_PAGE;
	} else {
		info->kind = ADDR_METADATA;
	}
}

/* --- sums -------------------------------------------------------------------------------------------------- */

/* Objects in the sheaves of a slot; the owner may be changing them: an estimate. */
static __resident u64 slot_objects(unsigned cpu, unsigned slot)
{
	void **top = percpu_top(cpu, slot);
	struct sheaf *sh = sheaf_of_top(top);
	u64 nr = 0;

	if (sh == &boot_sheaf || sh == &stop_sheaf)
		return 0;
	nr = (u64)(top - sheaf_bottom(sh));
	for (unsigned i = 0; i < SHEAF_SIZE && (sh = sheaf_below(sh)) != NULL; i++)
		nr += sheaf_capacity(sh);
	return nr;
}

__resident u64 sheaf_bytes(unsigned first)
{
	u64 bytes = 0;

	for_each_colour(colour) {
		for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++) {
			for (unsigned cls = first; cls < NR_KMALLOC_CLASSES; cls++) {
				unsigned slot = cls | colour << MAP_COLOUR_SHIFT;

				bytes += (slot_objects(cpu, slot) + slot_objects(cpu, slot | SLOT_REMOTE)) * kmalloc_caches[cls].size;
			}
		}
	}
	return bytes;
}

static u64 barn_objects(struct kmem_cache_node *n)
{
	u64 sum = 0;

	mutex_lock(&n->lock, LOCK_node);
	for (struct sheaf *sh = n->full; sh;) {
		uintptr_t link = (uintptr_t)sh->slot[0];

		sum += link & (SHEAF_SIZE - 1);
		sh = (struct sheaf *)(link & ~(uintptr_t)(SHEAF_SIZE - 1));
	}
	mutex_unlock(&n->lock, LOCK_node);
	return sum;
}

static void add_slabinfo(unsigned cls, struct slabinfo *si)
{
	unsigned home;

	for (unsigned i = 0; home_by_index(i, &home); i++) {
		struct kmem_cache_node *n = get_node(home, cls);

		if (!n)
			continue;
		si->nr_slabs += READ_ONCE(n->nr_slabs);
		si->nr_free += READ_ONCE(n->nr_free);
		if (home >= HOME_DOMAIN)
			continue;
		if (READ_ONCE(n->full))
			si->nr_barn += barn_objects(n);
		si->nr_sheaf += slot_objects(home, cls) + slot_objects(home, cls | SLOT_REMOTE);
	}
}

void get_colour_slabinfo(unsigned cls, unsigned colour, struct slabinfo *si)
{
	memset(si, 0, sizeof(*si));
	add_slabinfo(cls | colour << MAP_COLOUR_SHIFT, si);
	si->nr_objects = si->nr_slabs * cache_of(cls)->nr_objects;
}

void get_slabinfo(unsigned cls, struct slabinfo *si)
{
	memset(si, 0, sizeof(*si));
	for_each_colour(colour)
		add_slabinfo(cls | colour << MAP_COLOUR_SHIFT, si);
	si->nr_objects = si->nr_slabs * cache_of(cls)->nr_objects;
}

/* --- checks ------------------------------------------------------------------------------------------------- */

struct slab_sums {
	u64 nr_slabs[NR_KMALLOC_CLASSES], nr_free[NR_KMALLOC_CLASSES];
};

static void validate_slab(struct page *slab, void *arg)
{
	struct slab_sums *sums = arg;
	const struct kmem_cache *s = &kmalloc_caches[slab->cls];
	unsigned bits = 0, marked = 1, blank = 0;

	BUG_ON(slab->cls == 0 || slab->cls >= NR_KMALLOC_CLASSES || slab->nr_objects != s->nr_objects);
	for (unsigned i = 0; i < DIV_ROUND_UP(slab->nr_objects, 64u); i++)
		bits += (unsigned)__builtin_popcountll(slab_bits(slab)[i]);
	BUG_ON(bits != slab->nr_free);
	BUG_ON((slab->nr_free == 0 || slab->flags & PG_meshed) != (slab->bucket == SLAB_UNLISTED));
	BUG_ON(map_entry(page_to_pfn(slab)) != make_map_entry(slab->cls, slab->colour, slab->home));
	for_each_tail_page(i, s) {
		BUG_ON(map_entry(page_to_pfn(slab) + i) != map_entry(page_to_pfn(slab)));
		BUG_ON(slab[i].flags != PG_tail || slab[i].head != page_to_pfn(slab));
		marked++;
	}
	for (u32 i = 0; i < s->nr_pages; i++)
		blank += !map_entry(page_to_pfn(slab) + i) && !slab[i].flags;
	BUG_ON(marked + blank != s->nr_pages);
	sums->nr_slabs[slab->cls]++;
	sums->nr_free[slab->cls] += slab->nr_free;
}

/* Every object in a CPU's sheaves is one that its slab takes for allocated. */
static __cold void validate_slot(unsigned cpu, unsigned cls, unsigned slot)
{
	void **top = percpu_top(cpu, slot);
	struct addr_info info;

	if (slot_objects(cpu, slot) == 0)
		return;
	for (struct sheaf *sh = sheaf_of_top(top); sh; sh = sheaf_below(sh), top = sheaf_full_top(sh)) {
		for (void **p = sheaf_bottom(sh); p < top; p++) {
			classify_address(*p, &info);
			BUG_ON(info.kind != ADDR_OBJECT || info.cls != (cls & MAP_CLASS_MASK));
			BUG_ON((map_entry(virt_to_pfn(*p)) & MAP_SLOT_MASK) != cls);
		}
	}
}

void for_each_slab(void (*fn)(struct page *slab, void *arg), void *arg)
{
	for (int z = 0; z < MAX_NR_ZONES; z++)
		for (pfn_t pfn = zones[z].start_pfn; pfn < zones[z].end_pfn; pfn++)
			if (pfn_to_page(pfn)->flags & PG_slab)
				fn(pfn_to_page(pfn), arg);
}

__cold void slab_validate_all(void)
{
	static __rare_data struct slab_sums sums;
	struct slabinfo si;

	memset(&sums, 0, sizeof(sums));
	for_each_slab(validate_slab, &sums);
	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++) {
		get_slabinfo(cls, &si);
		BUG_ON(si.nr_slabs != sums.nr_slabs[cls] || si.nr_free != sums.nr_free[cls]);
		for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++) {
			for_each_colour(colour) {
				unsigned slot = cls | colour << MAP_COLOUR_SHIFT;

				validate_slot(cpu, slot, slot);
				validate_slot(cpu, slot, slot | SLOT_REMOTE);
			}
		}
	}
	for (int z = 0; z < MAX_NR_ZONES; z++)
		buddy_validate(&zones[z]);
}
