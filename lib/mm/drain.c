/* SPDX-License-Identifier: MIT */
/*
 * drain.c - taking back what stands in CPUs' slots, without their threads' help.
 *
 * Purpose. Sheaves are taken away from CPUs whose threads go on meanwhile: when they have been quiet for long, before a
 * zone grows, when a memory group is near its limit. The slot is exchanged atomically for the stop sheaf. A section of
 * the owner that had read the old top may still commit over it; membarrier(2) restarts all sections, and then we look
 * again: if the stop sheaf is gone, what stands there supersedes what we held. Only when it stayed is the captured
 * sheaf ours. The owner never replaces the stop sheaf. Modelled in tests/model/drain.pml.
 *
 *   owner: read top .. commit top'            drainer: xchg(stop) ; membarrier ; load == stop ?
 *
 * One membarrier serves any number of slots and CPUs, so a memory group is drained of all CPUs at once. In the lock
 * mode each CPU's lock keeps its threads away.
 *
 * Locks. drain, one drainer at a time; what was captured is disposed of under it, which takes nodes, one at a time, and
 * what is beneath them. Fork: inside the gate.
 *
 * Kernel counterpart. mm/slub.c: flush_all_cpus_locked(), which asks each CPU to do it (flush_cpu_slab); mm/memcontrol.c:
 * drain_all_stock().
 */
#include "internal.h"

#include "base/bug.h"
#include "os/membarrier.h"
#include "page/memcontrol.h"
#include "page/vmstat.h"

static struct mutex drain_lock;

/*
 * What a drain has taken out of a CPU's slots of one group, as it stood there; 0: nothing. In the CPU's area, as a drain
 * may take all CPUs at once; drain lock.
 */
static uintptr_t *captured_of(unsigned cpu)
{
	return percpu_at(cpu, PERCPU_CAPTURED);
}
_Static_assert(NR_SHEAF_SLOTS * sizeof(uintptr_t) <= PERCPU_DYNAMIC - PERCPU_CAPTURED, "a CPU's slots fit into its area");

/* Puts the stop sheaf into every slot wanted that holds something else; returns whether there was any. */
static bool stop_slots(unsigned cpu, unsigned colour, const u64 *wanted, bool first)
{
	uintptr_t stop = percpu_from_top(cpu, sheaf_full_top(&stop_sheaf)), boot = percpu_from_top(cpu, sheaf_full_top(&boot_sheaf));
	uintptr_t *captured = captured_of(cpu);
	bool any = false;

	for (unsigned i = 0; i < NR_SHEAF_SLOTS; i++) {
		unsigned slot = sheaf_slot(i);
		uintptr_t *where = percpu_slot(cpu, slot | colour << MAP_COLOUR_SHIFT);

		if (first)
			captured[i] = 0;
		if ((slot & MAP_CLASS_MASK) == 0 || !(wanted[i / 64] >> (i % 64) & 1))
			continue;
		if (first) {
			captured[i] = __atomic_load_n(where, __ATOMIC_ACQUIRE) == boot ? 0
				: __atomic_exchange_n(where, stop, __ATOMIC_SEQ_CST);
			any |= captured[i] != 0;
		} else if (captured[i] && __atomic_load_n(where, __ATOMIC_SEQ_CST) != stop) {
			captured[i] = __atomic_exchange_n(where, stop, __ATOMIC_SEQ_CST);
			any = true;
		}
	}
	return any;
}

