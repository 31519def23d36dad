/* SPDX-License-Identifier: MIT */
/*
 * percpu_lock.c - the same sheaves without rseq: a try-lock per area.
 *
 * Purpose. Where there are no restartable sequences an area belongs to a core (arch/topology.h; to a CPU before
 * hwloc is loaded), and whoever wants to touch its slots takes its lock. The lock is only ever tried: a thread that
 * was preempted inside delays nobody, the next area serves; if all are taken the caller goes on without a sheaf.
 * So a signal handler that interrupts a holder cannot deadlock either.
 *
 * Locks. percpu_area; nothing is taken inside.
 */
#include "arch/percpu_chain.h"

/* Locks some area, beginning with the caller's; -1 when all are taken. */
static int lock_some_area(void)
{
	u32 nr = READ_ONCE(percpu_hot.nr_areas);
	u32 cpu = this_core_id();

	for (u32 i = 0; i < nr; i++, cpu++) {
		cpu = cpu < nr ? cpu : cpu % nr;
		if (mutex_trylock(percpu_lock(cpu), LOCK_percpu_area))
			return (int)cpu;
	}
	return -1;
}

#define LINK_MASK ((uintptr_t)511)

static void **sheaf_at(void **top)
{
	return (void **)(((uintptr_t)top - 1) & ~LINK_MASK);
}

static void *__pop(unsigned cpu, unsigned slot)
{
	uintptr_t *where = percpu_slot(cpu, slot);
	void *obj = percpu_to_top(cpu, *where)[-1];

	if (obj)
		*where -= sizeof(obj);
	return obj;
}

/* A fork may copy between the two stores: this order. */
static void __push(unsigned cpu, unsigned slot, void **top, void *obj)
{
	uintptr_t *where = percpu_slot(cpu, slot), next = *where + sizeof(obj);

	*top = obj;
	smp_store_release(where, next);
}

static unsigned slot_on(unsigned cpu, map_entry_t e)
{
	return (e & MAP_SLOT_MASK) | (e >> MAP_HOME_SHIFT != (u32)cpu ? SLOT_REMOTE : 0);
}

void *lock_pop(unsigned slot)
{
	int cpu = lock_some_area();
	void *obj = NULL;

	if (cpu >= 0) {
		obj = __pop((unsigned)cpu, slot);
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return obj;
}

bool lock_push(map_entry_t e, void *obj)
{
	int cpu = lock_some_area();
	bool done = false;

	if (cpu >= 0) {
		unsigned slot = slot_on((unsigned)cpu, e);
		void **top = percpu_top((unsigned)cpu, slot);

		done = ((uintptr_t)top & LINK_MASK) != 0 && top[-1] != obj;
		if (done)
			__push((unsigned)cpu, slot, top, obj);
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return done;
}

static void *__pop_chain(unsigned cpu, unsigned slot, struct chain_left *left)
{
	void *obj = __pop(cpu, slot), **sheaf;
	uintptr_t below;

	left->sheaf = NULL;
	if (obj)
		return obj;
	sheaf = sheaf_at(percpu_top(cpu, slot));
	below = (uintptr_t)*sheaf & ~LINK_MASK;
	if (!below)
		return NULL;
	left->sheaf = sheaf;
	percpu_set_top(cpu, slot, (void **)(below + LINK_MASK + 1));
	return __pop(cpu, slot);
}

void *lock_pop_chain(unsigned slot, struct chain_left *left)
{
	int cpu = lock_some_area();
	void *obj = NULL;

	if (cpu >= 0) {
		obj = __pop_chain((unsigned)cpu, slot, left);
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return obj;
}

static bool __push_chain(unsigned cpu, void *obj, void **new_top, unsigned least, struct chain_left *left)
{
	void **top = percpu_top(cpu, (unsigned)left->slot), **full = sheaf_at(top);
	uintptr_t link = (uintptr_t)*full;
	unsigned room = (unsigned)(link & LINK_MASK);

	if (top[-1] == obj)
		return false;
	if ((uintptr_t)top & LINK_MASK) {
		left->sheaf = sheaf_at(new_top);
		__push(cpu, (unsigned)left->slot, top, obj);
		return true;
	}
	if (room < least)
		return false;
	left->sheaf = room > 1 ? NULL : full;
	*sheaf_at(new_top) = (void *)(room > 1 ? (uintptr_t)full | (room - 1) : link);
	percpu_set_top(cpu, (unsigned)left->slot, new_top);
	return true;
}

bool lock_push_chain(map_entry_t e, void *obj, void **new_top, unsigned least, struct chain_left *left)
{
	int cpu = lock_some_area();
	bool done = false;

	if (cpu >= 0) {
		left->slot = slot_on((unsigned)cpu, e);
		done = __push_chain((unsigned)cpu, obj, new_top, least, left);
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return done;
}

void *lock_get_empty(void)
{
	int cpu = lock_some_area();
	void **sheaf = NULL;

	if (cpu >= 0) {
		void **head = (void **)percpu_slot((unsigned)cpu, SLOT_EMPTY);

		sheaf = (void **)((uintptr_t)*head & ~LINK_MASK);
		if (sheaf)
			*head = *sheaf;
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return sheaf;
}

bool lock_put_empty(void *sheaf)
{
	int cpu = lock_some_area();
	bool done = false;

	if (cpu >= 0) {
		void **head = (void **)percpu_slot((unsigned)cpu, SLOT_EMPTY);
		uintptr_t room = (uintptr_t)*head & LINK_MASK;

		done = room != 0;
		if (done) {
			*(void **)sheaf = *head;
			smp_store_release(head, (void *)((uintptr_t)sheaf | (room - 1)));
		}
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return done;
}

void **lock_exchange(unsigned cpu, unsigned slot, void **new_top)
{
	void **old = NULL;

	if (mutex_trylock(percpu_lock(cpu), LOCK_percpu_area)) {
		if (percpu_top(cpu, slot) != percpu_hot.stop_top) {
			old = percpu_top(cpu, slot);
			percpu_set_top(cpu, slot, new_top);
		}
		mutex_unlock(percpu_lock(cpu), LOCK_percpu_area);
	}
	return old;
}
