/* SPDX-License-Identifier: MIT */
/*
 * node.c - where the node of a home, a size class and a memory group is.
 *
 * Purpose. A node owns the slabs of one home (a CPU, or a cache domain) and class; each memory group has slabs of its
 * own, so it has nodes of its own, and slots of its own on every CPU (arch/percpu_ops.h). Those of the root group
 * (colour 0) lie in the CPU's area, where the fast half of get_node() finds them. Those of other groups are made when
 * the group is, or when a CPU comes online after it.
 *
 * Objects.
 *   colour 0     CPU: percpu area at PERCPU_NODES      domain: root_domains[]
 *   colour c     homes[c] -> | cpu 0 | cpu 1 | ... | domain 0 | ... |  each an array of nodes, one a class
 *
 * Invariants. A colour is online when all areas are prepared for it. It has slots and nodes on every CPU that is online,
 * and stays online for ever: its number may serve another group later, its memory stays of its type. The slots of a
 * colour that is not online are zero and never reached, since no map entry carries that colour.
 *
 * Locks. hotplug (page/percpu.c) while CPUs and colours come online; readers need none. lock_suspected_slab() takes a node's for its
 * caller.
 *
 * Kernel counterpart. mm/slab.h: get_node(), kmem_cache_node; memory groups had caches of their own until Linux 5.9
 * (memcg_create_kmem_cache).
 */
#include "internal.h"

#include "arch/topology.h"
#include "page/memblock.h"
#include <errno.h>

#define NODES_SIZE (NR_KMALLOC_CLASSES * sizeof(struct kmem_cache_node))

static struct kmem_cache_node *root_domains[NR_DOMAINS];
static __rare_data struct kmem_cache_node **homes[NR_COLOURS];	/* but of the root group */
static bool colour_ready[NR_COLOURS];	/* on every area */
static u32 nr_domains;			/* those from there on have never had a node */
u32 nr_colours = 1;

_Static_assert(NODES_SIZE <= PERCPU_MEMCG - PERCPU_NODES, "the nodes of a CPU fit into its area");

/* Where the nodes of a home are entered that do not lie in its area; NULL: the colour has never been online. */
static struct kmem_cache_node **nodes_entry(unsigned home, unsigned colour)
{
	struct kmem_cache_node **table;

	if (colour == 0)
		return &root_domains[home - HOME_DOMAIN];
	table = smp_load_acquire(&homes[colour]);
	return table ? table + (home < HOME_DOMAIN ? home : max_percpu_areas + home - HOME_DOMAIN) : NULL;
}

__resident struct kmem_cache_node *__get_node(unsigned home, unsigned cls)
{
	struct kmem_cache_node **entry = nodes_entry(home, cls >> MAP_COLOUR_SHIFT), *nodes;

	nodes = entry ? smp_load_acquire(entry) : NULL;
	return nodes ? nodes + (cls & MAP_CLASS_MASK) : NULL;
}

struct kmem_cache_node *suspected_node(unsigned home, unsigned cls)
{
	unsigned in_group = cls & ((1u << MAP_COLOUR_SHIFT) - 1);	/* with the bit that is clear in a class */
	bool is_home = home < HOME_DOMAIN ? home < nr_percpu_areas() : home < HOME_DOMAIN + NR_DOMAINS;

	return is_home && in_group && in_group < NR_KMALLOC_CLASSES ? get_node(home, cls) : NULL;
}

struct kmem_cache_node *lock_suspected_slab(struct page *slab, bool (*worth)(const struct page *slab, unsigned cls))
{
	unsigned cls = slab_cache(slab), home = READ_ONCE(slab->home);
	struct kmem_cache_node *n = suspected_node(home, cls);

	if (!n || !worth(slab, cls))
		return NULL;
	mutex_lock(&n->lock, LOCK_node);
	if (slab->flags & PG_slab && slab_cache(slab) == cls && slab->home == home)
		return n;
	mutex_unlock(&n->lock, LOCK_node);
	return NULL;
}

static struct kmem_cache_node *make_nodes(struct kmem_cache_node **entry)
{
	struct kmem_cache_node *nodes = smp_load_acquire(entry), *none = NULL;

	if (nodes)
		return nodes;
	nodes = memblock_alloc(NODES_SIZE, 64);
	if (!nodes)
		return NULL;
	if (!__atomic_compare_exchange_n(entry, &none, nodes, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		nodes = none;	/* somebody was faster; a few KiB of metadata are lost, once at most */
	return nodes;
}

__resident struct kmem_cache_node *domain_node(unsigned domain, unsigned cls)
{
	struct kmem_cache_node **entry = nodes_entry(HOME_DOMAIN + domain, cls >> MAP_COLOUR_SHIFT), *nodes;
	u32 nr = smp_load_acquire(&nr_domains);

	nodes = entry ? make_nodes(entry) : NULL;
	while (nodes && unlikely(nr <= domain) &&
	       !__atomic_compare_exchange_n(&nr_domains, &nr, domain + 1, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		;
	return nodes ? nodes + (cls & MAP_CLASS_MASK) : NULL;
}

/* An area's index (mm_cid) says nothing about the CPU behind it; what counts is where the area was last used. */
__resident unsigned domain_of_area(unsigned cpu)
{
	return min(topology_llc(READ_ONCE(pcpu_of(cpu)->last_cpu)), NR_DOMAINS - 1);
}

__resident bool home_by_index(unsigned i, unsigned *home)
{
	u32 nr = nr_percpu_areas();

	*home = i < nr ? i : HOME_DOMAIN + (i - nr);
	return i < nr + smp_load_acquire(&nr_domains);
}

/* --- coming online: hotplug lock held --------------------------------------------------------------------- */

static int prepare_colour(unsigned cpu, unsigned colour)
{
	struct kmem_cache_node **entry = nodes_entry(cpu, colour);

	if (*entry)
		return 0;
	sheaves_prepare(cpu, colour);
	return make_nodes(entry) ? 0 : -ENOMEM;
}

__init int nodes_prepare(unsigned cpu)
{
	int ret = 0;

	sheaves_prepare(cpu, 0);
	for (unsigned colour = 1; !ret && colour < NR_COLOURS; colour++)
		if (homes[colour])
			ret = prepare_colour(cpu, colour);
	return ret;
}

static int prepare_colour_on(unsigned cpu, void *colour)
{
	return prepare_colour(cpu, *(unsigned *)colour);
}

__resident bool colour_is_online(unsigned colour)
{
	return colour == 0 || smp_load_acquire(&colour_ready[colour]);
}

int colour_online(unsigned colour)
{
	if (colour_is_online(colour))
		return 0;
	if (!homes[colour]) {
		void *table = memblock_alloc((max_percpu_areas + NR_DOMAINS) * sizeof(**homes), 64);

		if (!table)
			return -ENOMEM;
		smp_store_release(&homes[colour], table);	/* from now on CPUs that come online prepare it */
	}
	if (for_each_online_area(prepare_colour_on, &colour) != 0)
		return -ENOMEM;
	smp_store_release(&colour_ready[colour], true);
	if (colour >= nr_colours)
		smp_store_release(&nr_colours, colour + 1);
	return 0;
}
