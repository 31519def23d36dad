/* SPDX-License-Identifier: MIT */
/*
 * vmstat.c - event counters.
 *
 * Purpose: count what slow paths do, without a lock and without two CPUs writing one cache line.
 *
 * Objects: an array of counters in each CPU's area (struct pcpu), and one static array for what happens before
 * the first area is online. A counter is the sum of all of them.
 *
 *	boot_vmstat[item] + pcpu_of(0)->vmstat[item] + pcpu_of(1)->vmstat[item] + ...
 *
 * Invariants: counters only grow. Which CPU's array an event lands in does not matter for the sum, so the number
 * that any_cpu() gives may be stale by the time it is used.
 *
 * Synchronization: relaxed atomic adds; a reader sees each counter at some moment of its walk, not all counters at
 * one moment. nr_percpu_areas() loads with acquire: the number is raised with release after an area is writable.
 *
 * Kernel counterpart: mm/vmstat.c. The kernel adds with preemption off and folds dead CPUs; areas here stay online.
 *
 * Fork and init: nothing to do; the child goes on with the parent's counts.
 */
#include "page/vmstat.h"

#include "page/percpu.h"

const char *const vmstat_names[NR_VMSTAT_ITEMS] = {
#define VMSTAT(name, help) #name,
#include "base/vmstat.def"
#undef VMSTAT
};

static u64 boot_vmstat[NR_VMSTAT_ITEMS];

void count_vm_events(enum vmstat_item item, u64 n)
{
	u64 *counters = likely(nr_percpu_areas() != 0) ? pcpu_of(any_cpu())->vmstat : boot_vmstat;

	__atomic_fetch_add(&counters[item], n, __ATOMIC_RELAXED);
}

u64 global_vm_event(enum vmstat_item item)
{
	u32 nr = nr_percpu_areas();
	u64 sum = READ_ONCE(boot_vmstat[item]);

	for (u32 cpu = 0; cpu < nr; cpu++)
		sum += READ_ONCE(pcpu_of(cpu)->vmstat[item]);
	return sum;
}
