/* SPDX-License-Identifier: MIT */
/* internal.h - what the files of the slab allocator share. Not for other layers. */
#ifndef KMM_LIB_MM_INTERNAL_H
#define KMM_LIB_MM_INTERNAL_H

#include "mm/slab.h"
#include "page/reclaim.h"

void create_kmalloc_caches(void);				/* slab_common.c */

#define SLAB_LIMBO	0xfe	/* beside the lists of slab.h: out of its node's books */
#define SLAB_LOST	0xfd	/* the same, and empty, but its addresses could not be had back (mesh_discard) */

/* --- slab.c: slabs and nodes ---------------------------------------------------------------------------- */
/*
 * Objects of home's slabs into [p, p + want); returns how many. Those of one slab stand by descending address, so that
 * the lowest is handed out first. Makes slabs only if there is no object, and few against what the node has.
 */
unsigned slab_alloc_bulk(unsigned home, unsigned cls, void **p, unsigned want);
/* One object of at least that class without waiting for any lock, or NULL. For signal handlers inside a slow path. */
void *slab_alloc_nested(unsigned cls);
/* Gives objects of class cls back to their slabs, wherever those have their home. */
void slab_free_bulk(unsigned cls, void **p, unsigned nr);
/* Empty slabs of a node go back; whether there were any. */
bool node_shrink(unsigned home, unsigned cls);
/* Gives up to nr slabs with free objects of a CPU's node to its cache domain, where others find them. How many. */
unsigned node_give_up(unsigned cpu, unsigned cls, unsigned nr);
/*
 * Takes a slab that has free and live objects out of its node's books: nothing is allocated from it, and it stays a slab,
 * until it is put back; objects may be freed meanwhile. Node lock held. Kernel: isolate_movable_page().
 */
void __isolate_slab(struct kmem_cache_node *n, struct page *slab);
/* The same; it is put back into its cache domain, where what is freed in it is not handed out again. */
void __exile_slab(struct kmem_cache_node *n, struct page *slab);
void set_slab_home(struct page *slab, unsigned home);	/* its old node's lock held, or nobody knows it */
/* Puts it back; discards it if it has become empty. No lock held. */
void putback_slab(struct page *slab);
/* Up to want objects of a slab with free ones, as slab_alloc_bulk(). Node lock held. */
unsigned __take_from_slab(struct kmem_cache_node *n, struct page *slab, void **p, unsigned want);
/* Homes in use, CPUs and cache domains: i counts from 0; false behind the last. */
bool home_by_index(unsigned i, unsigned *home);
/* The node of what may be a slab: what its struct page says was read without a lock and may be nonsense. NULL: it is none. */
struct kmem_cache_node *suspected_node(unsigned home, unsigned cls);
/* Locks its node, and then it is a slab for sure. worth: asked before, without a lock. NULL: it is none, or not worth it. */
struct kmem_cache_node *lock_suspected_slab(struct page *slab, bool (*worth)(const struct page *slab, unsigned cls));
/* The node of a cache domain, made if there is none; NULL: no memory. */
struct kmem_cache_node *domain_node(unsigned domain, unsigned cls);
/* The domain in which an area was last used. */
unsigned domain_of_area(unsigned cpu);
int nodes_prepare(unsigned cpu);		/* of all groups, for an area that comes online. 0 or -ENOMEM */

/*
 * The pages of a slab that free() may be led to have map entries and, but for the first, PG_tail: all that objects lie in
 * if those are smaller than a page, else those where objects begin; the others are blank as the middle of a large block.
 */
#define for_each_tail_page(i, s)                                                                                       \
	for (u32 step_ = max((s)->size, (u32)PAGE_SIZE), end_ = (s)->size * (s)->nr_objects, off_ = step_,             \
	     i = off_ >> PAGE_SHIFT; off_ < end_; off_ += step_, i = off_ >> PAGE_SHIFT)

/* The class of a slab with its group. */
static inline unsigned slab_cache(const struct page *slab)
{
	return READ_ONCE(slab->cls) | (unsigned)READ_ONCE(slab->colour) << MAP_COLOUR_SHIFT;
}

static inline u64 *slab_bits(struct page *slab)
{
	return slab->nr_objects <= 64 ? &slab->word : slab->bitmap;
}

