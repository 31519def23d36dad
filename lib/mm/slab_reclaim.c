/* SPDX-License-Identifier: MIT */
/*
 * slab_reclaim.c - what slabs, sheaves and barns hold and nobody uses goes home.
 *
 * Purpose. Three things, in this order, since each makes work for the next:
 *   slots    sheaves that stand as they stood a decay time ago are taken from their CPU and emptied
 *   nodes    barns and empty slabs of a class that has not changed for so long; where no slow path has run at all for so
 *            long, slabs with free objects go to the cache domain, since a CPU that comes later would make its own
 *   slabs    OS pages in which no live object lies, in slabs from which nothing has been taken for so long, or for a part of
 *	      it if they are half free or more
 *
 * Objects. What is quiet is found by looking again: struct cpu_ages, one for each CPU, holds for every slot and node a
 * summary of what it looked like and since when. That sees a slot that is used only by chance if its top is where it
 * was: one that is emptied although in use costs a refill, and no more than once in a decay time. For a slab the record
 * lies in the struct page of its second page, which no slab needs: a slab of one page has nothing to give back.
 *
 *   slab[1].prev	  since when nothing has been taken from it (ms)
 *   slab[1].word	  OS pages that have gone home
 *   slab[1].nr_objects   number of free objects when they went
 *
 * The records hold while PG_shrunk stands, which the first look sets and whoever takes an object from the slab clears
 * (slab.c). Objects that come back in the meantime do not count: where a program shrinks, each of its slabs gets some
 * all the time, and none of them would ever be called quiet. When the number of free objects is the same as when pages went
 * last, there is nothing to do.
 *
 * Slabs are found by walking the zones page by page, not by lists, which change under our feet: the cursor is a page
 * number. What a page is, is read without a lock, and believed only under its node's.
 *
 * Invariants. A slab whose pages are being given back is out of its node's books (SLAB_LIMBO), so that nothing is taken
 * from it; objects may be freed meanwhile, which leaves free pages free.
 *
 * Locks. node, for one slab at a time; not held while the kernel takes pages. The rest belongs to the one background
 * thread; malloc_trim(), which asks for everything, has no use for records.
 *
 * Kernel counterpart. mm/slub.c: flush_all_cpus_locked, __kmem_cache_do_shrink; the walk is compaction's isolate_
 * migratepages_block(). Objects carry no data of ours, so free ones need no memory; mesh.c does more of that.
 */
#include "internal.h"

#include "base/bug.h"
#include "os/vm.h"
#include "page/huge_memory.h"
#include "page/memblock.h"
#include "page/sparse.h"
#include "page/vmstat.h"

#define SLOTS_PER_SLICE	 16
#define SLABS_PER_SLICE	 32
#define RANGES_PER_SLICE 64
#define PAGES_PER_SLICE	 256
#define LOOKS_PER_SLICE	 256		/* at pages, slabs or free blocks */
#define REAP_SHARE	 4	/* of the heap must be in sheaves for it to be worth taking them back */
#define LARGE_MIN	 KIB(16)
#define LARGE_SHARE	 64	/* the same of objects from that size on, of which each is a slab or half of one */
#define LOOKS_PER_PASS	 4096		/* 0.2 ms */

struct look {
	u32 seen, since_ms;
};

struct cpu_ages {
	struct look slot[NR_SHEAF_SLOTS];
	struct look node[NR_KMALLOC_CLASSES];
};
static struct cpu_ages **ages_of_colour[NR_COLOURS];	/* one for each CPU, made when they are first wanted */

/* The background thread's walk over all slabs. */
static struct {
	u32 pfn, looks, next_ms;
	bool changed;		/* since it began: what it has passed may be worth another look */
} walk = { .changed = true };

/* A look at something: has it been as it is for long enough? */
static bool is_quiet(struct scan_control *sc, struct look *look, u32 seen)
{
	if (look->seen != seen || !look->since_ms) {
		look->seen = seen;
		look->since_ms = sc->now_ms | 1;
	}
	return scan_is_old(sc, look->since_ms, sc->max_age_ms);
}

/* --- slots ------------------------------------------------------------------------------------------------- */

/* true: there are more. */
static bool shrink_slots(struct scan_control *sc, unsigned cpu, unsigned colour, struct cpu_ages *ages)
{
	u64 wanted[NR_SHEAF_SLOT_WORDS] = { 0 };
	unsigned nr = 0, i;

	for (i = 0; i < NR_SHEAF_SLOTS && nr < SLOTS_PER_SLICE; i++) {
		unsigned slot = sheaf_slot(i);
		void **top = percpu_top(cpu, slot | colour << MAP_COLOUR_SHIFT);

		if ((slot & MAP_CLASS_MASK) == 0 || top == sheaf_full_top(&boot_sheaf) || top == sheaf_full_top(&stop_sheaf))
			continue;
		if (!is_quiet(sc, &ages->slot[i], (u32)((uintptr_t)top >> 3)))
			continue;
		wanted[i / 64] |= 1ull << (i % 64);
		nr++;
	}
	if (nr) {
		drain_slots(cpu, colour, wanted);
		walk.changed = true;
	}
	return nr == SLOTS_PER_SLICE;
}

