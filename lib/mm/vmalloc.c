/* SPDX-License-Identifier: MIT */
/*
 * vmalloc.c - large blocks, each a mapping of its own.
 *
 * Purpose
 *	Blocks that are too large for the direct map. They come from mmap, grow by mremap without copying (vrealloc.c),
 *	and keep their pages for a while after they are freed, because fresh pages cost far more than everything
 *	else here.
 *
 * Objects
 *	region  | area | guard | lazy area | guard | free ...
 *	All areas are in one tree by address. An area is busy, or lazy: freed by the program but still mapped and
 *	resident (vmap_lazy.c). Free address space is vmap_range.c's.
 *
 * Invariants
 *	Areas, each with its guard, and free ranges do not overlap. bytes and lazy_bytes are the sums of va_end -
 *	va_start over busy and lazy areas.
 *
 * Locks
 *	vmap guards trees, list, seams and counters, and is never held over a system call: whoever maps, unmaps or
 *	moves has first taken the addresses out of the trees, or owns the area because the program gave it to him.
 *
 * Fast and slow path
 *	1. A lazy area of the right size, or up to a quarter larger, is handed out again: one lock, no system call.
 *	2. Else a fresh mapping, into which the pages of lazy areas are moved as far as there are any
 *	   (vmap_assemble.c): only what they do not suffice for faults.
 *	Every vfree and vmalloc then looks whether lazy areas have become too old or too many. When the kernel gives no
 *	memory, all of them are unmapped and it is asked again, at last for no more than the size itself.
 *
 * Kernel counterpart and what differs
 *	mm/vmalloc.c. There lazy areas wait for a TLB flush and are of no use to anybody meanwhile; here they wait for
 *	the next block. Foreign mappings may lie in our region: mapping never replaces them, we go on above.
 *
 * Fork and init
 *	All calls are inside the gate, so a child finds the trees whole. Mappings are private and copied.
 */
#include "vmap.h"

#include "base/align.h"
#include "base/bug.h"
#include "mm/gate.h"
#include "mm/mm_struct.h"
#include "os/os.h"
#include "os/vm.h"
#include "page/memcontrol.h"
#include "page/vmstat.h"
#include <errno.h>
#include <string.h>

#define VMALLOC_HUGE	  MIB(2)	/* from here on areas start on a boundary of as much, so that huge pages fit */
#define REUSE_SLACK	  4		/* a lazy area is taken as it is when it is larger by a quarter at most */
#define FOREIGN_TRIES	  40		/* each skips twice as much as the one before */
#define GUARDED_SHARE	  4		/* of vm.max_map_count; beyond, areas touch and the kernel merges their VMAs */
#define FEW_AREAS	  512		/* for which nobody need ask how many there may be */

struct vmap_state vmap = { .lru = LIST_HEAD_INIT(vmap.lru) };
struct metapool vmap_area_pool = METAPOOL_INIT(struct vmap_area);

/* --- the tree by address, and sums; vmap lock held ------------------------------------------------------ */

void __insert_area(struct vmap_area *va)
{
	struct rb_node **link = &vmap.areas.node, *parent = NULL;

	while (*link != NULL) {
		parent = *link;
		link = va->va_start < rb_entry(parent, struct vmap_area, rb_node)->va_start ? &parent->left
											    : &parent->right;
	}
	rb_insert(&va->rb_node, parent, link, &vmap.areas, NULL);
}

struct vmap_area *__find_area(uintptr_t addr)
{
	struct rb_node *node = vmap.areas.node;

	while (node != NULL) {
		struct vmap_area *va = rb_entry(node, struct vmap_area, rb_node);

		if (addr < va->va_start)
			node = node->left;
		else if (addr >= va->va_end)
			node = node->right;
		else
			return va;
	}
	return NULL;
}

void __account_busy(const struct vmap_area *va)
{
	vmap.stat.nr_areas++;
	vmap.stat.bytes += area_size(va);
	vmap.stat.peak_bytes = max(vmap.stat.peak_bytes, vmap.stat.bytes);
}

void __unaccount_busy(const struct vmap_area *va)
{
	vmap.stat.nr_areas--;
	vmap.stat.bytes -= area_size(va);
}

u32 __guard_size(void)
{
	u64 nr = vmap.stat.nr_areas + vmap.stat.nr_lazy;

	return nr < FEW_AREAS || nr < os_max_map_count() / GUARDED_SHARE ? (u32)os_page_size : 0;
}

/* --- charging: what is busy belongs to a memory group, what is lazy to nobody --------------------------- */

bool charge_area(unsigned colour, size_t bytes)
{
	return memcg_charge(colour, MEMCG_VMALLOC, bytes >> PAGE_SHIFT);
}

void uncharge_area(unsigned colour, size_t bytes)
{
	memcg_uncharge(colour, MEMCG_VMALLOC, bytes >> PAGE_SHIFT);
}

