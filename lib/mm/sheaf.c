/* SPDX-License-Identifier: MIT */
/*
 * sheaf.c - sheaves and barns: what happens when a CPU's sheaf is empty or full.
 *
 * Purpose. malloc and free take from and put onto the CPU's sheaf (arch/percpu_ops.h). Here sheaves are changed whole:
 * an empty one for a full one from the barn, or for one filled from slabs; a full one for an empty one. What a
 * CPU frees of its own slabs goes into its own barn; its remote sheaf, which collects objects whose home is
 * elsewhere, goes whole to the home's barn if all its objects come from there, else object by object.
 *
 * Objects.
 *   slot of CPU and class: top -> [ NULL | obj obj obj ... top ]      a sheaf
 *   node->full             -> sheaf -> sheaf                          the barn: linked by slot[0]
 *   node of class 0        -> empty sheaves of the CPU; more than EMPTY_MAX go to the depot, which all share
 *
 * Invariants. A sheaf is in exactly one place: a slot, a barn, the empty ones, or in the hands of a thread inside the
 * gate. Objects in a slot without SLOT_REMOTE have their home there (but for slabs that changed home since). Sheaf
 * memory is never used for anything else, so that an rseq section on a stale top reads harmless words.
 *
 * Draining another CPU (drain_cpu). The slot is exchanged atomically for the stop sheaf. A section of the owner that
 * had read the old top may still commit over it; membarrier(2) restarts all sections, and then we look again: if
 * the stop sheaf is gone, what stands there supersedes what we held. Only when it stayed is the captured sheaf
 * ours. The owner never replaces the stop sheaf. Modelled in tests/model/drain.pml.
 *
 *   owner: read top .. commit top'            drainer: xchg(stop) ; membarrier ; load == stop ?
 *
 * Signal handlers. A handler may interrupt a slow path of its own thread, which holds locks. It knows by gate_is_
 * inside(), and then only tries locks, takes a larger object if need be, and puts what it frees on a list (slub.c).
 *
 * Locks. node, one at a time; drain around drain_cpu(). Fork: everything happens inside the gate.
 *
 * Kernel counterpart. mm/slub.c: struct slub_percpu_sheaves, struct node_barn, barn_replace_empty_sheaf, __pcs_replace_
 * full_main. There a spare sheaf damps ping-pong; here the barn is as near.
 */
#include "internal.h"

#include "arch/topology.h"
#include "base/bug.h"
#include "mm/gate.h"
#include "mm/mm_struct.h"
#include "os/membarrier.h"
#include "os/os.h"
#include "page/memblock.h"
#include "page/reclaim.h"
#include "page/sparse.h"
#include <errno.h>
#include <string.h>

#define EMPTY_MAX	8		/* empty sheaves that a CPU keeps */
#define DRAIN_TRIES	1000
#define COUNT_MASK	((uintptr_t)SHEAF_SIZE - 1)

struct sheaf stop_sheaf, boot_sheaf;
static struct mutex drain_lock;
static struct kmem_cache_node depot;	/* empty sheaves of all CPUs */

static bool is_null_sheaf(void **top)
{
	return top == sheaf_full_top(&boot_sheaf) || top == sheaf_full_top(&stop_sheaf);
}

/* --- barns: lists of sheaves under a node's lock ----------------------------------------------------------- */

static void __barn_push(struct kmem_cache_node *n, struct sheaf *sh, unsigned nr)
{
	sh->slot[0] = (void *)((uintptr_t)n->full | nr);
	n->full = sh;
	n->nr_full++;
}

/* Returns the sheaf and how many objects it holds. */
static struct sheaf *__barn_pop(struct kmem_cache_node *n, unsigned *nr)
{
	struct sheaf *sh = n->full;

	if (!sh)
		return NULL;
	*nr = (unsigned)((uintptr_t)sh->slot[0] & COUNT_MASK);
	n->full = (struct sheaf *)((uintptr_t)sh->slot[0] & ~COUNT_MASK);
	n->nr_full--;
	return sh;
}

/* Sets the sentinel and returns the top of a sheaf that holds nr objects of cls. */
static void **sheaf_arm(struct sheaf *sh, unsigned cls, unsigned nr)
{
	void **bottom = sheaf_bottom(sh, cls);

	bottom[-1] = NULL;
	return bottom + nr;
}

static struct sheaf *pop_empty(struct kmem_cache_node *n)
{
	struct sheaf *sh;
	unsigned nr;

	if (!READ_ONCE(n->full))
		return NULL;
	mutex_lock(&n->lock, LOCK_node);
	sh = __barn_pop(n, &nr);
	mutex_unlock(&n->lock, LOCK_node);
	return sh;
}