/* --- nodes ------------------------------------------------------------------------------------------------- */

static u32 node_summary(const struct kmem_cache_node *n)
{
	u64 sum = (uintptr_t)READ_ONCE(n->full) >> 9;

	sum = sum * 31 + READ_ONCE(n->nr_free);
	sum = sum * 31 + READ_ONCE(n->nr_slabs);
	sum = sum * 31 + READ_ONCE(n->nr_partial);
	return (u32)(sum ^ sum >> 32);
}

/* What barns hold goes into slabs; a CPU that is not used any more leaves those to its neighbours. true: there are more. */
static bool shrink_nodes(struct scan_control *sc, unsigned cpu, unsigned colour, struct cpu_ages *ages)
{
	bool deserted = scan_is_old(sc, pcpu_of(cpu)->busy_ms, sc->max_age_ms), more = false;

	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES && !more; cls++) {
		unsigned cache = cls | colour << MAP_COLOUR_SHIFT;
		struct kmem_cache_node *n = get_node(cpu, cache);

		if (!READ_ONCE(n->nr_full) && !READ_ONCE(n->nr_empty) && !(deserted && READ_ONCE(n->nr_partial)))
			continue;
		if (!is_quiet(sc, &ages->node[cls], node_summary(n)))
			continue;
		barn_flush(cpu, cache);
		node_shrink(cpu, cache);
		more = deserted && node_give_up(cpu, cache, SLABS_PER_SLICE) == SLABS_PER_SLICE;
		if (more)
			ages->node[cls].seen = node_summary(n);		/* it has changed, but by our hands */
		walk.changed = true;
	}
	return more;
}

/* The background thread's alone. NULL: no memory. */
static struct cpu_ages *get_ages(unsigned cpu, unsigned colour)
{
	struct cpu_ages ***ages = &ages_of_colour[colour];

	if (!*ages)
		*ages = memblock_alloc(max_percpu_areas * sizeof(**ages), 8);
	if (*ages && !(*ages)[cpu])
		(*ages)[cpu] = memblock_alloc(sizeof(***ages), 8);
	return *ages ? (*ages)[cpu] : NULL;
}

static bool shrink_cpu(struct scan_control *sc, unsigned cpu, unsigned colour)
{
	struct cpu_ages *ages = get_ages(cpu, colour);

	if (!ages)
		return false;
	return shrink_slots(sc, cpu, colour, ages) || shrink_nodes(sc, cpu, colour, ages);
}

/* --- slabs ------------------------------------------------------------------------------------------------- */

static u64 shrunk_pages;

u64 nr_shrunk_pages(void)
{
	return READ_ONCE(shrunk_pages);
}

static void add_shrunk_pages(u64 map, bool add)
{
	u64 nr = (u64)__builtin_popcountll(map) * (os_page_size >> PAGE_SHIFT);

	if (add)
		__atomic_add_fetch(&shrunk_pages, nr, __ATOMIC_RELAXED);
	else
		__atomic_sub_fetch(&shrunk_pages, nr, __ATOMIC_RELAXED);
}

void __slab_unshrink(struct page *slab)
{
	slab->flags &= (u16)~PG_shrunk;
	if (!slab[1].word)
		return;
	add_shrunk_pages(slab[1].word, false);
	count_vm_event(VM_slab_unshrink);
}

/* A slab's OS pages in which no live object lies, by number from its beginning. */
static u64 free_os_pages(struct page *slab)
{
	const struct kmem_cache *s = &kmalloc_caches[slab->cls];
	uintptr_t base = (uintptr_t)page_address(slab), first = ALIGN(base, os_page_size) - base;
	unsigned shift = ilog2(os_page_size), nr = slab->nr_objects;
	size_t size = ((size_t)s->nr_pages << PAGE_SHIFT) - min(first, (size_t)s->nr_pages << PAGE_SHIFT);
	u64 *bits = slab_bits(slab), map = (size >> shift) == 64 ? ~0ull : (1ull << (size >> shift)) - 1;

	for (unsigned i = 0; i < nr && map; i += 64) {
		u64 live = ~bits[i / 64];

		if (nr - i < 64)
			live &= (1ull << (nr - i)) - 1;
		for (; live; live &= live - 1) {
			size_t from = (i + (unsigned)__builtin_ctzll(live)) * (size_t)s->size, to = from + s->size - 1;

			for (size_t page = from < first ? 0 : (from - first) >> shift; to >= first && page <= (to - first) >> shift;
			     page++)
				map &= ~(1ull << page);
		}
	}
	return map;
}