/* --- slab_steal.c --------------------------------------------------------------------------------------- */
/* A slab with free objects from another CPU of the domain, in limbo with this home; NULL: none to spare. */
struct page *steal_slab(unsigned home, unsigned cls);
static inline struct page *try_steal_slab(unsigned home, unsigned cls)
{
	return nr_percpu_areas() > 1 ? steal_slab(home, cls) : NULL;
}

/* --- slab_share.c --------------------------------------------------------------------------------------- */
/* An object of a larger class in this CPU's sheaves, or NULL and in *cls the class, of that group, to take one from. */
void *borrow_object(unsigned *cls);

/* --- sheaf.c -------------------------------------------------------------------------------------------- */
void sheaves_prepare(unsigned cpu, unsigned colour);
void free_object_slowpath(map_entry_t e, void *obj);
u64 sheaf_bytes(unsigned first);	/* of classes from first on, in all CPUs' sheaves; an estimate */
void barn_flush(unsigned home, unsigned cls);
/* top came out of a slot, with all that is below it. The caller is inside the gate and owns the sheaves. */
void dispose_chain(unsigned slot, void **top);
void forget_longer_chain(struct kmem_cache_node *n, unsigned cls);
/* The holder may be what this thread's signal handler has interrupted: so not for ever. */
bool lock_patiently(struct mutex *m, enum lock_class c);
/* A CPU's slots that sheaves may stand in, numbered: the local ones of every class, then the remote ones. */
#define NR_SHEAF_SLOTS (2 * NR_KMALLOC_CLASSES)
#define NR_SHEAF_SLOT_WORDS DIV_ROUND_UP(NR_SHEAF_SLOTS, 64)
static inline unsigned sheaf_slot(unsigned i)
{
	return i < NR_KMALLOC_CLASSES ? i : (i - NR_KMALLOC_CLASSES) | SLOT_REMOTE;
}

/* --- drain.c -------------------------------------------------------------------------------------------- */
/* As drain_cpu(), one group's slots of which the bit is set. */
void drain_slots(unsigned cpu, unsigned colour, const u64 wanted[NR_SHEAF_SLOT_WORDS]);
/* As node_shrink(), of a group's classes from first on. */
bool nodes_shrink(unsigned home, unsigned colour, unsigned first);

/* --- slab_reclaim.c ------------------------------------------------------------------------------------- */
bool shrink_slabs(struct scan_control *sc);
bool kmem_cache_reap(enum reap_depth depth);
u32 pages_of(const struct page *page);	/* to what may be the next slab; no lock, any answer must do */
size_t count_slabs(void);
/*
 * Something is to be taken from a slab of which free pages have gone home (PG_shrunk): they may come back. Node lock
 * held. Tested by those who take.
 */
void __slab_unshrink(struct page *slab);

/* --- mesh.c, mesh_scan.c -------------------------------------------------------------------------------- */
/* Ordinary memory in the place of a meshed slab that is to be given back. No lock held. false: it could not be had. */
bool mesh_discard(struct page *slab);
/* When memory is out: as slab_alloc_bulk(), from meshed slabs of any home. */
unsigned mesh_take(unsigned cls, void **p, unsigned want);
u64 mesh_view_bytes(void);	/* of slabs that are meshed */
void mesh_init(void);

/* --- huge_scan.c ---------------------------------------------------------------------------------------- */
void huge_scan_init(void);

/* --- slub.c --------------------------------------------------------------------------------------------- */
void defer_free(void *p);	/* any block; by a signal handler inside a slow path */
void __free_deferred(void);
/* Calls fn for every slab that exists. The world should be quiet. */
void for_each_slab(void (*fn)(struct page *slab, void *arg), void *arg);
extern void *deferred;
static inline void free_deferred(void)		/* inside the gate, no locks */
{
	if (unlikely(READ_ONCE(deferred) != NULL))
		__free_deferred();
}

/* --- slub_misuse.c -------------------------------------------------------------------------------------- */
__noreturn __cold void report_invalid_pointer(const void *p, const char *where);	/* where: "free" */
__noreturn __cold void report_double_free(const void *obj);

#endif