static struct sheaf *get_empty_sheaf(unsigned cpu)
{
	struct sheaf *sh = pop_empty(get_node(cpu, 0));

	if (!sh)
		sh = pop_empty(&depot);
	if (!sh) {
		sh = memblock_alloc(sizeof(*sh), sizeof(*sh));
		if (sh)
			count_vm_event(VM_sheaf_alloc);
	}
	return sh;
}

static void put_empty_sheaf(unsigned cpu, struct sheaf *sh)
{
	struct kmem_cache_node *n = get_node(cpu, 0);

	if (READ_ONCE(n->nr_full) >= EMPTY_MAX)
		n = &depot;
	mutex_lock(&n->lock, LOCK_node);
	__barn_push(n, sh, 0);
	mutex_unlock(&n->lock, LOCK_node);
}

static bool barn_put(unsigned home, unsigned cls, struct sheaf *sh, unsigned nr)
{
	struct kmem_cache_node *n = get_node(home, cls);
	bool done = false;

	mutex_lock(&n->lock, LOCK_node);
	if (n->nr_full < kmalloc_caches[cls].barn_max) {
		__barn_push(n, sh, nr);
		done = true;
	}
	mutex_unlock(&n->lock, LOCK_node);
	return done;
}

static struct sheaf *barn_get(unsigned home, unsigned cls, unsigned *nr)
{
	struct kmem_cache_node *n = get_node(home, cls);
	struct sheaf *sh;

	if (!READ_ONCE(n->full))
		return NULL;
	mutex_lock(&n->lock, LOCK_node);
	sh = __barn_pop(n, nr);
	mutex_unlock(&n->lock, LOCK_node);
	return sh;
}

/* --- what becomes of a sheaf that came out of a slot -------------------------------------------------------- */

static void flush_sheaf(unsigned cpu, unsigned cls, struct sheaf *sh, unsigned nr)
{
	slab_free_bulk(cls, sheaf_bottom(sh, cls), nr);
	count_vm_event(VM_sheaf_flush);
	put_empty_sheaf(cpu, sh);
}

/* The one home of all nr objects, or -1. */
static int common_home(void **p, unsigned nr)
{
	u32 home = map_entry(virt_to_pfn(p[0])) >> MAP_HOME_SHIFT;

	for (unsigned i = 1; i < nr; i++)
		if (map_entry(virt_to_pfn(p[i])) >> MAP_HOME_SHIFT != home)
			return -1;
	return home < HOME_DOMAIN ? (int)home : -1;
}

/* top came out of a slot of cpu; the caller is inside the gate and owns the sheaf. */
static void dispose_sheaf(unsigned cpu, unsigned slot, void **top)
{
	unsigned cls = slot & MAP_CLASS_MASK, nr;
	struct sheaf *sh;
	int home;

	if (is_null_sheaf(top))
		return;
	sh = sheaf_of_top(top);
	nr = (unsigned)(top - sheaf_bottom(sh, cls));
	VM_BUG_ON(nr > kmalloc_caches[cls].sheaf_capacity);
	if (nr == 0) {
		put_empty_sheaf(cpu, sh);
		return;
	}
	home = slot & SLOT_REMOTE ? common_home(sheaf_bottom(sh, cls), nr) : (int)cpu;
	if (home >= 0 && barn_put((unsigned)home, cls, sh, nr))
		count_vm_event(home == (int)cpu ? VM_barn_put : VM_barn_put_remote);
	else
		flush_sheaf(cpu, cls, sh, nr);
}

/* --- allocation ---------------------------------------------------------------------------------------------- */

static void reverse(void **p, unsigned nr)
{
	for (unsigned i = 0; i < nr / 2; i++)
		swap(p[i], p[nr - 1 - i]);
}

/*
 * A full sheaf of an area that was last used on a hardware thread of the same core: its objects are in the same
 * first-level cache, so taking them is no false sharing.
 */
static struct sheaf *get_sibling_sheaf(unsigned cpu, unsigned cls, unsigned *nr)
{
	u32 core = topology_core(pcpu_of(cpu)->last_cpu), sibling;
	struct sheaf *sh = NULL;

	if (!topology_siblings(pcpu_of(cpu)->last_cpu, &sibling, 1))
		return NULL;
	for (u32 other = 0; other < nr_percpu_areas() && !sh; other++)
		if (other != cpu && topology_core(READ_ONCE(pcpu_of(other)->last_cpu)) == core)
			sh = barn_get(other, cls, nr);
	return sh;
}