struct shrink_batch {
	unsigned nr_slabs, nr_ranges, nr_pages;
	struct { struct page *slab; u64 map; } slabs[SLABS_PER_SLICE];
	struct vm_range ranges[RANGES_PER_SLICE];
};

static void add_ranges(struct shrink_batch *b, struct page *slab, u64 map)
{
	char *base = (char *)ALIGN((uintptr_t)page_address(slab), os_page_size);

	while (map) {
		unsigned from = (unsigned)__builtin_ctzll(map);
		unsigned nr = ~(map >> from) ? (unsigned)__builtin_ctzll(~(map >> from)) : 64;

		b->ranges[b->nr_ranges++] = (struct vm_range){ base + from * os_page_size, nr * os_page_size };
		b->nr_pages += nr * (unsigned)(os_page_size >> PAGE_SHIFT);
		map &= nr + from == 64 ? (1ull << from) - 1 : ~(((1ull << nr) - 1) << from);
	}
}

/* Objects are taken from the fullest slabs first: the emptier one is, the later its turn would come, and the sooner its pages go. */
static u32 quiet_age(const struct scan_control *sc, const struct page *slab)
{
	unsigned half_free = slab->nr_free >= slab->nr_objects / 2, mostly_free = slab->nr_free >= slab->nr_objects / 4 * 3;

	return max(sc->max_age_ms >> (half_free + mostly_free), 1u);
}

/* Node lock held, and the slab has free and live objects. Should pages of it go now? */
static u64 __pages_to_shrink(struct scan_control *sc, struct page *slab)
{
	struct page *record = slab + 1;
	u64 map;

	if (!(slab->flags & PG_shrunk)) {
		slab->flags |= PG_shrunk;
		record->word = 0;
		record->nr_objects = UINT16_MAX;
		record->prev = sc->now_ms;
	}
	if (record->nr_objects == slab->nr_free || (sc->max_age_ms && !scan_is_old(sc, record->prev, quiet_age(sc, slab))))
		return 0;
	map = free_os_pages(slab) & ~record->word;
	record->nr_objects = slab->nr_free;
	return map;
}

/* May a slab of that class have something to give back? */
static bool worth_a_look(const struct page *slab, unsigned cls)
{
	const struct kmem_cache *s = cache_of(cls);

	return s->nr_pages >= 2 && s->nr_pages <= 64 && (size_t)READ_ONCE(slab->nr_free) * s->size >= os_page_size;
}

static void look_at_slab(struct scan_control *sc, struct page *slab, struct shrink_batch *b)
{
	struct kmem_cache_node *n = lock_suspected_slab(slab, worth_a_look);
	u64 map = 0;

	if (!n)
		return;
	if (slab->bucket < NR_SLAB_BUCKETS && slab->nr_free != slab->nr_objects)
		map = __pages_to_shrink(sc, slab);
	if (map)
		__isolate_slab(n, slab);
	mutex_unlock(&n->lock, LOCK_node);
	if (!map)
		return;
	b->slabs[b->nr_slabs].slab = slab;
	b->slabs[b->nr_slabs++].map = map;
	add_ranges(b, slab, map);
}

static void finish_batch(struct scan_control *sc, struct shrink_batch *b)
{
	bool ok = !b->nr_ranges || discard_ranges(b->ranges, b->nr_ranges) == 0;

	for (unsigned i = 0; i < b->nr_slabs; i++) {
		struct page *slab = b->slabs[i].slab;

		if (ok) {
			slab[1].word |= b->slabs[i].map;
			add_shrunk_pages(b->slabs[i].map, true);
		}
		putback_slab(slab);
	}
	sc->failed |= !ok;
	if (ok && b->nr_pages) {
		count_vm_events(VM_slab_shrink, b->nr_pages);
		scan_account(sc, (size_t)b->nr_pages << PAGE_SHIFT);
	}
}

/* Pages to the next thing that may be a slab. Nothing is locked: any answer must do, but too large a one would skip some. */
u32 pages_of(const struct page *page)
{
	u32 flags = READ_ONCE(page->flags), nr = 1;

	if (flags & (PG_buddy | PG_pcp))
		nr = 1u << min(READ_ONCE(page->order), (u8)MAX_PAGE_ORDER);
	else if (flags & PG_slab)
		nr = kmalloc_caches[min(READ_ONCE(page->cls), (u8)(NR_KMALLOC_CLASSES - 1))].nr_pages;
	else if (flags & (PG_large | PG_pages))
		nr = min(READ_ONCE(page->nr_pages), 1u << MAX_PAGE_ORDER);
	return max(nr, 1u);
}

