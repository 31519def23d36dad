/* SPDX-License-Identifier: MIT */
/*
 * slab.c - slabs, and the nodes that own them.
 *
 * Purpose. Gives objects to sheaves by the batch and takes them back by the batch. A slab is a run of pages whose
 * struct page says class, home, number of free objects; which ones are free stands in a bitmap outside the slab
 * (in struct page for up to 64 objects), so memory of free objects is never touched.
 *
 * Homes. A slab belongs to the node of one CPU: only that CPU hands out its objects, so that objects of two CPUs do
 * not come to lie in one cache line. A slab that is mostly free while its node has several such is given up to
 * the cache domain's node, from where any CPU of the domain adopts it. So memory is bounded by what CPUs use.
 *
 * States of a slab                nr_free          bucket
 *   full                          0                SLAB_UNLISTED
 *   partial                       0 < n < all      0 (fullest) .. 3
 *   empty (kept: one a node)      all              3
 *   in limbo (between nodes)      any              SLAB_LIMBO: already under the new home's lock; its mover links it
 *
 * Invariants. Under the lock of node[slab->home][cls]: nr_free is the number of bits set; the slab is on the list that
 * its nr_free says; node->nr_free, nr_slabs, nr_partial, nr_empty are sums. The map entries of a slab's pages name
 * its class and home; a reader may see an old home for a moment and then puts the object on the wrong sheaf,
 * from which slab_free_bulk() brings it home all the same.
 *
 * Locks. node; two nodes are never locked at once. Pages are taken and given back without it.
 *
 * Kernel counterpart. mm/slub.c: get_partial_node, __slab_free, discard_slab. Lists by fullness are Mesh's and
 * mimalloc's idea; out-of-band bitmaps are the old SLAB's and hardened_malloc's.
 */
#include "internal.h"

#include "arch/topology.h"
#include "os/os.h"
#include "mm/kmmd.h"
#include "page/memblock.h"
#include "page/page_alloc.h"
#include "page/sparse.h"
#include <string.h>

#define SLAB_LIMBO	0xfe
#define NESTED_TRIES	100
#define MOSTLY_FREE_KEPT 4	/* slabs at least 3/4 free that a CPU's node keeps for itself */

struct bitmap16 { u64 w[2]; };
struct bitmap32 { u64 w[4]; };
static struct metapool bitmap16_pool = METAPOOL_INIT(struct bitmap16);
static struct metapool bitmap32_pool = METAPOOL_INIT(struct bitmap32);

static struct kmem_cache_node *domain_nodes[NR_DOMAINS];	/* one array of classes a domain, made on demand */

struct kmem_cache_node *get_node(unsigned home, unsigned cls)
{
	struct kmem_cache_node *nodes;

	if (likely(home < HOME_DOMAIN))
		return (struct kmem_cache_node *)percpu_at(home, PERCPU_NODES) + cls;
	nodes = smp_load_acquire(&domain_nodes[home - HOME_DOMAIN]);
	return nodes ? nodes + cls : NULL;
}

_Static_assert(NR_KMALLOC_CLASSES * sizeof(struct kmem_cache_node) <= PERCPU_DYNAMIC - PERCPU_NODES,
	       "the nodes of a CPU fit into its area");

static struct kmem_cache_node *domain_node(unsigned domain, unsigned cls)
{
	struct kmem_cache_node *nodes = get_node(HOME_DOMAIN + domain, cls), *none = NULL;

	if (nodes)
		return nodes;
	nodes = memblock_alloc(NR_KMALLOC_CLASSES * sizeof(*nodes), 64);
	if (!nodes)
		return NULL;
	if (!__atomic_compare_exchange_n(&domain_nodes[domain], &none, nodes, false, __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE))
		nodes = none;	/* somebody was faster; a few KiB of metadata are lost, once a domain at most */
	return nodes + cls;
}