/* A sheaf with objects: from the barn, from a sibling's, else filled from slabs. NULL when out of memory. */
static struct sheaf *get_full_sheaf(unsigned cpu, unsigned cls, unsigned *nr)
{
	struct sheaf *sh = barn_get(cpu, cls, nr);

	if (sh) {
		count_vm_event(VM_barn_get);
		return sh;
	}
	sh = get_sibling_sheaf(cpu, cls, nr);
	if (sh) {
		count_vm_event(VM_sheaf_neighbour);
		return sh;
	}
	sh = get_empty_sheaf(cpu);
	if (!sh)
		return NULL;
	*nr = slab_alloc_bulk(cpu, cls, sheaf_bottom(sh, cls), kmalloc_caches[cls].sheaf_capacity);
	if (!*nr) {
		put_empty_sheaf(cpu, sh);
		return NULL;
	}
	reverse(sheaf_bottom(sh, cls), *nr);	/* lowest address on top: handed out first */
	count_vm_event(VM_sheaf_refill);
	return sh;
}

/* The caller's area, brought online if need be; -1 when there is no memory for one. */
static int cpu_area(void)
{
	unsigned cpu = this_cpu_id();

	if (likely(cpu < nr_percpu_areas()) || percpu_online(cpu) == 0) {
		WRITE_ONCE(pcpu_of(cpu)->last_cpu, (u32)os_getcpu());
		return (int)cpu;
	}
	return nr_percpu_areas() ? (int)(cpu % nr_percpu_areas()) : -1;
}

static void *refill_and_alloc(unsigned cls)
{
	int cpu = cpu_area();
	struct sheaf *sh;
	void **top, **old, *obj;
	unsigned nr;

	if (cpu < 0)
		return NULL;
	sh = get_full_sheaf((unsigned)cpu, cls, &nr);
	if (!sh)
		return NULL;
	top = sheaf_arm(sh, cls, nr);
	obj = *--top;
	old = percpu_exchange((unsigned)cpu, cls, top);
	if (old) {
		dispose_sheaf((unsigned)cpu, cls, old);
	} else {	/* moved to another CPU, being drained, or restarted: the rest stays here */
		count_vm_event(VM_alloc_direct);
		dispose_sheaf((unsigned)cpu, cls, top);
	}
	return obj;
}

void *kmem_cache_alloc_slowpath(unsigned cls)
{
	void *obj = percpu_pop(cls);	/* the lock mode's way, and for a section that was restarted */

	if (obj)
		return obj;
	if (unlikely(gate_is_inside()))	/* a signal handler on top of a slow path */
		return slab_alloc_nested(cls);
	gate_enter();
	current_task();
	free_deferred();
	obj = refill_and_alloc(cls);
	if (unlikely(!obj) && try_to_free_pages(0, 0))
		obj = refill_and_alloc(cls);
	if (unlikely(!obj))
		count_vm_event(VM_alloc_fail);
	gate_leave();
	return obj;
}

/* --- freeing --------------------------------------------------------------------------------------------------- */

static void free_into_new_sheaf(map_entry_t e, void *obj)
{
	unsigned cls = e & MAP_CLASS_MASK, slot = e & MAP_SLOT_MASK;
	int cpu = cpu_area();
	struct sheaf *sh = cpu < 0 ? NULL : get_empty_sheaf((unsigned)cpu);
	void **top, **old;

	if (!sh) {
		slab_free_bulk(cls, &obj, 1);
		return;
	}
	if (e >> MAP_HOME_SHIFT != (u32)cpu)
		slot |= SLOT_REMOTE;
	top = sheaf_arm(sh, cls, 1);
	top[-1] = obj;
	old = percpu_exchange((unsigned)cpu, slot, top);
	if (!old) {
		put_empty_sheaf((unsigned)cpu, sh);
		slab_free_bulk(cls, &obj, 1);
		count_vm_event(VM_free_direct);
		return;
	}
	if (unlikely(old[-1] == obj))
		report_double_free(obj);
	dispose_sheaf((unsigned)cpu, slot, old);
}

void free_object_slowpath(map_entry_t e, void *obj)
{
	if (percpu_push(e, obj))
		return;
	if (unlikely(gate_is_inside())) {
		defer_free(obj);
		return;
	}
	gate_enter();
	free_deferred();
	free_into_new_sheaf(e, obj);
	gate_leave();
}

/* --- taking back --------------------------------------------------------------------------------------------- */

void barn_flush(unsigned home, unsigned cls)
{
	unsigned cpu = any_cpu(), nr;
	struct sheaf *sh;

	if (home >= HOME_DOMAIN)
		return;
	while ((sh = barn_get(home, cls, &nr)) != NULL)
		flush_sheaf(cpu, cls, sh, nr);
}

