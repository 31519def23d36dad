/* SPDX-License-Identifier: MIT */
/*
 * sheaf.c - sheaves and barns: what happens when a CPU's sheaf is empty or full.
 *
 * Purpose. malloc and free take from and put onto the CPU's sheaf (arch/percpu_ops.h); when that is empty or full, it
 * is changed for another. The nearest are those below it in the same slot, and the CPU's empty ones: an exchange with
 * them is again a restartable sequence, without a lock (arch/percpu_chain.h). malloc next looks, where a slab is not
 * worth it, into the sheaves of larger classes (slab_share.c). Only then does a slow path begin: a sheaf that another CPU
 * brought home, or one filled from slabs; into slabs what is too much. The remote sheaf, which collects objects whose home
 * is elsewhere, goes whole to the home's barn if all its objects come from there, else object by object.
 *
 * Objects.
 *   slot of CPU and class: top -> [ link | bottom | ... NULL | obj obj obj ... top ] -> full sheaf -> full sheaf
 *   SLOT_EMPTY of a CPU    -> empty sheaves; more than EMPTY_MAX go to the depot, which all share
 *   node->full             -> sheaf -> sheaf: the barn, what other CPUs brought home
 * All links are in slot[0], with a number in the low nine bits: room, count of the list, count of objects.
 *
 * Invariants. A sheaf is in exactly one place: a slot, a barn, the empty ones, or in the hands of a thread; one that
 * holds objects, only in the hands of a thread inside the gate. (An empty one may be lost to a child of fork, 512 bytes.)
 * Objects in a slot without SLOT_REMOTE have their home there (but for slabs that changed home since). Sheaf
 * memory is never used for anything else, so that an rseq section on a stale top reads harmless words.
 *
 * Signal handlers. A handler may interrupt a slow path of its own thread, which holds locks. It knows by gate_is_
 * inside(), and then only tries locks, takes a larger object if need be, and puts what it frees on a list (slub.c).
 *
 * Draining another CPU: drain.c. Locks. node, one at a time. Fork: everything happens inside the gate.
 *
 * Kernel counterpart. mm/slub.c: struct slub_percpu_sheaves, struct node_barn, barn_replace_empty_sheaf, __pcs_replace_
 * full_main. There a spare sheaf damps ping-pong; here the barn is as near.
 */
#include "internal.h"

#include "arch/percpu_chain.h"
#include "arch/runtime_const.h"
#include "arch/topology.h"
#include "base/bug.h"
#include "mm/gate.h"
#include "mm/memcg_reclaim.h"
#include "mm/memcg_rules.h"
#include "mm/mm_struct.h"
#include "os/os.h"
#include "page/memblock.h"
#include "page/page_alloc.h"
#include "page/reclaim.h"
#include "page/sparse.h"
#include <errno.h>
#include <string.h>

#define LOCK_TRIES	1000
#define FIXUP_REFILLS	64u		/* who refills so often is worth runtime_const_fixup() */
#define ROOM_FULL	1u		/* nothing more goes on top of this sheaf */
#define CHAIN_EXTRA_MAX	300u		/* sheaves; with chain_max below the 511 that fit into a link */
/* What all chains may hold beyond the least: so many bytes, and that share of the pages in use. */
#define CHAIN_EXTRA_BYTES MIB(1)
#define SHEAF_GROWN_BYTES MIB(1)	/* of a sheaf that has grown, at most; or what it was */
#define CHAIN_SHARE	32
/* From that size on a slab is an object or a few, made anew for each that the chain lacks: dear, where it happens all the time. */
#define CHAIN_DEAR	KIB(8)
#define CHAIN_DEAR_SHARE 2
#define SWING_DEAR_US	1000u
#define SWING_US	20000u		/* a class that goes up and down less often has no use for it */
#define COUNT_MASK	((uintptr_t)SHEAF_SIZE - 1)

struct sheaf stop_sheaf, boot_sheaf;
static struct kmem_cache_node depot;	/* empty sheaves of all CPUs */
static u64 chain_extra_bytes;		/* what all nodes' chain_extra may come to */

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

