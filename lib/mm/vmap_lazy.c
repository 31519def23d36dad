/* SPDX-License-Identifier: MIT */
/*
 * vmap_lazy.c - areas that the program has freed and the kernel has not got back yet.
 *
 * Purpose
 *	To find the one that fits best when the next block is wanted, and to give them back in time: oldest first,
 *	when they are older than KMM_DECAY_MS or when there are too many bytes of them.
 *
 * Invariants
 *	A lazy area is in the tree by address, in the tree by (size, address), and on the list, whose order is that
 *	of freed_ms but for the rest of a split, which goes to the end and keeps the older time.
 *
 * Locks
 *	vmap. Victims are taken out of everything under it and unmapped without it; their addresses become free
 *	only afterwards, so nobody maps there in between.
 *
 * Kernel counterpart and what differs
 *	mm/vmalloc.c, __purge_vmap_area_lazy() and lazy_max_pages(), from which we have the limit. There everything
 *	goes at once, since one TLB flush serves all; here the oldest go until the limit holds, and no more by age in
 *	one call than PURGE_BY_AGE_MAX, so that no call pays for all.
 */
#include "vmap.h"

#include "base/align.h"
#include "base/bug.h"
#include "base/param.h"
#include "mm/mm_struct.h"
#include "os/kthread.h"
#include "os/os.h"
#include "os/vm.h"
#include "page/vmstat.h"

#define LAZY_MAX_UNIT	 MIB(32)	/* the kernel's lazy_max_pages(): times log2 of the CPUs + 1 */
#define LAZY_TRIES	 8		/* lazy areas looked at for one that is aligned as asked */
#define PURGE_BY_AGE_MAX MIB(64)

bool lazy_before(const struct vmap_area *a, const struct vmap_area *b)
{
	if (area_size(a) != area_size(b))
		return area_size(a) < area_size(b);
	return a->va_start < b->va_start;
}

void __make_lazy(struct vmap_area *va)
{
	struct rb_node **link = &vmap.lazy.node, *parent = NULL;

	while (*link != NULL) {
		parent = *link;
		link = lazy_before(va, rb_entry(parent, struct vmap_area, size_node)) ? &parent->left : &parent->right;
	}
	rb_insert(&va->size_node, parent, link, &vmap.lazy, NULL);
	list_add_tail(&va->lru, &vmap.lru);
	va->lazy = true;
	vmap.stat.nr_lazy++;
	vmap.stat.lazy_bytes += area_size(va);
}

void __unmake_lazy(struct vmap_area *va)
{
	rb_erase(&va->size_node, &vmap.lazy, NULL);
	list_del(&va->lru);
	va->lazy = false;
	vmap.stat.nr_lazy--;
	vmap.stat.lazy_bytes -= area_size(va);
}

struct vmap_area *__best_fit(size_t len, size_t align, struct vmap_area **smaller)
{
	struct rb_node *node = vmap.lazy.node, *best = NULL, *below = NULL;
	unsigned tries;

	while (node != NULL) {
		if (area_size(rb_entry(node, struct vmap_area, size_node)) >= len) {
			best = node;
			node = node->left;
		} else {
			below = node;
			node = node->right;
		}
	}
	*smaller = below != NULL ? rb_entry(below, struct vmap_area, size_node) : NULL;
	for (tries = 0; best != NULL && tries < LAZY_TRIES; tries++, best = rb_next(best)) {
		struct vmap_area *va = rb_entry(best, struct vmap_area, size_node);

		if (IS_ALIGNED(va->va_start, align))
			return va;
	}
	return NULL;
}

/* --- giving back to the kernel ------------------------------------------------------------------------ */

static u64 lazy_max(void)
{
	u64 limit = READ_ONCE(vmap.lazy_max);

	if (unlikely(limit == 0)) {
		limit = (u64)LAZY_MAX_UNIT * (ilog2(os_nr_cpus()) + 1);
		WRITE_ONCE(vmap.lazy_max, limit);
	}
	return limit;
}

static void __take_for_purge(struct vmap_area *va, struct list_head *victims)
{
	__unmake_lazy(va);
	rb_erase(&va->rb_node, &vmap.areas, NULL);
	list_add_tail(&va->lru, victims);
}

/*
 * Oldest first: what is too old, and what is too much. The limit grows with the memory in use, and the area that
 * was freed last stays unless it alone is far above: a loop over one huge block should find it again.
 */
void __collect_victims(struct list_head *victims)
{
	u64 now, limit;
	size_t by_age = 0;

	if (list_empty(&vmap.lru))
		return;
	now = os_clock_ms();
	limit = max(lazy_max(), vmap.stat.bytes / 4);
	while (!list_empty(&vmap.lru)) {
		struct vmap_area *va = list_first_entry(&vmap.lru, struct vmap_area, lru);
		bool last = va->lru.next == &vmap.lru;

		if (vmap.stat.lazy_bytes <= (last ? 4 * limit : limit)) {
			if (now - va->freed_ms < kmm_params.decay_ms || by_age >= PURGE_BY_AGE_MAX)
				return;
			by_age += area_size(va);
		}
		__take_for_purge(va, victims);
	}
}

/* Unmaps areas that are in no tree any more. */
size_t purge_victims(struct list_head *victims)
{
	struct vmap_area *va, *next;
	size_t bytes = 0;

	list_for_each_entry_safe(va, next, victims, lru) {
		size_t size = area_size(va);

		mm_unmap(va->va_start, va->va_end);
		bytes += size;
		count_vm_event(VM_vmalloc_purge);
		if (vm_unmap((void *)va->va_start, size) == 0) {
			vmap_lock();
			__free_vmap_range(&vmap.space, va->va_start, size + va->guard);
			vmap_unlock();
		} else {
			vm_dontneed((void *)va->va_start, size);	/* too many VMAs: only the addresses are lost */
		}
		metapool_free(&vmap_area_pool, va);
	}
	return bytes;
}

size_t purge_vmap_area_lazy(u64 max_age_ms)
{
	struct list_head victims = LIST_HEAD_INIT(victims);
	u64 now = os_clock_ms();

	vmap_lock();
	while (!list_empty(&vmap.lru)) {
		struct vmap_area *va = list_first_entry(&vmap.lru, struct vmap_area, lru);

		if (max_age_ms != 0 && now - va->freed_ms < max_age_ms)
			break;
		__take_for_purge(va, &victims);
	}
	vmap_unlock();
	return purge_victims(&victims);
}