/* membarrier(2) failed: what was captured goes back to where its owner has not been meanwhile. */
static void restore_slots(unsigned cpu, unsigned colour)
{
	uintptr_t *captured = captured_of(cpu);

	for (unsigned i = 0; i < NR_SHEAF_SLOTS; i++) {
		uintptr_t stop = percpu_from_top(cpu, sheaf_full_top(&stop_sheaf));

		if (captured[i])
			__atomic_compare_exchange_n(percpu_slot(cpu, sheaf_slot(i) | colour << MAP_COLOUR_SHIFT), &stop,
						    captured[i], false, __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		captured[i] = 0;
	}
}

static void release_slots(unsigned cpu, unsigned colour)
{
	for (unsigned i = 0; i < NR_SHEAF_SLOTS; i++)
		if (captured_of(cpu)[i])
			percpu_set_top(cpu, sheaf_slot(i) | colour << MAP_COLOUR_SHIFT, sheaf_full_top(&boot_sheaf));
}

static void dispose_captured(unsigned cpu, unsigned colour)
{
	for (unsigned i = 0; i < NR_SHEAF_SLOTS; i++) {
		unsigned slot = sheaf_slot(i) | colour << MAP_COLOUR_SHIFT;

		if (!captured_of(cpu)[i])
			continue;
		dispose_chain(slot, percpu_to_top(cpu, captured_of(cpu)[i]));
		if (!(slot & SLOT_REMOTE))
			forget_longer_chain(get_node(cpu, slot), slot);
	}
	count_vm_event(VM_cpu_drain);
}

/* CPUs [from, to) without waiting for their threads' locks: rseq. One membarrier serves all. */
static void __capture_slots(unsigned from, unsigned to, unsigned colour, const u64 *wanted)
{
	bool any = false;

	for (unsigned cpu = from; cpu < to; cpu++)
		any |= stop_slots(cpu, colour, wanted, true);
	while (any) {
		if (membarrier_rseq() != 0) {
			for (unsigned cpu = from; cpu < to; cpu++)
				restore_slots(cpu, colour);
			break;
		}
		count_vm_event(VM_membarrier);
		any = false;
		for (unsigned cpu = from; cpu < to; cpu++)
			any |= stop_slots(cpu, colour, wanted, false);
		if (any)
			count_vm_event(VM_drain_repeat);
	}
	for (unsigned cpu = from; cpu < to; cpu++)
		release_slots(cpu, colour);
}

/* The lock mode: CPU by CPU, under its lock. */
static void __capture_slots_locked(unsigned from, unsigned to, unsigned colour, const u64 *wanted)
{
	static const u64 none[NR_SHEAF_SLOT_WORDS];

	for (unsigned cpu = from; cpu < to; cpu++) {
		bool locked = lock_patiently(percpu_lock(cpu), LOCK_percpu_area);

		stop_slots(cpu, colour, locked ? wanted : none, true);
		release_slots(cpu, colour);
		if (locked)
			mutex_unlock(percpu_lock(cpu), LOCK_percpu_area);
	}
}

static void drain_areas(unsigned from, unsigned to, unsigned colour, const u64 wanted[NR_SHEAF_SLOT_WORDS])
{
	mutex_lock(&drain_lock, LOCK_drain);
	if (percpu_mode == PERCPU_MODE_RSEQ)
		__capture_slots(from, to, colour, wanted);
	else
		__capture_slots_locked(from, to, colour, wanted);
	for (unsigned cpu = from; cpu < to; cpu++)
		dispose_captured(cpu, colour);
	mutex_unlock(&drain_lock, LOCK_drain);
}

void drain_slots(unsigned cpu, unsigned colour, const u64 wanted[NR_SHEAF_SLOT_WORDS])
{
	drain_areas(cpu, cpu + 1, colour, wanted);
}

static const u64 all_slots[NR_SHEAF_SLOT_WORDS] = { ~0ull, ~0ull, ~0ull, ~0ull };

void drain_cpu(unsigned cpu)
{
	for_each_colour(colour)
		drain_slots(cpu, colour, all_slots);
}

/* Into slabs with what a CPU's barns hold; most hold nothing. */
static void flush_barns(unsigned cpu, unsigned colour, unsigned first)
{
	const struct kmem_cache_node *n = get_node(cpu, colour << MAP_COLOUR_SHIFT);

	for (unsigned cls = first; n && cls < NR_KMALLOC_CLASSES; cls++)
		if (READ_ONCE(n[cls].full))
			barn_flush(cpu, cls | colour << MAP_COLOUR_SHIFT);
}

__resident bool nodes_shrink(unsigned home, unsigned colour, unsigned first)
{
	bool any = false;

	for (unsigned cls = first; cls < NR_KMALLOC_CLASSES; cls++)
		any |= node_shrink(home, cls | colour << MAP_COLOUR_SHIFT);
	return any;
}

/* Barns first, all of them: their objects may be of slabs that live elsewhere by now, and become empty there. */
void drain_classes(unsigned colour, unsigned first)
{
	u64 wanted[NR_SHEAF_SLOT_WORDS] = { 0 };
	unsigned home;

	if (!colour_is_online(colour))		/* its group is being made */
		return;
	for (unsigned i = 0; i < NR_SHEAF_SLOTS; i++)
		if ((sheaf_slot(i) & MAP_CLASS_MASK) >= first)
			wanted[i / 64] |= 1ull << (i % 64);
	drain_areas(0, nr_percpu_areas(), colour, wanted);
	for (unsigned cpu = 0; cpu < nr_percpu_areas(); cpu++)
		flush_barns(cpu, colour, first);
	for (unsigned i = 0; home_by_index(i, &home); i++)
		nodes_shrink(home, colour, first);
}

void kmem_cache_shrink_all(void)
{
	for_each_colour(colour)
		drain_classes(colour, 1);
	drain_stocks(&root_mem_cgroup);
}