/* What an area for size is to have, or no more than size needs; 0: there is no room. */
static size_t charge_new_area(size_t size)
{
	unsigned colour = memcg_charging_colour();

	if (charge_area(colour, area_len(size)))
		return area_len(size);
	return area_len(size) > exact_len(size) && charge_area(colour, exact_len(size)) ? exact_len(size) : 0;
}

/* --- taking from the kernel --------------------------------------------------------------------------- */

uintptr_t map_new_range(size_t len, size_t align, u32 guard)
{
	size_t want = len + guard;
	bool purged = false;
	unsigned tries;

	for (tries = 0; tries < FOREIGN_TRIES; tries++) {
		uintptr_t start;
		int ret;

		vmap_lock();
		start = __alloc_vmap_range(&vmap.space, want, align);
		vmap_unlock();
		if (start != 0) {
			ret = vm_map_at((void *)start, len);
			if (ret == 0) {
				thp_advise_area(start, len);
				return start;
			}
			vmap_lock();
			if (ret == -EEXIST)
				__forget_vmap_range(&vmap.space, start + want, start + (want << min(tries, 16u)));
			else
				__free_vmap_range(&vmap.space, start, want);
			vmap_unlock();
			if (ret == -EEXIST)
				continue;
		}
		if (purged || purge_vmap_area_lazy(0) == 0)
			return 0;
		purged = true;
	}
	return 0;
}

static struct vmap_area *map_area(size_t size, size_t len, size_t align)
{
	struct vmap_area *va = metapool_alloc(&vmap_area_pool);
	u32 guard = __guard_size();	/* unlocked: a hint */

	if (va == NULL)
		return NULL;
	if (len >= VMALLOC_HUGE && guard != 0)
		align = max(align, PAGEBLOCK_SIZE);
	*va = (struct vmap_area){ .requested = size, .guard = guard };
	va->va_start = map_new_range(len, align, guard);
	if (va->va_start == 0) {
		metapool_free(&vmap_area_pool, va);
		return NULL;
	}
	va->va_end = va->va_start + len;
	mm_map(va->va_start, va->va_end, VM_READ | VM_WRITE | VM_KMM, VMA_KMM_VMALLOC, "vmalloc");
	vmap_lock();
	__insert_area(va);
	__account_busy(va);
	vmap_unlock();
	count_vm_event(VM_vmalloc_alloc);
	return va;
}

/* Its bytes up to *dirty_end may hold old data. *charged bytes are, and become what the area has. */
static void *alloc_fresh(size_t size, size_t align, size_t *charged, uintptr_t *dirty_end)
{
	struct vmap_area *va = map_area(size, *charged, align);

	if (va == NULL && *charged > exact_len(size)) {
		uncharge_area(memcg_charging_colour(), *charged - exact_len(size));
		*charged = exact_len(size);
		va = map_area(size, *charged, align);
	}
	if (va == NULL)
		return NULL;
	va->colour = (u8)memcg_charging_colour();
	*dirty_end = assemble_area(va, va->va_start);
	if (*dirty_end != 0)
		return (void *)va->va_start;
	vmap_lock();
	__unaccount_busy(va);
	rb_erase(&va->rb_node, &vmap.areas, NULL);
	vmap_unlock();
	release_area(va);
	return NULL;
}

/* --- reuse of lazy areas ------------------------------------------------------------------------------ */

/* One that fits, as it is. len bytes are charged; the rest of it, too, then. */
static void *reuse_lazy(size_t size, size_t len, size_t align)
{
	unsigned colour = memcg_charging_colour();
	struct vmap_area *va;

	vmap_lock();
	va = __best_fit(len, align);
	if (va != NULL && (area_size(va) - len > len / REUSE_SLACK || !charge_area(colour, area_size(va) - len)))
		va = NULL;
	if (va != NULL) {
		__unmake_lazy(va);
		__account_busy(va);
		va->requested = size;
		va->colour = (u8)colour;
	}
	vmap_unlock();
	if (va == NULL)
		return NULL;
	count_vm_event(VM_vmalloc_reuse);
	return (void *)va->va_start;
}

/* --- the interface ------------------------------------------------------------------------------------ */

__init int vmalloc_init(uintptr_t start, uintptr_t end)
{
	return vmap_space_init(&vmap.space, ALIGN(start, PAGEBLOCK_SIZE), ALIGN_DOWN(end, PAGEBLOCK_SIZE));
}

/*
 * Old data is overwritten, however much there is: 169 ns a page, against 254 for giving the page back and 1,600 to 2,400
 * for the fault after it (m).
 */
void *vmalloc_aligned(size_t size, size_t align, bool *zeroed)
{
	uintptr_t dirty_end = UINTPTR_MAX;
	size_t charged;
	char *p;

	if (size > PTRDIFF_MAX - PAGEBLOCK_SIZE)
		return NULL;
	align = max(align, os_page_size);
	charged = charge_new_area(size);
	if (charged == 0)
		return NULL;
	p = reuse_lazy(size, charged, align);
	if (p == NULL)
		p = alloc_fresh(size, align, &charged, &dirty_end);
	purge_excess_lazy();
	if (p == NULL) {
		uncharge_area(memcg_charging_colour(), charged);
		count_vm_event(VM_alloc_fail);
		return NULL;
	}
	if (zeroed != NULL) {
		memset(p, 0, min(size, dirty_end - (uintptr_t)p));
		*zeroed = true;
	}
	return p;
}

