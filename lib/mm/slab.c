/* SPDX-License-Identifier: MIT */
/*
 * slab.c - slabs, and the nodes that own them.
 *
 * Purpose. Gives objects to sheaves and takes them back, by the batch. A slab is a run of pages whose struct page says
 * class, home, number of free objects; which ones are free stands in a bitmap outside the slab (in struct page for up to
 * 64 objects), so memory of free objects is never touched.
 *
 * Homes. A slab belongs to one CPU's node, and only that CPU hands out its objects, so that no two CPUs' lie in one cache
 * line. Slabs that are mostly free go to the cache domain's node, where others adopt them. Where objects are whole cache
 * lines, a CPU takes over another's partial slab before it makes one (slab_steal.c).
 *
 * A heap that shrinks. Sheaves hand out what was freed last, so all slabs would become sparse alike. But a node with more
 * free objects than FREE_SHARE gives up slabs emptier than its average, which then only lose objects; others stay dense.
 *
 * States of a slab                nr_free          bucket
 *   full                          0                SLAB_UNLISTED
 *   partial                       0 < n < all      0 (fullest) .. 3
 *   empty                         all              SLAB_EMPTY
 *   in limbo (between nodes)      any              SLAB_LIMBO: already under the new home's lock; its mover links it
 *
 * Empty slabs. To make a slab and to give it back costs 600 to 1,000 instructions, much for a slab of one object. So a node
 * keeps empty slabs in proportion to its slabs and against the number of their objects (EMPTY_SHARE), and of small ones
 * one in any case. They go as its slabs become fewer, and all before the heap grows (kmem_cache_reap).
 *
 * Invariants. Under the lock of node[slab->home][cls]: nr_free is the number of bits set; the slab is on the list that
 * its nr_free says; node->nr_free, nr_slabs, nr_partial, nr_empty are sums. The map entries where objects begin name
 * class and home; who sees an old home uses the wrong sheaf, from which slab_free_bulk() brings the object home.
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
#include "page/memcontrol.h"
#include "page/page_alloc.h"
#include "page/sparse.h"
#include <string.h>

#define NESTED_TRIES	100
#define PREFETCH_AHEAD	4	/* objects */
#define GROW_SHARE	16	/* a node grows by one slab at a time, and by this part of what it has */
#define EMPTY_SHARE	4	/* one slab of one object in so many may be empty, of two objects half of that, and so on */
#define EMPTY_PAGES	16	/* of slabs up to this size one may be empty in any case */
#define MOSTLY_FREE_KEPT 4	/* slabs at least 3/4 free that a CPU's node keeps for itself */
#define FREE_SHARE	16	/* one object in so many may be free in slabs of a CPU's node */
#define FREE_KEPT	KIB(64)	/* or so many bytes */
#define MANY_OBJECTS	16	/* of a slab: with fewer it empties by itself */

struct bitmap16 { u64 w[2]; };
struct bitmap32 { u64 w[4]; };
static struct metapool bitmap16_pool = METAPOOL_INIT(struct bitmap16);
static struct metapool bitmap32_pool = METAPOOL_INIT(struct bitmap32);

/* --- lists: node lock held ------------------------------------------------------------------------------- */

/* The list that a slab with so many free objects belongs on: by quarters, but for those that are full or empty. */
static u8 bucket_of(u32 nr_free, u32 nr_objects)
{
	if (!nr_free)
		return SLAB_UNLISTED;
	return (u8)((4 * nr_free >= nr_objects) + (4 * nr_free >= 2 * nr_objects) + (4 * nr_free >= 3 * nr_objects) +
		    (nr_free == nr_objects));
}

/* A meshed slab is on no list: what is taken from it would cost the page that meshing saved. */
static u8 slab_bucket(const struct page *slab, u32 nr_free)
{
	return unlikely(slab->flags & PG_meshed) ? SLAB_UNLISTED : bucket_of(nr_free, slab->nr_objects);
}

