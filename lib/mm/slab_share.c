/* SPDX-License-Identifier: MIT */
/*
 * slab_share.c - a class takes objects of larger ones, where a slab of its own is not worth it.
 *
 * Purpose. Two cases, in both of which the object goes back to its own class when it is freed.
 *
 *   few   A class without a slab on this CPU, of which the program wants an object now and then: a buffer that grows
 *         passes through a dozen classes, and a slab for each would hold pages that are touched once. It shares with those
 *         up to the next power of two, which need one slab together.
 *   dear  From 4 KiB on a slab has few objects or one, and how many of each class a program holds goes up and down by more
 *         than a CPU may keep. An empty sheaf's place is taken by those of the next two classes: a quarter too large at
 *         most, which is address space rather than memory, since nobody touches it.
 *
 * When a class has earned slabs of its own. When a CPU wants more than SHARE_ALLOCS objects a tick of the coarse clock, since each
 * costs some 100 instructions; or when the shared class has more than SHARE_SLABS slabs: then objects live long, and what is too
 * large about them would be lost for long.
 *
 * Locks. None. The counts are of a CPU, or no two would leave each other's cache lines alone, and may miss some.
 *
 * What differs from the kernel. SLUB merges caches of nearly the same size for good (slab_common.c, find_mergeable).
 */
#include "internal.h"

#include "arch/percpu_ops.h"
#include "os/os.h"
#include "page/percpu.h"

#define SHARE_MAX	KIB(64)		/* classes up to that size */
#define SHARE_ALLOCS	512u
#define SHARE_SLABS	8u
#define BORROW_MIN	KIB(4)
#define BORROW_STEPS	2u

/* What a class has wanted on a CPU, in the CPU's area. */
struct wanted {
	u32 tick_ms, allocs;	/* allocs: since then */
};
_Static_assert(NR_KMALLOC_CLASSES * sizeof(struct wanted) <= PERCPU_NODES - PERCPU_WANTED, "all classes fit into an area");

/* An object from the CPU's sheaves of the classes (cls, last] of a group; most of them are empty, and not worth a section. */
static void *pop_larger(unsigned cls, unsigned last)
{
	unsigned cpu = any_cpu();
	void *obj = NULL;

	while (!obj && cls++ < last)
		if (READ_ONCE(percpu_top(cpu, cls)[-1]))
			obj = this_cpu_pop(cls);
	return obj;
}

static bool has_own_slab(unsigned cls)
{
	const struct kmem_cache_node *n = get_node(any_cpu(), cls);

	return READ_ONCE(n->nr_slabs) || READ_ONCE(n->full);
}

/* The class in which cls has its share, of the same group; cls itself if it has none, or if many share already. */
static unsigned share_class(unsigned cls)
{
	u32 size = cache_of(cls)->size;
	unsigned share = kmalloc_class(roundup_pow_of_two(size)) | (cls & ~MAP_CLASS_MASK);

	return size <= SHARE_MAX && READ_ONCE(get_node(any_cpu(), share)->nr_slabs) <= SHARE_SLABS ? share : cls;
}

/* Counts what cls wants now. */
static bool wants_few(unsigned cls)
{
	struct wanted *w = (struct wanted *)percpu_at(any_cpu(), PERCPU_WANTED) + (cls & MAP_CLASS_MASK);
	u32 now = (u32)os_clock_ms(), allocs;

	allocs = READ_ONCE(w->tick_ms) == now ? READ_ONCE(w->allocs) + 1 : 1;
	WRITE_ONCE(w->tick_ms, now);
	WRITE_ONCE(w->allocs, allocs);
	return allocs <= SHARE_ALLOCS;
}

static void *borrow_dear(unsigned cls)
{
	unsigned last = min(cls + BORROW_STEPS, (cls & ~MAP_CLASS_MASK) + NR_KMALLOC_CLASSES - 1);

	if (percpu_mode != PERCPU_MODE_RSEQ || cache_of(cls)->size < BORROW_MIN)	/* under locks a pop is too dear */
		return NULL;
	return pop_larger(cls, last);
}

void *borrow_object(unsigned *cls)
{
	unsigned own = *cls, share;
	void *obj;

	share = has_own_slab(own) ? own : share_class(own);
	if (share == own || !wants_few(own))
		return borrow_dear(own);
	obj = pop_larger(own, share);
	if (!obj)
		*cls = share;
	return obj;
}