/* How many objects a CPU's new sheaves take. */
static unsigned node_capacity(const struct kmem_cache_node *n, unsigned cls)
{
	return cache_of(cls)->sheaf_capacity + READ_ONCE(n->capacity_extra);
}

/* How many full sheaves a CPU keeps below the one in use, and its barn takes. */
static unsigned chain_max(const struct kmem_cache_node *n, unsigned cls)
{
	return cache_of(cls)->chain_max + READ_ONCE(n->chain_extra);
}

/* Makes an empty sheaf one of that capacity. */
static void sheaf_shape(struct sheaf *sh, unsigned capacity)
{
	sh->slot[1] = (void *)(uintptr_t)(SHEAF_SLOTS - capacity);
	sheaf_bottom(sh)[-1] = NULL;
}

/* Sets the link, and returns the top of a sheaf that holds nr objects. */
static void **sheaf_arm(struct sheaf *sh, unsigned nr, unsigned room)
{
	sh->slot[0] = (void *)(uintptr_t)room;
	return sheaf_bottom(sh) + nr;
}

/* The room of a sheaf that becomes the lowest of a slot's chain. */
static unsigned chain_room(unsigned cpu, unsigned slot)
{
	unsigned cls = slot & ~SLOT_REMOTE;

	if (slot & SLOT_REMOTE)
		return ROOM_FULL;
	return min(ROOM_FULL + chain_max(get_node(cpu, cls), cls), SHEAF_SIZE - 1);	/* it must fit beside the link */
}

/* An empty sheaf for objects of a node. Inside the gate, as it may take a lock. */
static struct sheaf *get_empty_sheaf(const struct kmem_cache_node *node, unsigned cls)
{
	struct sheaf *sh = percpu_get_empty();
	unsigned nr;

	if (!sh && READ_ONCE(depot.full)) {
		mutex_lock(&depot.lock, LOCK_node);
		sh = __barn_pop(&depot, &nr);
		mutex_unlock(&depot.lock, LOCK_node);
	}
	if (!sh) {
		sh = memblock_alloc(sizeof(*sh), sizeof(*sh));
		if (sh)
			count_vm_event(VM_sheaf_alloc);
	}
	if (sh)
		sheaf_shape(sh, node_capacity(node, cls));
	return sh;
}

bool lock_patiently(struct mutex *m, enum lock_class c)
{
	for (int tries = 0; tries < LOCK_TRIES; tries++) {
		if (mutex_trylock(m, c))
			return true;
		os_yield();
	}
	return false;
}

/* Anywhere. A signal handler on top of the lock's holder rather loses the sheaf. */
static void put_empty_sheaf(struct sheaf *sh)
{
	if (likely(percpu_put_empty(sh)))
		return;
	gate_enter();
	if (lock_patiently(&depot.lock, LOCK_node)) {
		__barn_push(&depot, sh, 0);
		mutex_unlock(&depot.lock, LOCK_node);
	}
	gate_leave();
}