static void __link_slab(struct kmem_cache_node *n, struct page *slab, u8 bucket)
{
	slab->bucket = bucket;
	if (bucket == SLAB_UNLISTED)
		return;
	slab->prev = 0;
	slab->next = n->partial[bucket];
	if (slab->next)
		pfn_to_page(slab->next)->prev = page_to_pfn(slab);
	n->partial[bucket] = page_to_pfn(slab);
	n->nr_partial++;
	n->nr_empty += bucket == SLAB_EMPTY;
}

static void __unlink_slab(struct kmem_cache_node *n, struct page *slab)
{
	if (slab->bucket == SLAB_UNLISTED)
		return;
	*(slab->prev ? &pfn_to_page(slab->prev)->next : &n->partial[slab->bucket]) = slab->next;
	if (slab->next)
		pfn_to_page(slab->next)->prev = slab->prev;
	n->nr_partial--;
	n->nr_empty -= slab->bucket == SLAB_EMPTY;
}

/* Objects were taken or came back: the node's sums and lists follow. */
static void __set_nr_free(struct kmem_cache_node *n, struct page *slab, u32 nr_free)
{
	u8 bucket = slab_bucket(slab, nr_free);

	slab->flags &= (u16)~PG_quiet;
	n->nr_free += nr_free - (u64)slab->nr_free;
	slab->nr_free = (u16)nr_free;
	if (bucket != slab->bucket) {
		__unlink_slab(n, slab);
		__link_slab(n, slab, bucket);
	}
}

/* Takes a slab out of its node's books; afterwards it is in limbo. */
void __isolate_slab(struct kmem_cache_node *n, struct page *slab)
{
	__unlink_slab(n, slab);
	slab->bucket = SLAB_LIMBO;
	n->nr_slabs--;
	n->nr_free -= slab->nr_free;
}

