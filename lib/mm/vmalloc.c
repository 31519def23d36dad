/* SPDX-License-Identifier: MIT */
/*
 * vmalloc.c - large blocks, each a mapping of its own.
 *
 * Purpose
 *	Blocks that are too large for the direct map. They come from mmap, grow by mremap without copying, and keep
 *	their pages for a while after they are freed, because fresh pages cost far more than everything else here.
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
 *	vmap guards trees, list and counters, and is never held over a system call: whoever maps, unmaps or moves
 *	has first taken the addresses out of the trees, or owns the area because the program gave it to him.
 *
 * Fast and slow path
 *	1. A lazy area of the right size, or up to a quarter larger, is handed out again: one lock, no system call.
 *	2. One that is larger is split: the rest stays lazy.
 *	3. One that is smaller, but at least half, grows by mremap: only the difference faults.
 *	4. Else a fresh mapping.
 *	Every vfree and vmalloc looks whether lazy areas have become too old or too many. When the kernel gives no
 *	memory, all of them are unmapped and it is asked again.
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
#include "mm/mm_struct.h"
#include "os/os.h"
#include "os/vm.h"
#include "page/vmstat.h"
#include <errno.h>

#define VMALLOC_HUGE	  MIB(4)	/* from here on areas start on a 2 MiB boundary, so that huge pages fit */
#define VMALLOC_MIN_REST  MIB(2)	/* a smaller rest of a split is unmapped */
#define FOREIGN_TRIES	  40		/* each skips twice as much as the one before */
#define GUARDED_AREAS_MAX 16384		/* beyond, areas touch and the kernel merges their VMAs (max_map_count) */

struct vmap_state vmap = { .lru = LIST_HEAD_INIT(vmap.lru) };
struct metapool vmap_area_pool = METAPOOL_INIT(struct vmap_area);

/* --- the tree by address, and sums; vmap lock held ------------------------------------------------------ */

static void __insert_area(struct vmap_area *va)
{
	struct rb_node **link = &vmap.areas.node, *parent = NULL;

	while (*link != NULL) {
		parent = *link;
		link = va->va_start < rb_entry(parent, struct vmap_area, rb_node)->va_start ? &parent->left
											    : &parent->right;
	}
	rb_insert(&va->rb_node, parent, link, &vmap.areas, NULL);
}

static struct vmap_area *__find_area(uintptr_t addr)
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

static void __account_busy(const struct vmap_area *va)
{
	vmap.stat.nr_areas++;
	vmap.stat.bytes += area_size(va);
	vmap.stat.peak_bytes = max(vmap.stat.peak_bytes, vmap.stat.bytes);
}

static void __unaccount_busy(const struct vmap_area *va)
{
	vmap.stat.nr_areas--;
	vmap.stat.bytes -= area_size(va);
}

static u32 __guard_size(void)
{
	return vmap.stat.nr_areas + vmap.stat.nr_lazy < GUARDED_AREAS_MAX ? (u32)os_page_size : 0;
}

/* --- taking from the kernel --------------------------------------------------------------------------- */

/*
 * Maps len bytes of zeroes at the lowest place with room for len + guard. Where somebody else's mapping lies in our
 * region we forget the range and go on above it, farther each time. Returns 0 when there is no memory.
 */
static uintptr_t map_new_range(size_t len, size_t align, u32 guard)
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
			if (ret == 0)
				return start;
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

static void unmap_range(uintptr_t start, size_t len, u32 guard)
{
	vm_unmap((void *)start, len);
	vmap_lock();
	__free_vmap_range(&vmap.space, start, len + guard);
	vmap_unlock();
}

static void *alloc_fresh(size_t size, size_t len, size_t align)
{
	struct vmap_area *va = metapool_alloc(&vmap_area_pool);
	u32 guard = __guard_size();	/* unlocked: a hint */

	if (va == NULL)
		return NULL;
	if (len >= VMALLOC_HUGE)
		align = max(align, PAGEBLOCK_SIZE);
	*va = (struct vmap_area){ .requested = size, .guard = guard };
	va->va_start = map_new_range(len, align, guard);
	if (va->va_start == 0) {
		metapool_free(&vmap_area_pool, va);
		count_vm_event(VM_alloc_fail);
		return NULL;
	}
	va->va_end = va->va_start + len;
	mm_map(va->va_start, va->va_end, VM_READ | VM_WRITE | VM_KMM, VMA_KMM_VMALLOC, "vmalloc");
	vmap_lock();
	__insert_area(va);
	__account_busy(va);
	vmap_unlock();
	count_vm_event(VM_vmalloc_alloc);
	return (void *)va->va_start;
}

/* --- resizing a busy area that the caller owns --------------------------------------------------------- */

static void set_area_range(struct vmap_area *va, uintptr_t start, uintptr_t end)
{
	vmap_lock();
	__unaccount_busy(va);
	if (va->va_start != start) {
		rb_erase(&va->rb_node, &vmap.areas, NULL);
		va->va_start = start;
		va->va_end = end;
		__insert_area(va);
	} else {
		va->va_end = end;
	}
	__account_busy(va);
	vmap_unlock();
}

