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

static void *__pop(void ***where)
{
	void *obj = (*where)[-1];

	if (obj)
		(*where)--;
	return obj;
}

/* A fork may copy between the two stores: this order. */
static void __push(void ***where, void *obj)
{
	**where = obj;
	smp_store_release(where, *where + 1);
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
		obj = __pop(percpu_slot((unsigned)cpu, slot));
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return obj;
}

bool lock_push(map_entry_t e, void *obj)
{
	int cpu = lock_some_area();
	bool done = false;

	if (cpu >= 0) {
		void ***where = percpu_slot((unsigned)cpu, slot_on((unsigned)cpu, e));

		done = ((uintptr_t)*where & LINK_MASK) != 0 && (*where)[-1] != obj;
		if (done)
			__push(where, obj);
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return done;
}

static void *__pop_chain(void ***where, struct chain_left *left)
{
	void *obj = __pop(where);
	uintptr_t below;

	left->sheaf = NULL;
	if (obj)
		return obj;
	below = (uintptr_t)*sheaf_at(*where) & ~LINK_MASK;
	if (!below)
		return NULL;
	left->sheaf = sheaf_at(*where);
	*where = (void **)(below + LINK_MASK + 1);
	return __pop(where);
}

void *lock_pop_chain(unsigned slot, struct chain_left *left)
{
	int cpu = lock_some_area();
	void *obj = NULL;

	if (cpu >= 0) {
		obj = __pop_chain(percpu_slot((unsigned)cpu, slot), left);
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return obj;
}

static bool __push_chain(void ***where, void *obj, void **new_top, unsigned least, struct chain_left *left)
{
	void **top = *where, **full = sheaf_at(top);
	uintptr_t link = (uintptr_t)*full;
	unsigned room = (unsigned)(link & LINK_MASK);

	if (top[-1] == obj)
		return false;
	if ((uintptr_t)top & LINK_MASK) {
		left->sheaf = sheaf_at(new_top);
		__push(where, obj);
		return true;
	}
	if (room < least)
		return false;
	left->sheaf = room > 1 ? NULL : full;
	*sheaf_at(new_top) = (void *)(room > 1 ? (uintptr_t)full | (room - 1) : link);
	smp_store_release(where, new_top);
	return true;
}

bool lock_push_chain(map_entry_t e, void *obj, void **new_top, unsigned least, struct chain_left *left)
{
	int cpu = lock_some_area();
	bool done = false;

	if (cpu >= 0) {
		left->slot = slot_on((unsigned)cpu, e);
		done = __push_chain(percpu_slot((unsigned)cpu, (unsigned)left->slot), obj, new_top, least, left);
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
		uintptr_t nr = (uintptr_t)*head & LINK_MASK;

		done = nr < EMPTY_MAX;
		if (done) {
			*(void **)sheaf = *head;
			smp_store_release(head, (void *)((uintptr_t)sheaf | (nr + 1)));
		}
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return done;
}

void **lock_exchange(unsigned cpu, unsigned slot, void **new_top)
{
	void ***where = percpu_slot(cpu, slot);
	void **old = NULL;

	if (mutex_trylock(percpu_lock(cpu), LOCK_percpu_area)) {
		if (*where != percpu_hot.stop_top) {
			old = *where;
			*where = new_top;
		}
		mutex_unlock(percpu_lock(cpu), LOCK_percpu_area);
	}
	return old;
}