/* An area's index (mm_cid) says nothing about the CPU behind it; what counts is where the thread runs now. */
static unsigned this_domain(void)
{
	return min(topology_llc((u32)os_getcpu()), NR_DOMAINS - 1);
}

bool home_by_index(unsigned i, unsigned *home)
{
	u32 nr = nr_percpu_areas();

	*home = i < nr ? i : HOME_DOMAIN + (i - nr);
	return i < nr + NR_DOMAINS;
}

/* --- lists: node lock held ------------------------------------------------------------------------------- */

static u8 bucket_of(const struct page *slab)
{
	return (u8)min(slab->nr_free * NR_SLAB_BUCKETS / slab->nr_objects, NR_SLAB_BUCKETS - 1);
}

static void __link_slab(struct kmem_cache_node *n, struct page *slab)
{
	u8 b = bucket_of(slab);

	slab->bucket = b;
	slab->prev = 0;
	slab->next = n->partial[b];
	if (slab->next)
		pfn_to_page(slab->next)->prev = page_to_pfn(slab);
	n->partial[b] = page_to_pfn(slab);
	n->nr_partial++;
	n->nr_empty += slab->nr_free == slab->nr_objects;
}

static void __unlink_slab(struct kmem_cache_node *n, struct page *slab, bool was_empty)
{
	*(slab->prev ? &pfn_to_page(slab->prev)->next : &n->partial[slab->bucket]) = slab->next;
	if (slab->next)
		pfn_to_page(slab->next)->prev = slab->prev;
	slab->bucket = SLAB_UNLISTED;
	n->nr_partial--;
	n->nr_empty -= was_empty;
}

/* Takes a slab out of its node's books; afterwards it is in limbo. */
static void __remove_slab(struct kmem_cache_node *n, struct page *slab, bool was_empty)
{
	__unlink_slab(n, slab, was_empty);
	slab->bucket = SLAB_LIMBO;
	n->nr_slabs--;
	n->nr_free -= slab->nr_free;
}

static void __insert_slab(struct kmem_cache_node *n, struct page *slab)
{
	n->nr_slabs++;
	n->nr_free += slab->nr_free;
	slab->bucket = SLAB_UNLISTED;
	if (slab->nr_free)
		__link_slab(n, slab);
}

/* --- making and giving back: no lock held ----------------------------------------------------------------- */

static struct metapool *bitmap_pool(unsigned nr_objects)
{
	return nr_objects <= 128 ? &bitmap16_pool : &bitmap32_pool;
}

static bool init_slab_bits(struct page *slab)
{
	unsigned nr = slab->nr_objects;
	u64 *bits;

	if (nr > 64) {
		slab->bitmap = metapool_alloc(bitmap_pool(nr));
		if (!slab->bitmap)
			return false;
	}
	bits = slab_bits(slab);
	for (unsigned i = 0; i < DIV_ROUND_UP(nr, 64); i++)
		bits[i] = nr - i * 64 >= 64 ? ~0ull : (1ull << (nr - i * 64)) - 1;
	return true;
}

static void set_slab_home(struct page *slab, unsigned home)
{
	slab->home = (u16)home;
	map_set_range(page_to_pfn(slab), kmalloc_caches[slab->cls].nr_pages,
		      make_map_entry(slab->cls, slab->colour, home));
}

static struct page *new_slab(unsigned home, unsigned cls)
{
	const struct kmem_cache *s = &kmalloc_caches[cls];
	struct page *slab = alloc_pages_exact(s->nr_pages, 0, MIGRATE_MOVABLE, NULL);