int vfree(void *p)
{
	struct vmap_area *va;

	vmap_lock();
	va = __find_area((uintptr_t)p);
	if (va == NULL || va->va_start != (uintptr_t)p || va->lazy) {
		int ret = va != NULL && va->va_start == (uintptr_t)p ? -EALREADY : -EINVAL;

		vmap_unlock();
		return ret;
	}
	__unaccount_busy(va);
	uncharge_area(va->colour, area_size(va));
	va->freed_ms = os_clock_ms();
	__make_lazy(va);
	vmap_unlock();
	count_vm_event(VM_vmalloc_free);
	purge_excess_lazy();
	return 0;
}

bool vmalloc_region_contains(const void *p)
{
	return (uintptr_t)p >= vmap.space.start && (uintptr_t)p < vmap.space.end;
}

bool find_vmap_area(const void *p, struct vmap_area *copy)
{
	uintptr_t addr = (uintptr_t)p;
	struct vmap_area *va;
	bool found;

	if (!vmalloc_region_contains(p))
		return false;
	gate_enter();		/* malloc_usable_size() comes here from outside */
	vmap_lock();
	va = __find_area(addr);
	found = va != NULL && !va->lazy;
	if (found)
		*copy = *va;
	vmap_unlock();
	gate_leave();
	return found;
}

size_t vmalloc_usable(const void *p)
{
	struct vmap_area va;

	if (!find_vmap_area(p, &va) || va.va_start != (uintptr_t)p)
		return 0;
	return area_size(&va);
}

void get_vmalloc_stat(struct vmalloc_stat *st)
{
	vmap_lock();
	*st = vmap.stat;
	vmap_unlock();
}

void for_each_vmap_area(void (*fn)(const struct vmap_area *, void *), void *arg)
{
	struct rb_node *node;

	vmap_lock();
	for (node = rb_first(&vmap.areas); node != NULL; node = rb_next(node)) {
		struct vmap_area *va = rb_entry(node, struct vmap_area, rb_node);

		if (!va->lazy)
			fn(va, arg);
	}
	vmap_unlock();
}

static u32 validate_seams(const struct vmap_area *va)
{
	uintptr_t last = va->va_start;
	u32 nr = 0;

	for (const struct vmap_seam *seam = va->seams; seam != NULL; seam = seam->next, nr++) {
		BUG_ON(seam->addr <= last || seam->addr >= va->va_end || !IS_ALIGNED(seam->addr, os_page_size));
		last = seam->addr;
	}
	return nr;
}

void vmalloc_validate(void)
{
	struct vmalloc_stat sum = { 0 };
	struct rb_node *node;
	uintptr_t last = 0;
	u32 nr_by_age = 0;

	vmap_lock();
	rb_validate(&vmap.areas);
	for (node = rb_first(&vmap.areas); node != NULL; node = rb_next(node)) {
		struct vmap_area *va = rb_entry(node, struct vmap_area, rb_node);

		BUG_ON(va->va_start >= va->va_end || va->va_start < last);
		BUG_ON(va->va_start < vmap.space.start || va->va_end + va->guard > vmap.space.end);
		BUG_ON(__alloc_vmap_range_at(&vmap.space, va->va_start, area_size(va) + va->guard));
		last = va->va_end + va->guard;
		sum.nr_seams += validate_seams(va);
		*(va->lazy ? &sum.nr_lazy : &sum.nr_areas) += 1;
		*(va->lazy ? &sum.lazy_bytes : &sum.bytes) += area_size(va);
	}
	BUG_ON(sum.nr_lazy != vmap.stat.nr_lazy || sum.nr_areas != vmap.stat.nr_areas);
	BUG_ON(sum.lazy_bytes != vmap.stat.lazy_bytes || sum.bytes != vmap.stat.bytes);
	BUG_ON(sum.nr_seams > vmap.stat.nr_seams);	/* areas that somebody takes pieces of are in no tree */
	BUG_ON(rb_validate(&vmap.lazy) != sum.nr_lazy);
	for (node = rb_first(&vmap.lazy); node != NULL && rb_next(node) != NULL; node = rb_next(node))
		BUG_ON(!lazy_before(rb_entry(node, struct vmap_area, size_node),
				    rb_entry(rb_next(node), struct vmap_area, size_node)));
	for (struct list_head *l = vmap.lru.next; l != &vmap.lru; l = l->next, nr_by_age++)
		BUG_ON(l->next != &vmap.lru && list_entry(l, struct vmap_area, lru)->freed_ms >
						       list_entry(l->next, struct vmap_area, lru)->freed_ms);
	BUG_ON(nr_by_age != sum.nr_lazy);
	vmap_space_validate(&vmap.space);
	vmap_unlock();
}
