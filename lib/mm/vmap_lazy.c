/* SPDX-License-Identifier: MIT */
/*
 * vmap_lazy.c - areas that the program has freed and the kernel has not got back yet.
 *
 * Purpose
 *	To find the one that fits best when the next block is wanted, and to give them back in time: oldest first,
 *	when they are older than KMM_DECAY_MS or when there are too many bytes of them: more than are in use, and
 *	more than the kernel's lazy_max_pages(). As long as lazy pages can be assembled, none is fresh that need not be,
 *	so that the sum of both does not exceed what the program has had in use at once.
 *
 * Invariants
 *	A lazy area is in the tree by address, in the tree by (size, address), and on the list, whose order is that
 *	of freed_ms.
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
#include "mm/kmmd.h"
#include "mm/mm_struct.h"
#include "os/kthread.h"
#include "os/os.h"
#include "os/vm.h"
#include "page/reclaim.h"
#include "page/vmstat.h"
#include <errno.h>

#define LAZY_MAX_UNIT	 MIB(32)	/* the kernel's lazy_max_pages(): times log2 of the CPUs + 1 */
#define LAZY_TRIES	 8		/* lazy areas looked at for one that is aligned as asked */
#define PURGE_BY_AGE_MAX MIB(64)
#define SHRINK_SLICE	 MIB(2)		/* given back at once by the background thread: 150 us */

bool lazy_before(const struct vmap_area *a, const struct vmap_area *b)
{
	if (area_size(a) != area_size(b))
		return area_size(a) < area_size(b);
	return a->va_start < b->va_start;
}

/* The entry that va goes before. What is put back is mostly the oldest, what the program frees always the youngest. */
static struct list_head *__lru_place(const struct vmap_area *va)
{
	struct list_head *place = &vmap.lru;

	if (!list_empty(&vmap.lru) && va->freed_ms <= list_first_entry(&vmap.lru, struct vmap_area, lru)->freed_ms)
		return vmap.lru.next;
	while (place->prev != &vmap.lru && list_entry(place->prev, struct vmap_area, lru)->freed_ms > va->freed_ms)
		place = place->prev;
	return place;
}