	if (!slab)
		return NULL;
	slab->cls = (u8)cls;
	slab->colour = 0;
	slab->nr_objects = s->nr_objects;
	slab->nr_free = s->nr_objects;
	slab->bucket = SLAB_LIMBO;
	if (!init_slab_bits(slab)) {
		free_pages_exact(slab, s->nr_pages);
		return NULL;
	}
	for (u32 i = 1; i < s->nr_pages; i++) {
		slab[i].flags = PG_tail;
		slab[i].head = page_to_pfn(slab);
	}
	slab->flags = PG_slab;
	set_slab_home(slab, home);
	count_vm_event(VM_slab_alloc);
	/* A process with threads and some memory has earned hwloc and liburcu. */
	if (unlikely(home != 0 && zones[ZONE_NORMAL].present_pages) && !kmmd_wanted && !topology_loaded())
		WRITE_ONCE(kmmd_wanted, true);
	return slab;
}

static void discard_slab(struct page *slab)
{
	u32 nr_pages = kmalloc_caches[slab->cls].nr_pages;

	VM_BUG_ON(slab->nr_free != slab->nr_objects || slab->bucket != SLAB_LIMBO);
	if (slab->nr_objects > 64)
		metapool_free(bitmap_pool(slab->nr_objects), slab->bitmap);
	map_set_range(page_to_pfn(slab), nr_pages, 0);
	for (u32 i = 0; i < nr_pages; i++)
		slab[i].flags = 0;
	free_pages_exact(slab, nr_pages);
	count_vm_event(VM_slab_free);
}

/* --- allocation ------------------------------------------------------------------------------------------- */

/* Moves free objects of one slab to p by ascending address. */
static unsigned __take_objects(struct kmem_cache_node *n, struct page *slab, void **p, unsigned want)
{
	u32 size = kmalloc_caches[slab->cls].size;
	char *base = page_address(slab);
	u64 *bits = slab_bits(slab);
	bool was_empty = slab->nr_free == slab->nr_objects;
	unsigned got = 0;

	for (unsigned i = 0; got < want && i < DIV_ROUND_UP(slab->nr_objects, 64u); i++) {
		u64 w = bits[i];

		while (w && got < want) {
			p[got++] = base + (size_t)(i * 64 + (unsigned)__builtin_ctzll(w)) * size;
			w &= w - 1;
		}
		bits[i] = w;
	}
	slab->nr_free -= (u16)got;
	n->nr_free -= got;
	if (slab->nr_free == 0)
		__unlink_slab(n, slab, was_empty);
	else if (bucket_of(slab) != slab->bucket) {
		__unlink_slab(n, slab, was_empty);
		__link_slab(n, slab);
	} else
		n->nr_empty -= was_empty;
	return got;
}

static unsigned __take_from_partial(struct kmem_cache_node *n, void **p, unsigned want)
{
	unsigned got = 0;

	for (int b = 0; b < NR_SLAB_BUCKETS; b++)
		while (got < want && n->partial[b])
			got += __take_objects(n, pfn_to_page(n->partial[b]), p + got, want - got);
	return got;
}

/* A slab that another CPU of the cache domain gave up, now in limbo with this home. */
static struct page *adopt_slab(unsigned home, unsigned cls)
{
	struct kmem_cache_node *d = get_node(HOME_DOMAIN + this_domain(), cls);
	struct page *slab = NULL;

	if (!d || !READ_ONCE(d->nr_partial))
		return NULL;
	mutex_lock(&d->lock, LOCK_node);
	for (int b = 0; b < NR_SLAB_BUCKETS && !slab; b++)
		if (d->partial[b])
			slab = pfn_to_page(d->partial[b]);
	if (slab) {
		__remove_slab(d, slab, slab->nr_free == slab->nr_objects);
		set_slab_home(slab, home);
		count_vm_event(VM_slab_adopt);
	}
	mutex_unlock(&d->lock, LOCK_node);
	return slab;
}