static void shrink_area(struct vmap_area *va, size_t len)
{
	uintptr_t end = va->va_start + len, old_end = va->va_end;

	if (vm_unmap((void *)end, old_end - end) != 0)
		return;
	mm_unmap(end, old_end);
	set_area_range(va, va->va_start, end);
	vmap_lock();
	__free_vmap_range(&vmap.space, end + va->guard, old_end - end);
	vmap_unlock();
}

static bool grow_area_inplace(struct vmap_area *va, size_t len)
{
	size_t old_len = area_size(va), more = len - old_len;
	uintptr_t behind = va->va_end + va->guard;
	bool taken;

	vmap_lock();
	taken = __alloc_vmap_range_at(&vmap.space, behind, more);
	vmap_unlock();
	if (!taken)
		return false;
	if (vm_remap((void *)va->va_start, old_len, len, false, NULL) == NULL) {
		vmap_lock();
		__free_vmap_range(&vmap.space, behind, more);
		vmap_unlock();
		return false;
	}
	mm_map(va->va_end, va->va_start + len, VM_READ | VM_WRITE | VM_KMM, VMA_KMM_VMALLOC, "vmalloc");
	set_area_range(va, va->va_start, va->va_start + len);
	return true;
}

/*
 * The page tables move, the pages stay. mremap to a fixed address would replace a foreign mapping there, so the
 * place is first claimed by a mapping that replaces nothing.
 */
static bool grow_area_moving(struct vmap_area *va, size_t len)
{
	uintptr_t old = va->va_start;
	size_t old_len = area_size(va);
	u32 old_guard = va->guard, guard = __guard_size();
	uintptr_t start = map_new_range(len, len >= VMALLOC_HUGE ? PAGEBLOCK_SIZE : os_page_size, guard);

	if (start == 0)
		return false;
	if (vm_remap((void *)old, old_len, len, true, (void *)start) == NULL) {
		unmap_range(start, len, guard);
		return false;
	}
	mm_unmap(old, old + old_len);
	mm_map(start, start + len, VM_READ | VM_WRITE | VM_KMM, VMA_KMM_VMALLOC, "vmalloc");
	set_area_range(va, start, start + len);
	va->guard = guard;
	vmap_lock();
	__free_vmap_range(&vmap.space, old, old_len + old_guard);
	vmap_unlock();
	return true;
}

static bool grow_area(struct vmap_area *va, size_t len)
{
	if (!grow_area_inplace(va, len) && !grow_area_moving(va, len))
		return false;
	count_vm_event(VM_vmalloc_mremap);
	return true;
}

/* --- reuse of lazy areas ------------------------------------------------------------------------------ */

/*
 * Cuts a busy area down to len and leaves the rest as a lazy one. The cut is on a huge page boundary if that
 * wastes no more than a quarter. An area that cannot be cut stays as large as it is.
 */
static void split_area(struct vmap_area *va, size_t len)
{
	uintptr_t cut = va->va_start + len, huge = ALIGN(cut + os_page_size, PAGEBLOCK_SIZE) - os_page_size;
	struct vmap_area *rest;

	if (huge - cut <= len / 4)
		cut = huge;
	if (va->va_end < cut + os_page_size + VMALLOC_MIN_REST) {
		if (va->va_end - cut > len / 4)
			shrink_area(va, len);
		return;
	}
	rest = metapool_alloc(&vmap_area_pool);
	if (rest == NULL || vm_unmap((void *)cut, os_page_size) != 0) {
		if (rest != NULL)
			metapool_free(&vmap_area_pool, rest);
		return;
	}
	mm_unmap(cut, cut + os_page_size);
	*rest = (struct vmap_area){ .va_start = cut + os_page_size, .va_end = va->va_end, .guard = va->guard,
				    .dirty = true, .freed_ms = va->freed_ms };
	vmap_lock();
	__unaccount_busy(va);
	va->va_end = cut;
	va->guard = (u32)os_page_size;
	__account_busy(va);
	__insert_area(rest);
	__make_lazy(rest);
	vmap_unlock();
}

static void put_back_lazy(struct vmap_area *va)
{
	vmap_lock();
	__unaccount_busy(va);
	__make_lazy(va);
	vmap_unlock();
}

static void *reuse_lazy(size_t size, size_t len, size_t align)
{
	struct list_head victims = LIST_HEAD_INIT(victims);
	struct vmap_area *va, *smaller;
	size_t found;

	vmap_lock();
	va = __best_fit(len, align, &smaller);
	if (va == NULL && align == os_page_size && smaller != NULL && area_size(smaller) >= len / 2)
		va = smaller;
	if (va != NULL) {
		__unmake_lazy(va);
		__account_busy(va);
		va->requested = size;
	}
	__collect_victims(&victims);
	vmap_unlock();
	if (unlikely(!list_empty(&victims)))
		purge_victims(&victims);
	if (va == NULL)
		return NULL;
	found = area_size(va);
	if (found < len && !grow_area(va, len)) {
		put_back_lazy(va);
		return NULL;
	}
	if (found > len + len / 4)
		split_area(va, len);
	count_vm_event(VM_vmalloc_reuse);
	return (void *)va->va_start;
}