/* Looks at slabs from page *pfn on. false: that was the last. */
static bool shrink_slab_pages(struct scan_control *sc, u32 *pfn)
{
	struct shrink_batch b = { 0 };
	unsigned looks = 0;

	for (int z = 0; z < MAX_NR_ZONES; z++) {
		pfn_t end = READ_ONCE(zones[z].end_pfn);

		*pfn = max(*pfn, zones[z].start_pfn);
		while (*pfn < end) {
			struct page *page = pfn_to_page(*pfn);

			if (++looks > LOOKS_PER_SLICE || b.nr_slabs == SLABS_PER_SLICE || b.nr_pages >= PAGES_PER_SLICE ||
			    b.nr_ranges > RANGES_PER_SLICE - 32)
				goto out;
			*pfn += pages_of(page);
			if (READ_ONCE(page->flags) & PG_slab)
				look_at_slab(sc, page, &b);
		}
	}
	*pfn = 0;
out:
	finish_batch(sc, &b);
	return *pfn != 0;
}

static size_t count_node(unsigned home, unsigned colour)
{
	const struct kmem_cache_node *n = get_node(home, 0 | colour << MAP_COLOUR_SHIFT);
	size_t bytes = 0;

	for (unsigned cls = 1; n && cls < NR_KMALLOC_CLASSES; cls++)
		bytes += READ_ONCE(n[cls].nr_free) * cache_of(cls)->size;
	return bytes;
}

/* Free objects in slabs: an upper bound of what their pages come to. */
__resident size_t count_slabs(void)
{
	size_t bytes = 0, gone = (nr_shrunk_pages() << PAGE_SHIFT) + mesh_view_bytes();
	unsigned home;

	for_each_colour(colour)
		for (unsigned i = 0; home_by_index(i, &home); i++)
			bytes += count_node(home, colour);
	return bytes - min(bytes, gone);
}

/* --- all of it --------------------------------------------------------------------------------------------- */

/*
 * The background thread walks on where the last pass has stopped. Until it is through with all pages, another pass is
 * due soon; the least that any slab has to wait is known at the end. When nothing has to wait, and no slow path has run
 * since the walk began, the next walk would find nothing.
 */
static bool walk_on(struct scan_control *sc)
{
	u32 others = sc->next_ms;
	bool more;

	if (!walk.looks) {
		if (!walk.changed)
			return false;
		walk.changed = false;
		walk.next_ms = NEVER_MS;
	}
	sc->next_ms = walk.next_ms;
	more = shrink_slab_pages(sc, &walk.pfn);
	walk.next_ms = sc->next_ms;
	walk.looks = more ? walk.looks + LOOKS_PER_SLICE : 0;
	walk.changed |= !more && walk.next_ms != NEVER_MS;
	sc->next_ms = more ? 0 : min(others, walk.next_ms);
	return more && walk.looks % LOOKS_PER_PASS;
}

/* Cursor: the CPU and group in turn, or, for those who want everything, the page; then it begins with all caches. */
bool shrink_slabs(struct scan_control *sc)
{
	if (!sc->kswapd) {
		if (!sc->cursor)
			kmem_cache_shrink_all();	/* what it frees is counted as pages */
		return shrink_slab_pages(sc, &sc->cursor);
	}
	walk.changed |= sc->busy;
	while (sc->cursor < nr_percpu_areas() * NR_COLOURS) {
		unsigned cpu = sc->cursor / NR_COLOURS, colour = sc->cursor % NR_COLOURS;

		sc->cursor++;
		if (!colour_is_online(colour))
			continue;
		if (shrink_cpu(sc, cpu, colour))
			sc->cursor--;
		return true;
	}
	return walk_on(sc);
}

/* --- before the heap grows ---------------------------------------------------------------------------------- */

static __resident bool reap_empty(void)
{
	bool any = false;

	for_each_colour(colour)
		for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)	/* a cache domain keeps none */
			any |= nodes_shrink(cpu, colour, 1);
	return any;
}

/*
 * A buffer that grows passes through all large classes, and leaves a block of each in the sheaves. To take those back costs a
 * refill for each, if they are wanted again at all; of small classes it would cost many.
 */
static __resident bool reap_large(void)
{
	unsigned first = kmalloc_class(LARGE_MIN);

	if (sheaf_bytes(first) < heap_bytes() / LARGE_SHARE)
		return false;
	for_each_colour(colour)
		drain_classes(colour, first);
	return true;
}

__resident bool kmem_cache_reap(enum reap_depth depth)
{
	if (depth == REAP_EMPTY)
		return reap_empty();
	if (depth == REAP_LARGE)
		return reap_large();
	if (sheaf_bytes(1) < heap_bytes() / REAP_SHARE)
		return false;
	kmem_cache_shrink_all();
	return true;
}