unsigned slab_alloc_bulk(unsigned home, unsigned cls, void **p, unsigned want)
{
	struct kmem_cache_node *n = get_node(home, cls);
	struct page *slab = NULL;
	unsigned got;

	mutex_lock(&n->lock, LOCK_node);
	got = __take_from_partial(n, p, want);
	mutex_unlock(&n->lock, LOCK_node);
	if (got)
		return got;
	slab = adopt_slab(home, cls);
	if (!slab)
		slab = new_slab(home, cls);
	if (!slab)
		return 0;
	mutex_lock(&n->lock, LOCK_node);
	__insert_slab(n, slab);
	got = __take_from_partial(n, p, want);
	mutex_unlock(&n->lock, LOCK_node);
	return got;
}

static void *try_take_object(unsigned cls)
{
	void *obj = NULL;
	unsigned home;

	for (unsigned i = 0; !obj && home_by_index(i, &home); i++) {
		struct kmem_cache_node *n = get_node(home, cls);

		if (!n || !READ_ONCE(n->nr_partial) || !mutex_trylock(&n->lock, LOCK_node))
			continue;
		__take_from_partial(n, &obj, 1);
		mutex_unlock(&n->lock, LOCK_node);
	}
	return obj;
}

/* Locks of other threads become free some time; only the interrupted thread's own ones do not. */
void *slab_alloc_nested(unsigned cls)
{
	for (int tries = 0; tries < NESTED_TRIES; tries++) {
		for (unsigned c = cls; c < NR_KMALLOC_CLASSES; c++) {
			void *obj = percpu_pop(c);

			if (!obj)
				obj = try_take_object(c);
			if (obj)
				return obj;
		}
		os_yield();
	}
	return NULL;
}

/* --- freeing ---------------------------------------------------------------------------------------------- */

/* What slab_free_bulk() carries along: the node it holds, and slabs that leave it. */
struct free_context {
	struct kmem_cache_node *node;
	unsigned home;
	unsigned heir;			/* cache domain that mostly free slabs go to; 0: not looked up yet */
	pfn_t discard, give_up;		/* lists through ->next, in limbo */
};

/* The home for slabs that are given up, or 0 where there is none. */
static unsigned find_heir(struct free_context *fc, unsigned cls)
{
	unsigned domain = this_domain();

	if (!fc->heir && nr_percpu_areas() > 1 && domain_node(domain, cls))
		fc->heir = HOME_DOMAIN + domain;
	return fc->heir;
}

static void lock_home(struct free_context *fc, struct page *slab, unsigned cls)
{
	for (;;) {
		unsigned home = READ_ONCE(slab->home);

		if (!fc->node || fc->home != home) {
			if (fc->node)
				mutex_unlock(&fc->node->lock, LOCK_node);
			fc->home = home;
			fc->node = get_node(home, cls);
			mutex_lock(&fc->node->lock, LOCK_node);
		}
		if (likely(slab->home == home))
			return;
	}
}

static void push_limbo(pfn_t *list, struct page *slab)
{
	slab->next = *list;
	*list = page_to_pfn(slab);
}

/* After objects came back: keeps the slab on the right list, or takes it out of the node. */
static void __slab_freed(struct free_context *fc, struct page *slab)
{
	struct kmem_cache_node *n = fc->node;
	u8 bucket;

	if (slab->bucket == SLAB_LIMBO)
		return;
	if (slab->bucket == SLAB_UNLISTED) {
		__link_slab(n, slab);
	} else {
		bucket = bucket_of(slab);
		if (bucket != slab->bucket || slab->nr_free == slab->nr_objects) {
			__unlink_slab(n, slab, false);
			__link_slab(n, slab);
		}
	}
	if (slab->nr_free == slab->nr_objects && (n->nr_empty > 1 || fc->home >= HOME_DOMAIN)) {
		__remove_slab(n, slab, true);
		push_limbo(&fc->discard, slab);
	} else if (slab->bucket == NR_SLAB_BUCKETS - 1 && n->nr_partial > MOSTLY_FREE_KEPT && fc->home < HOME_DOMAIN &&
		   slab->nr_free != slab->nr_objects && find_heir(fc, slab->cls)) {
		__remove_slab(n, slab, false);
		set_slab_home(slab, fc->heir);	/* from here on the heir's lock guards it */
		push_limbo(&fc->give_up, slab);
	}
}