/* --- the interface ------------------------------------------------------------------------------------ */

int vmalloc_init(uintptr_t start, uintptr_t end)
{
	return vmap_space_init(&vmap.space, ALIGN(start, PAGEBLOCK_SIZE), ALIGN_DOWN(end, PAGEBLOCK_SIZE));
}

void *vmalloc_aligned(size_t size, size_t align, bool *zeroed)
{
	size_t len;
	void *p;

	if (size > PTRDIFF_MAX - PAGEBLOCK_SIZE)
		return NULL;
	len = ALIGN(max(size, (size_t)1), os_page_size);
	align = max(align, os_page_size);
	p = reuse_lazy(size, len, align);
	if (zeroed != NULL)
		*zeroed = p == NULL;
	return p != NULL ? p : alloc_fresh(size, len, align);
}

int vfree(void *p)
{
	struct list_head victims = LIST_HEAD_INIT(victims);
	struct vmap_area *va;

	vmap_lock();
	va = __find_area((uintptr_t)p);
	if (va == NULL || va->va_start != (uintptr_t)p || va->lazy) {
		int ret = va != NULL && va->va_start == (uintptr_t)p ? -EALREADY : -EINVAL;

		vmap_unlock();
		return ret;
	}
	__unaccount_busy(va);
	va->dirty = true;
	va->freed_ms = os_clock_ms();
	__make_lazy(va);
	__collect_victims(&victims);
	vmap_unlock();
	count_vm_event(VM_vmalloc_free);
	if (unlikely(!list_empty(&victims)))
		purge_victims(&victims);
	return 0;
}

static struct vmap_area *find_owned_area(const void *p)
{
	struct vmap_area *va;

	vmap_lock();
	va = __find_area((uintptr_t)p);
	vmap_unlock();
	return va != NULL && va->va_start == (uintptr_t)p && !va->lazy ? va : NULL;
}

void *vrealloc(void *p, size_t new_size)
{
	struct vmap_area *va = find_owned_area(p);
	size_t len, old_len;

	if (va == NULL || new_size > PTRDIFF_MAX - PAGEBLOCK_SIZE)
		return NULL;
	len = ALIGN(max(new_size, (size_t)1), os_page_size);
	old_len = area_size(va);
	if (len > old_len && !grow_area(va, len))
		return NULL;
	if (len < old_len - old_len / 4)
		shrink_area(va, len);
	va->requested = new_size;
	return (void *)va->va_start;
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
	vmap_lock();
	va = __find_area(addr);
	found = va != NULL && !va->lazy;
	if (found)
		*copy = *va;
	vmap_unlock();
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

void vmalloc_validate(void)
{
	struct vmalloc_stat sum = { 0 };
	struct rb_node *node;
	uintptr_t last = 0;
	u32 nr_by_size = 0;

	vmap_lock();
	rb_validate(&vmap.areas);
	for (node = rb_first(&vmap.areas); node != NULL; node = rb_next(node)) {
		struct vmap_area *va = rb_entry(node, struct vmap_area, rb_node);

		BUG_ON(va->va_start >= va->va_end || va->va_start < last);
		BUG_ON(va->va_start < vmap.space.start || va->va_end + va->guard > vmap.space.end);
		BUG_ON(__alloc_vmap_range_at(&vmap.space, va->va_start, area_size(va) + va->guard));
		last = va->va_end + va->guard;
		*(va->lazy ? &sum.nr_lazy : &sum.nr_areas) += 1;
		*(va->lazy ? &sum.lazy_bytes : &sum.bytes) += area_size(va);
	}
	BUG_ON(sum.nr_lazy != vmap.stat.nr_lazy || sum.nr_areas != vmap.stat.nr_areas);
	BUG_ON(sum.lazy_bytes != vmap.stat.lazy_bytes || sum.bytes != vmap.stat.bytes);
	BUG_ON(rb_validate(&vmap.lazy) != sum.nr_lazy);
	for (node = rb_first(&vmap.lazy); node != NULL && rb_next(node) != NULL; node = rb_next(node))
		BUG_ON(!lazy_before(rb_entry(node, struct vmap_area, size_node),
				    rb_entry(rb_next(node), struct vmap_area, size_node)));
	for (struct list_head *l = vmap.lru.next; l != &vmap.lru; l = l->next)
		nr_by_size++;
	BUG_ON(nr_by_size != sum.nr_lazy);
	vmap_space_validate(&vmap.space);
	vmap_unlock();
}