void __make_lazy(struct vmap_area *va)
{
	struct rb_node **link = &vmap.lazy.node, *parent = NULL;

	while (*link != NULL) {
		parent = *link;
		link = lazy_before(va, rb_entry(parent, struct vmap_area, size_node)) ? &parent->left : &parent->right;
	}
	rb_insert(&va->size_node, parent, link, &vmap.lazy, NULL);
	list_add_tail(&va->lru, __lru_place(va));
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

void __take_lazy(struct vmap_area *va)
{
	__unmake_lazy(va);
	rb_erase(&va->rb_node, &vmap.areas, NULL);
}

struct vmap_area *__best_fit(size_t len, size_t align)
{
	struct rb_node *node = vmap.lazy.node, *best = NULL;
	unsigned tries;

	while (node != NULL) {
		if (area_size(rb_entry(node, struct vmap_area, size_node)) >= len) {
			best = node;
			node = node->left;
		} else {
			node = node->right;
		}
	}
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

/*
 * Oldest first: what is too old, and what is too much. The limit grows with the memory in use, and the area that
 * was freed last stays unless it alone is far above: a loop over one huge block should find it again.
 */
static void __collect_victims(struct list_head *victims)
{
	u64 now, limit;
	size_t by_age = 0;

	if (list_empty(&vmap.lru))
		return;
	now = os_clock_ms();
	limit = max(lazy_max(), vmap.stat.bytes);
	while (!list_empty(&vmap.lru)) {
		struct vmap_area *va = list_first_entry(&vmap.lru, struct vmap_area, lru);
		bool last = va->lru.next == &vmap.lru;

		if (vmap.stat.lazy_bytes <= (last ? 4 * limit : limit)) {
			if (now - va->freed_ms < direct_decay_ms() || by_age >= PURGE_BY_AGE_MAX)
				return;
			by_age += area_size(va);
		}
		__take_lazy(va);
		list_add_tail(&va->lru, victims);
	}
}

void release_area(struct vmap_area *va)
{
	size_t size = area_size(va), own = size + va->guard;

	mm_unmap(va->va_start, va->va_end);
	if (size != 0 && vm_unmap((void *)va->va_start, size) != 0) {
		vm_dontneed((void *)va->va_start, size);	/* too many VMAs: only the addresses are lost */
		own = 0;
	}
	vmap_lock();
	if (own != 0)
		__free_vmap_range(&vmap.space, va->va_start, own);
	va->va_end = va->va_start;
	__drop_seams_outside(va);
	vmap_unlock();
	metapool_free(&vmap_area_pool, va);
}

void put_back_lazy(struct vmap_area *va, uintptr_t from, uintptr_t to)
{
	uintptr_t freed = from;
	bool keep;

	if (to > from)
		mm_unmap(from, to);
	if (from == va->va_start) {
		va->va_start = to;
	} else {
		va->va_end = from;
		freed += va->guard;
	}
	keep = area_size(va) >= PIECE_MIN;
	vmap_lock();
	__drop_seams_outside(va);
	if (to > from)
		__free_vmap_range(&vmap.space, freed, to - from);
	if (keep) {
		__insert_area(va);
		__make_lazy(va);
	}
	vmap_unlock();
	if (!keep)
		release_area(va);
}

static size_t purge_victims(struct list_head *victims)
{
	struct vmap_area *va, *next;
	size_t bytes = 0;

	list_for_each_entry_safe(va, next, victims, lru) {
		bytes += area_size(va);
		count_vm_event(VM_vmalloc_purge);
		release_area(va);
	}
	return bytes;
}

/* What lies here goes home by age, but for that somebody must look. */
static void want_kmmd(void)
{
	u64 bytes = READ_ONCE(vmap.stat.lazy_bytes);

	if (!READ_ONCE(kswapd_running) && (bytes >= KSWAPD_EARNED || (bytes >= KSWAPD_WORTH && nr_tasks() >= 2)))
		kmmd_want();
}

void purge_excess_lazy(void)
{
	struct list_head victims = LIST_HEAD_INIT(victims);

	vmap_lock();
	__collect_victims(&victims);
	vmap_unlock();
	if (unlikely(!list_empty(&victims)))
		purge_victims(&victims);
	want_kmmd();
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
		__take_lazy(va);
		list_add_tail(&va->lru, &victims);
	}
	vmap_unlock();
	return purge_victims(&victims);
}

/* --- by the background thread, a slice at a time ------------------------------------------------------- */

__resident size_t vmap_lazy_bytes(void)
{
	return READ_ONCE(vmap.stat.lazy_bytes);
}

static struct vmap_area *take_oldest(struct scan_control *sc)
{
	struct vmap_area *va = NULL;

	vmap_lock();
	if (!list_empty(&vmap.lru))
		va = list_first_entry(&vmap.lru, struct vmap_area, lru);
	if (va != NULL && scan_is_old(sc, (u32)va->freed_ms, sc->max_age_ms))
		__take_lazy(va);
	else
		va = NULL;
	vmap_unlock();
	return va;
}

/* What the program never touched does not go home. Those who ask for everything are told how much went. */
static size_t bytes_going(struct scan_control *sc, uintptr_t from, size_t size)
{
	ssize_t resident = sc->kswapd ? -ENOSYS : vm_resident((void *)from, size);

	return resident < 0 ? size : (size_t)resident;
}

/*
 * From the end on. Unmapping what is resident would hold the kernel's lock against page faults for long, so the
 * background thread gives back the pages before it unmaps them.
 */
bool shrink_vmap_area_lazy(struct scan_control *sc)
{
	struct vmap_area *va = take_oldest(sc);
	uintptr_t from;
	size_t part, bytes;

	if (va == NULL)
		return false;
	part = min(area_size(va), sc->kswapd ? SHRINK_SLICE : SIZE_MAX);
	from = va->va_end - part;
	bytes = bytes_going(sc, from, part);
	if (sc->kswapd)
		vm_dontneed((void *)from, part);	/* locked memory refuses: it can be unmapped all the same */
	if (vm_unmap((void *)from, part) == 0)
		put_back_lazy(va, from, va->va_end);
	else
		release_area(va);
	count_vm_event(VM_vmalloc_purge);
	scan_account(sc, bytes);
	return true;
}