static void discard_slabs(pfn_t list)
{
	while (list) {
		struct page *slab = pfn_to_page(list);

		list = slab->next;
		discard_slab(slab);
	}
}

static void give_up_slabs(pfn_t list, unsigned heir, unsigned cls)
{
	struct kmem_cache_node *n = get_node(heir, cls);
	pfn_t discard = 0;

	mutex_lock(&n->lock, LOCK_node);
	while (list) {
		struct page *slab = pfn_to_page(list);

		list = slab->next;
		__insert_slab(n, slab);
		if (slab->nr_free == slab->nr_objects) {	/* the last objects came while it was in limbo */
			__remove_slab(n, slab, true);
			push_limbo(&discard, slab);
		}
		count_vm_event(VM_slab_give_up);
	}
	mutex_unlock(&n->lock, LOCK_node);
	discard_slabs(discard);
}

/* Marks one object free; false when it was no live object of that slab. */
static bool __mark_free(struct kmem_cache_node *n, struct page *slab, const void *obj)
{
	const struct kmem_cache *s = &kmalloc_caches[slab->cls];
	size_t off = (size_t)((const char *)obj - (const char *)page_address(slab));
	unsigned idx = obj_to_index(s, off);
	u64 *bits = slab_bits(slab);
	u64 bit = 1ull << (idx & 63);

	if (unlikely((size_t)idx * s->size != off || idx >= slab->nr_objects || bits[idx >> 6] & bit))
		return false;
	bits[idx >> 6] |= bit;
	slab->nr_free++;
	if (slab->bucket != SLAB_LIMBO)
		n->nr_free++;
	return true;
}

void slab_free_bulk(unsigned cls, void **p, unsigned nr)
{
	struct free_context fc = { 0 };

	for (unsigned i = 0; i < nr; i++) {
		struct page *slab = compound_head(virt_to_page(p[i]));

		if (unlikely(!(slab->flags & PG_slab) || slab->cls != cls)) {
			if (fc.node)
				mutex_unlock(&fc.node->lock, LOCK_node);
			report_invalid_pointer(p[i], "free");
		}
		lock_home(&fc, slab, cls);
		if (unlikely(!__mark_free(fc.node, slab, p[i]))) {
			mutex_unlock(&fc.node->lock, LOCK_node);
			report_invalid_pointer(p[i], "free");
		}
		__slab_freed(&fc, slab);
	}
	if (fc.node)
		mutex_unlock(&fc.node->lock, LOCK_node);
	discard_slabs(fc.discard);
	if (fc.give_up)
		give_up_slabs(fc.give_up, fc.heir, cls);
}

void node_shrink(unsigned home, unsigned cls)
{
	struct kmem_cache_node *n = get_node(home, cls);
	pfn_t discard = 0, next;

	if (!n || !READ_ONCE(n->nr_empty))
		return;
	mutex_lock(&n->lock, LOCK_node);
	for (pfn_t pfn = n->partial[NR_SLAB_BUCKETS - 1]; pfn; pfn = next) {
		struct page *slab = pfn_to_page(pfn);

		next = slab->next;
		if (slab->nr_free == slab->nr_objects) {
			__remove_slab(n, slab, true);
			push_limbo(&discard, slab);
		}
	}
	mutex_unlock(&n->lock, LOCK_node);
	discard_slabs(discard);
}

void for_each_slab(void (*fn)(struct page *slab, void *arg), void *arg)
{
	for (int z = 0; z < MAX_NR_ZONES; z++)
		for (pfn_t pfn = zones[z].start_pfn; pfn < zones[z].end_pfn; pfn++)
			if (pfn_to_page(pfn)->flags == PG_slab)
				fn(pfn_to_page(pfn), arg);
}