/* One slot's index among those captured: local slots of every class, then remote ones. */
#define NR_CAPTURED (2 * NR_KMALLOC_CLASSES)
static unsigned captured_slot(unsigned i)
{
	return i < NR_KMALLOC_CLASSES ? i : (i - NR_KMALLOC_CLASSES) | SLOT_REMOTE;
}

/* Puts the stop sheaf into every slot that holds something else; returns whether there was any. */
static bool stop_slots(unsigned cpu, void **captured[NR_CAPTURED], bool first)
{
	void **stop = sheaf_full_top(&stop_sheaf), **boot = sheaf_full_top(&boot_sheaf);
	bool any = false;

	for (unsigned i = 0; i < NR_CAPTURED; i++) {
		unsigned slot = captured_slot(i);
		void ***where = percpu_slot(cpu, slot);

		if ((slot & MAP_CLASS_MASK) == 0)
			continue;
		if (first) {
			captured[i] = __atomic_load_n(where, __ATOMIC_ACQUIRE) == boot ? NULL
				: __atomic_exchange_n(where, stop, __ATOMIC_SEQ_CST);
			any |= captured[i] != NULL;
		} else if (captured[i] && __atomic_load_n(where, __ATOMIC_SEQ_CST) != stop) {
			captured[i] = __atomic_exchange_n(where, stop, __ATOMIC_SEQ_CST);
			any = true;
		}
	}
	return any;
}

/* membarrier(2) failed: what was captured goes back to where its owner has not been meanwhile. */
static void restore_slots(unsigned cpu, void **captured[NR_CAPTURED])
{
	for (unsigned i = 0; i < NR_CAPTURED; i++) {
		void **stop = sheaf_full_top(&stop_sheaf);

		if (captured[i])
			__atomic_compare_exchange_n(percpu_slot(cpu, captured_slot(i)), &stop, captured[i], false,
						    __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST);
		captured[i] = NULL;
	}
}

static void release_slots(unsigned cpu, void **captured[NR_CAPTURED])
{
	for (unsigned i = 0; i < NR_CAPTURED; i++)
		if (captured[i])
			__atomic_store_n(percpu_slot(cpu, captured_slot(i)), sheaf_full_top(&boot_sheaf), __ATOMIC_RELEASE);
}

/* The holder may be what this thread's signal handler has interrupted: then its sheaves are left alone. */
static bool lock_area_patiently(unsigned cpu)
{
	for (int tries = 0; tries < DRAIN_TRIES; tries++) {
		if (mutex_trylock(percpu_lock(cpu), LOCK_percpu_area))
			return true;
		os_yield();
	}
	return false;
}

void drain_cpu(unsigned cpu)
{
	void **captured[NR_CAPTURED] = { NULL };
	bool lock_mode = percpu_mode != PERCPU_MODE_RSEQ, any;

	mutex_lock(&drain_lock, LOCK_drain);
	if (lock_mode && !lock_area_patiently(cpu)) {
		mutex_unlock(&drain_lock, LOCK_drain);
		return;
	}
	any = stop_slots(cpu, captured, true);
	while (any && !lock_mode) {
		if (membarrier_rseq() != 0) {
			restore_slots(cpu, captured);
			break;
		}
		count_vm_event(VM_membarrier);
		if (!stop_slots(cpu, captured, false))
			break;
		count_vm_event(VM_drain_repeat);
	}
	release_slots(cpu, captured);
	if (lock_mode)
		mutex_unlock(percpu_lock(cpu), LOCK_percpu_area);
	mutex_unlock(&drain_lock, LOCK_drain);

	for (unsigned i = 0; i < NR_CAPTURED; i++)
		if (captured[i])
			dispose_sheaf(cpu, captured_slot(i), captured[i]);
	count_vm_event(VM_cpu_drain);
}

void kmem_cache_shrink_all(void)
{
	unsigned home;

	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)
		drain_cpu(cpu);
	for (unsigned i = 0; home_by_index(i, &home); i++) {
		for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++) {
			if (!get_node(home, cls))
				break;
			barn_flush(home, cls);
			node_shrink(home, cls);
		}
	}
}

/* An area that comes online: every slot begins on the boot sheaf, those that no sheaf may take on the stop sheaf. */
void sheaves_prepare(unsigned cpu)
{
	for (unsigned slot = 0; slot < 2 * SLOT_REMOTE; slot++) {
		unsigned cls = slot & MAP_CLASS_MASK;
		bool takes = cls != 0 && cls < NR_KMALLOC_CLASSES;

		*percpu_slot(cpu, slot) = sheaf_full_top(takes ? &boot_sheaf : &stop_sheaf);
	}
}