static bool barn_put(unsigned home, unsigned cls, struct sheaf *sh, unsigned nr)
{
	struct kmem_cache_node *n = get_node(home, cls);
	bool done;

	mutex_lock(&n->lock, LOCK_node);
	done = n->nr_full <= chain_max(n, cls);
	if (done)
		__barn_push(n, sh, nr);
	else
		n->overflowed = true;
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

static void flush_sheaf(unsigned cls, struct sheaf *sh, unsigned nr)
{
	slab_free_bulk(cls, sheaf_bottom(sh), nr);
	count_vm_event(VM_sheaf_flush);
	put_empty_sheaf(sh);
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

/* Whole into the barn of the home, if there is one home and room; else into slabs. */
static void send_home(unsigned cls, struct sheaf *sh, unsigned nr)
{
	int home = common_home(sheaf_bottom(sh), nr);

	if (home >= 0 && barn_put((unsigned)home, cls, sh, nr))
		count_vm_event((unsigned)home == any_cpu() ? VM_barn_put : VM_barn_put_remote);
	else
		flush_sheaf(cls, sh, nr);
}

void dispose_chain(unsigned slot, void **top)
{
	unsigned cls = slot & ~SLOT_REMOTE;

	while (!is_null_sheaf(top)) {
		struct sheaf *sh = sheaf_of_top(top), *below = sheaf_below(sh);
		unsigned nr = (unsigned)(top - sheaf_bottom(sh));

		VM_BUG_ON(nr > sheaf_capacity(sh));
		if (nr)
			send_home(cls, sh, nr);
		else
			put_empty_sheaf(sh);
		if (!below)
			break;
		top = sheaf_full_top(below);
	}
}

/* --- allocation ---------------------------------------------------------------------------------------------- */

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

/* What a chain of so many sheaves of such a capacity may hold beyond the least, in bytes. */
static u64 chain_bytes_beyond(const struct kmem_cache *s, unsigned chain_extra, unsigned capacity_extra)
{
	u64 least = (1u + s->chain_max) * s->sheaf_capacity;

	return ((u64)(1u + s->chain_max + chain_extra) * (s->sheaf_capacity + capacity_extra) - least) * s->size;
}

/*
 * The part of what is in use (one in so many) that chains may hold for a class that went up and down; 0: none, a swing now and
 * then is cheaper than what a longer chain would hold all the time.
 */
static unsigned chain_share(struct kmem_cache_node *n, u32 size)
{
	u32 now = (u32)(os_clock_ns() / 1000), since = now - READ_ONCE(n->swung_us);

	WRITE_ONCE(n->swung_us, now);
	if (since > SWING_US)
		return 0;
	return size >= CHAIN_DEAR && since <= SWING_DEAR_US ? CHAIN_DEAR_SHARE : CHAIN_SHARE;
}

/*
 * Overflow and underflow in turn: the chain is too short for how the program goes up and down. First its sheaves become
 * larger, then there are more of them. It may grow while all that CPUs hold beyond the least is a share of what is in use;
 * growth of the heap takes it back (vmscan.c).
 */
static void consider_longer_chain(struct kmem_cache_node *n, unsigned cls)
{
	const struct kmem_cache *s = cache_of(cls);
	unsigned chain, capacity, capacity_max, share;
	u64 bytes, managed, in_use;

	if (!READ_ONCE(n->overflowed))
		return;
	share = chain_share(n, s->size);
	if (!share) {
		WRITE_ONCE(n->overflowed, false);
		return;
	}
	managed = zones[ZONE_BRK].managed_pages + zones[ZONE_NORMAL].managed_pages;
	in_use = (managed - min(managed, nr_free_pages())) << PAGE_SHIFT;
	capacity_max = clamp(SHEAF_GROWN_BYTES / s->size, (u32)s->sheaf_capacity, SHEAF_MAX_CAPACITY);
	mutex_lock(&n->lock, LOCK_node);	/* what follows is read under the lock, or threads add up */
	n->overflowed = false;
	chain = n->chain_extra;
	capacity = n->capacity_extra;
	if (chain_max(n, cls) && node_capacity(n, cls) < capacity_max)
		capacity = min(2 * node_capacity(n, cls), capacity_max) - s->sheaf_capacity;
	else
		chain = min(2 * chain + 1, CHAIN_EXTRA_MAX);
	bytes = chain_bytes_beyond(s, chain, capacity) - chain_bytes_beyond(s, n->chain_extra, n->capacity_extra);
	if (__atomic_add_fetch(&chain_extra_bytes, bytes, __ATOMIC_RELAXED) <= CHAIN_EXTRA_BYTES + in_use / share) {
		n->chain_extra = (u16)chain;
		n->capacity_extra = (u8)capacity;
	} else {
		__atomic_sub_fetch(&chain_extra_bytes, bytes, __ATOMIC_RELAXED);
	}
	mutex_unlock(&n->lock, LOCK_node);
}

void forget_longer_chain(struct kmem_cache_node *n, unsigned cls)
{
	if (!READ_ONCE(n->chain_extra) && !READ_ONCE(n->capacity_extra))
		return;
	mutex_lock(&n->lock, LOCK_node);
	__atomic_sub_fetch(&chain_extra_bytes, chain_bytes_beyond(cache_of(cls), n->chain_extra, n->capacity_extra),
			   __ATOMIC_RELAXED);
	n->chain_extra = 0;
	n->capacity_extra = 0;
	mutex_unlock(&n->lock, LOCK_node);
}

static void count_refill(void)
{
	static u32 nr;

	count_vm_event(VM_sheaf_refill);
	if (unlikely(READ_ONCE(runtime_const_wanted)) && ++nr >= FIXUP_REFILLS)
		runtime_const_fixup();
}

/* A sheaf with objects: from the barn, from a sibling's, else filled from slabs. NULL when out of memory. */
static struct sheaf *get_full_sheaf(unsigned cpu, unsigned cls, unsigned *nr)
{
	struct kmem_cache_node *n = get_node(cpu, cls);
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
	consider_longer_chain(n, cls);
	sh = get_empty_sheaf(n, cls);
	if (!sh)
		return NULL;
	*nr = slab_alloc_bulk(cpu, cls, sheaf_bottom(sh), max((unsigned)cache_of(cls)->sheaf_capacity, sheaf_capacity(sh) / 2));
	if (!*nr) {
		put_empty_sheaf(sh);
		return NULL;
	}
	count_refill();
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
	top = sheaf_arm(sh, nr, chain_room((unsigned)cpu, cls));
	obj = *--top;
	old = percpu_exchange((unsigned)cpu, cls, top);
	if (!old)	/* moved to another CPU, being drained, or restarted: the rest stays here */
		count_vm_event(VM_alloc_direct);
	dispose_chain(cls, old ? old : top);
	return obj;
}

/* Where a group's max is in the way, memory of others is no help. */
static void *alloc_gated(unsigned cls, u32 asked)
{
	void *obj;

	gate_enter();
	current_task();
	free_deferred();
	cls = memcg_online_slot(cls);
	memcg_thread.failed = memcg_thread.reserved = 0;
	memcg_thread.asked = asked;
	obj = refill_and_alloc(cls);
	if (unlikely(!obj) && !memcg_thread.failed && try_to_free_pages(0))
		obj = refill_and_alloc(cls);
	gate_leave();
	return obj;
}

static void *alloc_from_chain(unsigned cls)
{
	struct chain_left left;
	void *obj = percpu_pop_chain(cls, &left);

	if (likely(obj) && left.sheaf)
		put_empty_sheaf(left.sheaf);
	return obj;
}

/* asked: the size of the class that was wanted, of which cls may be a larger one. */
static void *alloc_beneath(unsigned cls, u32 asked)
{
	unsigned tries = 0;
	void *obj;

	if (unlikely(gate_is_inside()))	/* a signal handler on top of a slow path */
		return slab_alloc_nested(memcg_online_slot(cls));
	if (unlikely(memcg_watched))
		memcg_recheck_thread();
	do
		obj = alloc_gated(cls, asked);
	while (unlikely(!obj) && memcg_make_room(asked, &tries));
	if (unlikely(!obj))
		count_vm_event(VM_alloc_fail);
	memcg_handle_over_high();
	return obj;
}

void *kmem_cache_alloc_slowpath(unsigned cls)
{
	void *obj = alloc_from_chain(cls);

	return likely(obj) ? obj : alloc_beneath(cls, cache_of(cls)->size);
}

void *kmalloc_slowpath(unsigned cls)
{
	void *obj = alloc_from_chain(cls);
	unsigned from = cls;

	if (likely(obj))
		return obj;
	obj = borrow_object(&from);
	return obj ? obj : alloc_beneath(from, cache_of(cls)->size);
}

/* --- freeing --------------------------------------------------------------------------------------------------- */

/* The slot took sh in exchange for a full sheaf, which is the caller's; inside the gate. */
static void dispose_overflow(unsigned cls, const struct chain_left *left)
{
	if (left->slot & SLOT_REMOTE) {
		send_home(cls, left->sheaf, sheaf_capacity(left->sheaf));
		return;
	}
	WRITE_ONCE(get_node(any_cpu(), cls)->overflowed, true);
	flush_sheaf(cls, left->sheaf, sheaf_capacity(left->sheaf));
}

/*
 * Puts obj onto the CPU's sheaf, or if that is full onto sh, and sh on top of it. least: ROOM_FULL allows what sits
 * in the last place to be displaced; then the caller is inside the gate. Takes sh either way. False: not done.
 */
static bool push_chain(map_entry_t e, void *obj, struct sheaf *sh, unsigned least)
{
	unsigned cls = e & MAP_SLOT_MASK;
	void **top = sheaf_arm(sh, 1, 0);
	struct chain_left left;

	top[-1] = obj;
	if (!percpu_push_chain(e, obj, top, least, &left)) {
		put_empty_sheaf(sh);
		return false;
	}
	if (left.sheaf == sh)
		put_empty_sheaf(sh);
	else if (left.sheaf)
		dispose_overflow(cls, &left);
	return true;
}

/* The slot is still on the boot sheaf, or on the stop sheaf, or obj is on it already. */
static void free_into_first_sheaf(map_entry_t e, void *obj)
{
	unsigned cls = e & MAP_SLOT_MASK, slot = cls;
	int cpu = cpu_area();
	struct sheaf *sh = cpu < 0 ? NULL : get_empty_sheaf(get_node((unsigned)cpu, cls), cls);
	void **top, **old;

	if (!sh) {
		slab_free_bulk(cls, &obj, 1);
		return;
	}
	if (e >> MAP_HOME_SHIFT != (u32)cpu)
		slot |= SLOT_REMOTE;
	top = sheaf_arm(sh, 1, chain_room((unsigned)cpu, slot));
	top[-1] = obj;
	old = percpu_exchange((unsigned)cpu, slot, top);
	if (!old) {
		put_empty_sheaf(sh);
		slab_free_bulk(cls, &obj, 1);
		count_vm_event(VM_free_direct);
		return;
	}
	if (unlikely(old[-1] == obj))
		report_double_free(obj);
	dispose_chain(slot, old);
}

void free_object_slowpath(map_entry_t e, void *obj)
{
	unsigned cls = e & MAP_SLOT_MASK;
	const struct kmem_cache_node *node;
	struct sheaf *sh;

	if (percpu_mode == PERCPU_MODE_LOCK && lock_push(e, obj))
		return;
	node = get_node(any_cpu(), cls);
	sh = percpu_get_empty();
	if (likely(sh)) {
		sheaf_shape(sh, node_capacity(node, cls));
		if (likely(push_chain(e, obj, sh, ROOM_FULL + 1)))
			return;
	}
	if (unlikely(gate_is_inside())) {
		defer_free(obj);
		return;
	}
	gate_enter();
	free_deferred();
	sh = get_empty_sheaf(node, cls);
	if (!sh || !push_chain(e, obj, sh, ROOM_FULL))
		free_into_first_sheaf(e, obj);
	gate_leave();
}

/* --- taking back --------------------------------------------------------------------------------------------- */

void barn_flush(unsigned home, unsigned cls)
{
	struct sheaf *sh;
	unsigned nr;

	if (home >= HOME_DOMAIN)
		return;
	while ((sh = barn_get(home, cls, &nr)) != NULL)
		flush_sheaf(cls, sh, nr);
}

/* A group on an area that comes online: every slot begins on the boot sheaf, those that no sheaf may take on the stop sheaf. */
__init void sheaves_prepare(unsigned cpu, unsigned colour)
{
	for (unsigned slot = 0; slot < 2 * SLOT_REMOTE; slot++) {
		unsigned cls = slot & MAP_CLASS_MASK;
		bool takes = cls != 0 && cls < NR_KMALLOC_CLASSES;

		percpu_set_top(cpu, slot | colour << MAP_COLOUR_SHIFT, sheaf_full_top(takes ? &boot_sheaf : &stop_sheaf));
	}
	if (colour == 0)
		WRITE_ONCE(*percpu_slot(cpu, SLOT_EMPTY), EMPTY_MAX);
}
