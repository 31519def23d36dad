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
#include "arch/percpu_ops.h"

/* Locks some area, beginning with the caller's; -1 when all are taken. */
static int lock_some_area(void)
{
	u32 nr = READ_ONCE(percpu_hot.nr_areas);
	u32 cpu = this_cpu_id();

	for (u32 i = 0; i < nr; i++, cpu++) {
		cpu = cpu < nr ? cpu : cpu % nr;
		if (mutex_trylock(percpu_lock(cpu), LOCK_percpu_area))
			return (int)cpu;
	}
	return -1;
}

void *lock_pop(unsigned slot)
{
	int cpu = lock_some_area();
	void *obj = NULL;

	if (cpu >= 0) {
		void ***where = percpu_slot((unsigned)cpu, slot);

		obj = (*where)[-1];
		if (obj)
			(*where)--;
		mutex_unlock(percpu_lock((unsigned)cpu), LOCK_percpu_area);
	}
	return obj;
}

bool lock_push(map_entry_t e, void *obj)
{
	unsigned slot = e & MAP_SLOT_MASK;
	int cpu = lock_some_area();
	bool done = false;

	if (cpu >= 0) {
		if (e >> MAP_HOME_SHIFT != (u32)cpu)
			slot |= SLOT_REMOTE;
		void ***where = percpu_slot((unsigned)cpu, slot);

		if (((uintptr_t)*where & 511) != 0 && (*where)[-1] != obj) {
			**where = obj;
			smp_store_release(where, *where + 1);	/* a fork may copy between the two: this order */
			done = true;
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