static void __insert_slab(struct kmem_cache_node *n, struct page *slab)
{
	n->nr_slabs++;
	n->nr_free += slab->nr_free;
	__link_slab(n, slab, slab_bucket(slab, slab->nr_free));
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

static void mark_pages(struct page *slab, u16 tail_flags, map_entry_t e)
{
	pfn_t pfn = page_to_pfn(slab);
	map_entry_t *map = direct_map.map + pfn;

	WRITE_ONCE(map[0], e);
	for_each_tail_page(i, &kmalloc_caches[slab->cls]) {
		slab[i].flags = tail_flags;
		slab[i].head = pfn;
		WRITE_ONCE(map[i], e);
	}
}

void set_slab_home(struct page *slab, unsigned home)
{
	slab->home = (u16)home;
	mark_pages(slab, PG_tail, make_map_entry(slab->cls, slab->colour, home));
}

__rare void __exile_slab(struct kmem_cache_node *n, struct page *slab)
{
	unsigned domain = slab->home < HOME_DOMAIN ? domain_of_area(slab->home) : 0;

	__isolate_slab(n, slab);
	if (slab->home < HOME_DOMAIN && domain_node(domain, slab_cache(slab)))
		set_slab_home(slab, HOME_DOMAIN + domain);
}

static struct page *new_slab(unsigned home, unsigned cls)
{
	const struct kmem_cache *s = cache_of(cls);
	unsigned colour = cls >> MAP_COLOUR_SHIFT;
	struct page *slab;

	if (!memcg_charge(colour, MEMCG_SLAB, s->nr_pages))
		return NULL;
	slab = alloc_pages_exact(s->nr_pages, 0, MIGRATE_MOVABLE, NULL);
	if (!slab) {
		memcg_uncharge(colour, MEMCG_SLAB, s->nr_pages);
		return NULL;
	}
	slab->cls = cls & MAP_CLASS_MASK;
	slab->colour = (u8)colour;
	slab->nr_objects = s->nr_objects;
	slab->nr_free = s->nr_objects;
	slab->bucket = SLAB_LIMBO;
	if (!init_slab_bits(slab)) {
		free_pages_exact(slab, s->nr_pages);
		memcg_uncharge(colour, MEMCG_SLAB, s->nr_pages);
		return NULL;
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
	if (unlikely(slab->flags & PG_meshed) && !mesh_discard(slab))
		return;
	if (unlikely(slab->flags & PG_shrunk))
		__slab_unshrink(slab);
	if (slab->nr_objects > 64)
		metapool_free(bitmap_pool(slab->nr_objects), slab->bitmap);
	mark_pages(slab, 0, 0);
	slab->flags = 0;
	memcg_uncharge(slab->colour, MEMCG_SLAB, nr_pages);
	free_pages_exact(slab, nr_pages);
	count_vm_event(VM_slab_free);
}

/* --- allocation ------------------------------------------------------------------------------------------- */

/* Moves free objects of one slab to p, by descending address: the lowest is the last. Node lock held, or nobody knows it. */
static unsigned __take_objects(struct page *slab, void **p, unsigned want)
{
	unsigned got = min(want, (unsigned)slab->nr_free);
	size_t size = kmalloc_caches[slab->cls].size;
	char *base = page_address(slab);
	u64 *bits = slab_bits(slab);

	if (unlikely(slab->flags & PG_shrunk))
		__slab_unshrink(slab);
	for (void **last = p + got; last > p; bits++, base += 64 * size) {
		u64 w = *bits;

		for (; w && last > p; w &= w - 1)
			*--last = base + (unsigned)__builtin_ctzll(w) * size;
		*bits = w;
	}
	return got;
}

unsigned __take_from_slab(struct kmem_cache_node *n, struct page *slab, void **p, unsigned want)
{
	unsigned got = __take_objects(slab, p, want);

	__set_nr_free(n, slab, slab->nr_free - got);
	return got;
}

static unsigned __take_from_partial(struct kmem_cache_node *n, void **p, unsigned want)
{
	unsigned got = 0;

	for (int b = 0; b < NR_SLAB_BUCKETS && n->nr_partial; b++) {
		while (got < want && n->partial[b]) {
			struct page *slab = pfn_to_page(n->partial[b]);

			__builtin_prefetch(pfn_to_page(slab->next), 1);
			got += __take_from_slab(n, slab, p + got, want - got);
		}
	}
	return got;
}

/* A slab that another CPU of the cache domain gave up, now in limbo with this home. */
static struct page *adopt_slab(unsigned home, unsigned cls)
{
	struct kmem_cache_node *d = get_node(HOME_DOMAIN + domain_of_area(any_cpu()), cls);
	struct page *slab = NULL;

	if (!d || !READ_ONCE(d->nr_partial))
		return NULL;
	mutex_lock(&d->lock, LOCK_node);
	for (int b = 0; b < NR_SLAB_BUCKETS && !slab; b++)
		if (d->partial[b])
			slab = pfn_to_page(d->partial[b]);
	if (slab) {
		__isolate_slab(d, slab);
		set_slab_home(slab, home);
		count_vm_event(VM_slab_adopt);
	}
	mutex_unlock(&d->lock, LOCK_node);
	return slab;
}

unsigned slab_alloc_bulk(unsigned home, unsigned cls, void **p, unsigned want)
{
	struct kmem_cache_node *n = get_node(home, cls);
	unsigned got, nr_new;

	mutex_lock(&n->lock, LOCK_node);
	got = __take_from_partial(n, p, want);
	nr_new = got ? 0 : 1 + n->nr_slabs / GROW_SHARE;
	mutex_unlock(&n->lock, LOCK_node);
	for (; nr_new && got < want; nr_new--) {
		struct page *slab = adopt_slab(home, cls) ?: try_steal_slab(home, cls) ?: new_slab(home, cls);
		unsigned nr;

		if (!slab)
			break;
		mutex_lock(&n->lock, LOCK_node);
		nr = __take_objects(slab, p + got, want - got);
		slab->nr_free -= (u16)nr;
		__insert_slab(n, slab);
		mutex_unlock(&n->lock, LOCK_node);
		got += nr;
	}
	return likely(got) ? got : mesh_take(cls, p, want);
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
__rare void *slab_alloc_nested(unsigned cls)
{
	for (int tries = 0; tries < NESTED_TRIES; tries++) {
		for (unsigned c = cls; (c & MAP_CLASS_MASK) < NR_KMALLOC_CLASSES; c++) {
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
	unsigned domain = domain_of_area(any_cpu());

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

static bool __keeps_empty(const struct kmem_cache_node *n, unsigned home, unsigned cls, u64 nr_empty)
{
	const struct kmem_cache *s = cache_of(cls);

	if (home >= HOME_DOMAIN)
		return false;
	return nr_empty * s->nr_objects * EMPTY_SHARE <= n->nr_slabs || nr_empty <= (s->nr_pages <= EMPTY_PAGES);
}

/* Takes empty slabs out of the node down to so many as it keeps, or all. */
static void __remove_empty(struct kmem_cache_node *n, unsigned home, unsigned cls, bool all, pfn_t *discard)
{
	while (n->nr_empty && (all || !__keeps_empty(n, home, cls, n->nr_empty))) {
		struct page *slab = pfn_to_page(n->partial[SLAB_EMPTY]);

		__isolate_slab(n, slab);
		push_limbo(discard, slab);
	}
}

/* Should a slab that has just got objects back leave its node? */
static bool __is_surplus(const struct kmem_cache_node *n, const struct page *slab)
{
	if (nr_percpu_areas() < 2 || slab->bucket >= SLAB_MOSTLY_FREE)
		return slab->bucket == SLAB_MOSTLY_FREE && n->nr_partial > MOSTLY_FREE_KEPT && nr_percpu_areas() > 1;
	return slab->nr_objects >= MANY_OBJECTS && n->nr_free * kmalloc_caches[slab->cls].size > FREE_KEPT &&
	       (u64)slab->nr_free * n->nr_slabs >= n->nr_free && n->nr_free * FREE_SHARE > (u64)n->nr_slabs * slab->nr_objects;
}

/* nr objects came back: keeps the slab on the right list, or takes it out of the node. */
static void __slab_freed(struct free_context *fc, struct page *slab, unsigned nr)
{
	struct kmem_cache_node *n = fc->node;
	u32 nr_free = slab->nr_free + nr;

	if (slab->bucket == SLAB_LIMBO) {
		slab->nr_free = (u16)nr_free;
	} else if (nr_free == slab->nr_objects &&
		   (slab->flags & PG_meshed || !__keeps_empty(n, fc->home, slab->cls, n->nr_empty + 1ull))) {
		__isolate_slab(n, slab);
		slab->nr_free = (u16)nr_free;
		push_limbo(&fc->discard, slab);
		__remove_empty(n, fc->home, slab->cls, false, &fc->discard);
	} else {
		__set_nr_free(n, slab, nr_free);
		if (fc->home < HOME_DOMAIN && __is_surplus(n, slab) && find_heir(fc, slab_cache(slab))) {
			__isolate_slab(n, slab);
			set_slab_home(slab, fc->heir);	/* from here on the heir's lock guards it */
			push_limbo(&fc->give_up, slab);
		}
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
		count_vm_event(VM_slab_give_up);
	}
	__remove_empty(n, heir, cls, true, &discard);	/* the last objects came while they were in limbo */
	mutex_unlock(&n->lock, LOCK_node);
	discard_slabs(discard);
}

/*
 * Marks objects of a slab free, from p on, as many as follow one another in the same slab; stops at what is no live
 * object of it. One multiplication gives the index and, by what lies behind the point, whether an object begins there.
 */
static unsigned __mark_free(struct page *slab, void **p, unsigned nr)
{
	const struct kmem_cache *s = &kmalloc_caches[slab->cls];
	uintptr_t base = (uintptr_t)page_address(slab);
	size_t end = (size_t)s->size * s->nr_objects;
	u64 *bits = slab_bits(slab), inverse = s->inverse << 16;
	unsigned i;

	for (i = 0; i < nr; i++) {
		size_t off = (uintptr_t)p[i] - base;
		unsigned __int128 quotient = (unsigned __int128)off * inverse;
		u64 idx = (u64)(quotient >> 64), word;

		if (off >= end || (u64)quotient >= inverse)
			break;
		word = bits[idx >> 6];
		if (word >> (idx & 63) & 1)
			break;
		bits[idx >> 6] = word | 1ull << (idx & 63);
	}
	return i;
}

/* The struct pages that the next objects will need, in two steps: the object's page leads to the slab's first. */
static void prefetch_slabs(void **p, unsigned nr)
{
	if (nr > 2 * PREFETCH_AHEAD)
		__builtin_prefetch(virt_to_page(p[2 * PREFETCH_AHEAD]), 1);
	if (nr > PREFETCH_AHEAD)
		__builtin_prefetch(compound_head(virt_to_page(p[PREFETCH_AHEAD])), 1);
}

void slab_free_bulk(unsigned cls, void **p, unsigned nr)
{
	struct free_context fc = { 0 };
	unsigned run;

	for (; nr; p += run, nr -= run) {
		struct page *slab = compound_head(virt_to_page(*p));

		prefetch_slabs(p, nr);
		run = 0;
		if (likely(slab->flags & PG_slab && slab_cache(slab) == cls)) {
			lock_home(&fc, slab, cls);
			run = __mark_free(slab, p, nr);
		}
		if (unlikely(!run)) {
			if (fc.node)
				mutex_unlock(&fc.node->lock, LOCK_node);
			report_invalid_pointer(*p, "free");
		}
		__slab_freed(&fc, slab, run);
	}
	if (fc.node)
		mutex_unlock(&fc.node->lock, LOCK_node);
	discard_slabs(fc.discard);
	if (fc.give_up)
		give_up_slabs(fc.give_up, fc.heir, cls);
}

bool node_shrink(unsigned home, unsigned cls)
{
	struct kmem_cache_node *n = get_node(home, cls);
	pfn_t discard = 0;

	if (!n || !READ_ONCE(n->nr_empty))
		return false;
	mutex_lock(&n->lock, LOCK_node);
	__remove_empty(n, home, cls, true, &discard);
	mutex_unlock(&n->lock, LOCK_node);
	discard_slabs(discard);
	return discard != 0;
}

__rare unsigned node_give_up(unsigned cpu, unsigned cls, unsigned nr)
{
	struct kmem_cache_node *n = get_node(cpu, cls);
	unsigned domain = domain_of_area(cpu), given = 0;
	pfn_t list = 0;

	if (!READ_ONCE(n->nr_partial) || !domain_node(domain, cls))
		return 0;
	mutex_lock(&n->lock, LOCK_node);
	for (int b = 0; b < NR_SLAB_BUCKETS; b++) {
		for (; given < nr && n->partial[b]; given++) {
			struct page *slab = pfn_to_page(n->partial[b]);

			__isolate_slab(n, slab);
			set_slab_home(slab, HOME_DOMAIN + domain);
			push_limbo(&list, slab);
		}
	}
	mutex_unlock(&n->lock, LOCK_node);
	if (list)
		give_up_slabs(list, HOME_DOMAIN + domain, cls);
	return given;
}

__rare void putback_slab(struct page *slab)
{
	struct kmem_cache_node *n = get_node(slab->home, slab_cache(slab));
	bool empty;

	mutex_lock(&n->lock, LOCK_node);
	empty = slab->nr_free == slab->nr_objects;
	if (!empty)
		__insert_slab(n, slab);
	mutex_unlock(&n->lock, LOCK_node);
	if (empty)
		discard_slab(slab);
}
