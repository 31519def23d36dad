/* SPDX-License-Identifier: MIT */
/*
 * mesh_scan.c - a pass of meshing: looks at all slabs, plans, carries out.
 *
 * Purpose. The compactors behind KMM_COMPACT=mesh, the first choice of auto, and ksm, the second. A pass in steps, each in short slices:
 *
 *	SCAN	walks the zones: sparse quiet slabs become candidates, meshed ones say what they still need
 *	SETTLE	frames that nobody needs any more go home; is the rest worth the trouble?
 *	SURVEY	if there are not mappings enough: a plan for each class, of which only what it would bring is kept
 *	PLAN	one size class: who goes with whom (mesh_plan.c)
 *	RUN	carries that out, a batch of slabs at a time; then the next class
 *
 * Quiet. Whoever takes or frees an object of a slab clears PG_quiet, the scan sets it. A slab that a scan finds as the
 * last one left it has been quiet for the time between, a decay time at least. That is the clock algorithm, and costs no
 * record of times. Writing to objects cannot be seen; where that happens pages un-mesh, at the price of a copy.
 *
 * Order. The larger classes first: they free most pages for each mapping, of which the kernel allows so many
 * (vm.max_map_count; thirteen sixteenths are ours, if the program leaves them). When those are used up the log says what more
 * would bring. Where they will not do for all, those bins are left out that free least for each mapping (pick_worth), but for
 * their slabs that lie between two views and cost none.
 *
 * What a group still needs is the union of what its slabs need: live objects, but for those on pages that the program
 * has written and so has for itself. It counts only if the scan has seen all of the group's slabs, and none was
 * given back meanwhile; else what was needed before is needed still.
 *
 * Invariants. A slab that is on its way is isolated, so nothing is taken from it; when it is meshed it belongs to the cache
 * domain, so that what is freed in it does not go into a sheaf and out again, which would un-mesh the page. While pages are away no lock is held.
 *
 * Locks. node, for one slab at a time. The gate is entered for a slice, but not to plan, which takes its time and is kmmd's own.
 *
 * Kernel counterpart. mm/compaction.c: isolate_migratepages, migrate_pages, putback_movable_pages; PG_quiet is the inverse
 * of PG_referenced.
 */
#include "mesh_frames.h"

#include "base/param.h"
#include "base/printk.h"
#include "mm/gate.h"
#include "os/vm.h"
#include "page/compaction.h"
#include "page/sparse.h"
#include "page/vmstat.h"
#include <errno.h>
#include <string.h>

#define CANDIDATES_MAX	65536u
#define LOOKS_PER_SLICE 256u
#define GROUPS_PER_SLICE 64u
#define SPARSE		2u	/* at most one object in so many is live */
#define VIEWS_PER_PAGE	2	/* a page must be gained for so many mappings */
#define YIELD_STEPS	16	/* to the page */
#define YIELDS		(MESH_PAGES_MAX * YIELD_STEPS + 1)

enum mesh_step { MESH_BEGIN, MESH_SCAN, MESH_SETTLE, MESH_SURVEY, MESH_PLAN, MESH_RUN };

/* What the scan has seen of a group's views. */
struct sighting {
	struct occupancy needed;
	u32 nr_views, nr_seen;
};

static struct {
	enum mesh_step step;
	bool ksm;			/* by equal pages instead of frames */
	bool child_lives;		/* so that nothing was meshed */
	struct mesh_plan *plan;
	struct sighting *seen;		/* [nr_groups] */
	u32 nr_groups;
	pfn_t pfn;
	u64 nr_pages;			/* that candidates have */
	unsigned cls;
	u32 group, bin, candidate, created;
	u64 left_pages, left_slabs;	/* for want of VMAs */
	u32 views_of_yield[YIELDS];	/* surveyed */
	u32 least_yield;		/* bins below are left out */
	bool only_gaps;			/* of this bin, for want of VMAs, only slabs that cost none */
} walk;

/* --- scan --------------------------------------------------------------------------------------------------- */

static bool begin(struct compact_control *cc)
{
	if (walk.ksm)
		mesh_ksm_begin(cc);
	walk.nr_groups = max(mesh_nr_groups(), 1u);
	walk.plan = mesh_plan_create(CANDIDATES_MAX);
	walk.seen = vm_map(ALIGN(walk.nr_groups * sizeof(*walk.seen), os_page_size));
	for (u32 id = 1; walk.seen && id < walk.nr_groups; id++)
		walk.seen[id].nr_views = smp_load_acquire(&mesh_group(id)->nr_views);
	walk.pfn = 0;
	walk.nr_pages = walk.left_pages = walk.left_slabs = 0;
	walk.child_lives = false;
	walk.least_yield = 0;
	walk.only_gaps = false;
	memset(walk.views_of_yield, 0, sizeof(walk.views_of_yield));
	walk.step = MESH_SCAN;
	return walk.plan && walk.seen;
}

/* Forgotten first, then unmapped: a child that is made between does not unmap it again. */
static void end(void)
{
	struct mesh_plan *plan = walk.plan;
	struct sighting *seen = walk.seen;

	WRITE_ONCE(walk.plan, NULL);
	WRITE_ONCE(walk.seen, NULL);
	WRITE_ONCE(walk.step, MESH_BEGIN);
	barrier();
	if (plan)
		mesh_plan_destroy(plan);
	if (seen)
		vm_unmap(seen, ALIGN(walk.nr_groups * sizeof(*seen), os_page_size));
}

/* Are there objects that can be moved? */
static bool worth_meshing(const struct page *slab, unsigned cls)
{
	return mesh_class_is_worth(cls & MAP_CLASS_MASK) && IS_ALIGNED((uintptr_t)page_address(slab), os_page_size);
}

static struct kmem_cache_node *lock_slab(struct page *slab)
{
	return lock_suspected_slab(slab, worth_meshing);
}

static bool __may_move(const struct page *slab)
{
	return !(slab->flags & PG_meshed) && slab->bucket < NR_SLAB_BUCKETS && slab->nr_free != slab->nr_objects;
}

/* Node lock held. Is it sparse, and has it been left alone for long enough? */
static bool __is_candidate(struct compact_control *cc, struct page *slab)
{
	bool quiet = slab->flags & PG_quiet;

	if (!__may_move(slab) || (u32)(slab->nr_objects - slab->nr_free) * SPARSE > slab->nr_objects)
		return false;
	slab->flags |= PG_quiet;
	cc->again |= !quiet && !cc->whole;
	return quiet || cc->whole;
}

/* Objects that lie wholly on pages that the program has written do not need the frames. */
static void note_view(u32 id, unsigned cls, const struct occupancy *live, u64 written)
{
	struct sighting *seen = &walk.seen[id];
	struct occupancy one;

	for_each_live(i, live) {
		memset(&one, 0, sizeof(one));
		one.word[i / 64] = 1ull << (i % 64);
		if (occupied_pages(cls, &one) & ~written)
			occupancy_add(&seen->needed, &one);
	}
	seen->nr_seen++;
}

static bool look_at_slab(struct compact_control *cc, struct page *slab)
{
	struct kmem_cache_node *n = lock_slab(slab);
	struct occupancy live;
	unsigned cls;
	bool meshed, candidate, room = true;
	u8 colour;
	u32 id;

	if (!n)
		return true;
	if (slab->bucket == SLAB_LOST) {
		slab->bucket = SLAB_LIMBO;
		mutex_unlock(&n->lock, LOCK_node);
		putback_slab(slab);
		return true;
	}
	meshed = slab->flags & PG_meshed;
	candidate = __is_candidate(cc, slab);
	id = slab_group(slab);
	cls = slab->cls;
	colour = slab->colour;
	if (meshed || candidate)
		slab_occupancy(slab, &live);
	mutex_unlock(&n->lock, LOCK_node);
	if (meshed && mesh_is_own_group(id) && id < walk.nr_groups)
		note_view(id, cls, &live, mesh_written_pages(slab));
	if (candidate) {
		room = mesh_plan_add(walk.plan, page_to_pfn(slab), cls, colour, &live);
		walk.nr_pages += (u64)__builtin_popcountll(occupied_pages(cls, &live));
	}
	return room;
}

static void scan(struct compact_control *cc)
{
	unsigned looks = 0;

	for (int z = 0; z < MAX_NR_ZONES; z++) {
		pfn_t last = READ_ONCE(zones[z].end_pfn);

		walk.pfn = max(walk.pfn, zones[z].start_pfn);
		while (walk.pfn < last) {
			struct page *page = pfn_to_page(walk.pfn);

			if (++looks > LOOKS_PER_SLICE)
				return;
			walk.pfn += pages_of(page);
			if (READ_ONCE(page->flags) & PG_slab)
				cc->again |= !look_at_slab(cc, page);
		}
	}
	walk.step = MESH_SETTLE;
	walk.group = 1;
}

/* --- settle ------------------------------------------------------------------------------------------------- */

static void settle_group(struct compact_control *cc, u32 id)
{
	struct mesh_group *g = mesh_group(id);
	struct sighting *seen = &walk.seen[id];
	size_t bytes;

	if (!g->cls)
		return;
	if (seen->nr_seen == seen->nr_views && smp_load_acquire(&g->nr_views) == seen->nr_views)
		g->live = seen->needed;
	bytes = mesh_group_shrink(id);
	cc->nr_freed += (s64)bytes;
	count_vm_events(VM_mesh_page, bytes >> PAGE_SHIFT);
}

static bool is_worth_it(const struct compact_control *cc)
{
	return cc->eager || walk.nr_pages * os_page_size / 2 >= cc->worthwhile;
}

static void settle(struct compact_control *cc)
{
	for (unsigned n = 0; n < GROUPS_PER_SLICE && walk.group < walk.nr_groups; n++, walk.group++)
		if (mesh_is_own_group(walk.group))
			settle_group(cc, walk.group);
	if (walk.group < walk.nr_groups)
		return;
	walk.step = MESH_PLAN;
	walk.cls = walk.plan->nr_candidates && is_worth_it(cc) ? NR_KMALLOC_CLASSES : 0;
	if (!walk.cls || walk.ksm)
		return;
	walk.child_lives = !mesh_may_write();
	if (walk.child_lives) {
		walk.cls = 0;
		cc->again = true;
		return;
	}
	mesh_count_vmas();
	if (walk.plan->nr_candidates > mesh_room())
		walk.step = MESH_SURVEY;
}

/* --- plan --------------------------------------------------------------------------------------------------- */

static s32 bin_gain(const struct mesh_bin *bin)
{
	return mesh_bin_gain(bin, walk.cls, bin->group ? mesh_group(bin->group)->present : 0);
}

/* Pages that go home for each mapping, in steps; 0: not worth it. */
static u32 bin_yield(const struct mesh_bin *bin)
{
	s32 gain = bin_gain(bin);

	if (!bin->nr || gain <= 0 || gain * VIEWS_PER_PAGE < (s32)bin->nr)
		return 0;
	return min((u32)gain * YIELD_STEPS / bin->nr, YIELDS - 1u);
}

/* The next class, and its plan. */
static bool plan_class(void)
{
	walk.cls--;
	if (!mesh_class_is_worth(walk.cls))
		return false;
	mesh_plan_begin(walk.plan);
	for (u32 id = mesh_first_group(walk.cls); id; id = mesh_group(id)->next)
		mesh_plan_add_group(walk.plan, id, mesh_group(id)->colour, &mesh_group(id)->live);
	mesh_plan_class(walk.plan, walk.cls);
	return true;
}

static void plan(void)
{
	if (!plan_class())
		return;
	walk.bin = 0;
	walk.candidate = NO_INDEX;
	walk.step = MESH_RUN;
}

/* The yield from which on there are mappings for all that have it. */
static u32 pick_worth(void)
{
	u32 yield = YIELDS, room = mesh_room();

	while (yield > 1 && walk.views_of_yield[yield - 1] <= room)
		room -= walk.views_of_yield[--yield];
	return yield;
}

static void survey(void)
{
	if (walk.cls <= 1) {
		walk.least_yield = pick_worth();
		walk.cls = NR_KMALLOC_CLASSES;
		walk.step = MESH_PLAN;
		return;
	}
	if (!plan_class())
		return;
	for (u32 i = 0; i < walk.plan->nr_bins; i++)
		walk.views_of_yield[bin_yield(&walk.plan->bin[i])] += walk.plan->bin[i].nr;
	mesh_plan_undo(walk.plan, walk.cls);
}

/* --- run ---------------------------------------------------------------------------------------------------- */

/* Does anybody in the group, or on the way there, have an object where this slab has one? */
static bool fits(const struct mesh_job *jobs, const struct mesh_job *job)
{
	if (occupancy_overlaps(&mesh_group(job->group)->live, &job->live))
		return false;
	for (; jobs < job; jobs++)
		if (jobs->group == job->group && occupancy_overlaps(&jobs->live, &job->live))
			return false;
	return true;
}

/* Takes a candidate out of its node's books, if it still is what it was. */
static bool isolate(struct compact_control *cc, struct mesh_job *jobs, struct mesh_job *job, const struct mesh_candidate *c)
{
	struct kmem_cache_node *n = lock_slab(job->slab);
	bool ok;

	if (!n)
		return false;
	ok = job->slab->cls == c->cls && job->slab->colour == c->colour && __may_move(job->slab) &&
	     (cc->whole || job->slab->flags & PG_quiet);
	if (ok) {
		slab_occupancy(job->slab, &job->live);
		ok = fits(jobs, job);
	}
	if (ok)
		__exile_slab(n, job->slab);
	mutex_unlock(&n->lock, LOCK_node);
	return ok;
}

/* The slab that the bin's frames should be in line with: the one with most neighbours there, of equals the lowest. */
static pfn_t best_base(const struct mesh_bin *bin)
{
	pfn_t best = walk.plan->candidate[bin->first].pfn;
	int most = -1;

	for (u32 i = bin->first; i != NO_INDEX; i = walk.plan->candidate[i].next) {
		pfn_t pfn = walk.plan->candidate[i].pfn;
		int merit = mesh_frames_merit(pfn, mesh_slab_size(walk.cls));

		if (merit > most || (merit == most && pfn < best)) {
			best = pfn;
			most = merit;
		}
	}
	return best;
}

/* It lies between two views: another in its place costs no mapping. */
static bool fills_a_gap(const struct mesh_candidate *c)
{
	return mesh_view_cost(c->pfn, mesh_slab_size(walk.cls)) == 0;
}

static u32 slabs_in_gaps(const struct mesh_bin *bin)
{
	u32 nr = 0;

	for (u32 i = bin->first; i != NO_INDEX; i = walk.plan->candidate[i].next)
		nr += fills_a_gap(&walk.plan->candidate[i]);
	return nr;
}

/* The group that the bin's slabs go to, 0: it is not worth it, or there is no room. */
static u32 bin_group(const struct mesh_bin *bin)
{
	u32 yield = bin_yield(bin), nr;

	if (!yield)
		return 0;
	if (walk.ksm)
		return bin->nr > 1 ? MESH_GROUP_KSM : 0;
	walk.only_gaps = yield < walk.least_yield || !mesh_has_room();
	if (walk.only_gaps) {
		nr = slabs_in_gaps(bin);
		walk.left_pages += (u64)bin_gain(bin) * (bin->nr - nr) / bin->nr;
		walk.left_slabs += bin->nr - nr;
		if (nr < (bin->group ? 1 : 2))
			return 0;
	}
	return bin->group ? bin->group : mesh_group_create(walk.cls, bin->colour, best_base(bin));
}

/* The next candidate to carry out, through all bins; NO_INDEX: no more. */
static u32 next_candidate(void)
{
	while (walk.candidate == NO_INDEX && walk.bin < walk.plan->nr_bins) {
		const struct mesh_bin *bin = &walk.plan->bin[walk.bin++];

		walk.created = bin_group(bin);
		if (walk.created)
			walk.candidate = bin->first;
	}
	return walk.candidate;
}

static unsigned fill_batch(struct compact_control *cc, struct mesh_job *jobs)
{
	unsigned nr = 0, looks = 0;
	u32 i;

	while (nr < MESH_BATCH && looks++ < LOOKS_PER_SLICE && (i = next_candidate()) != NO_INDEX) {
		const struct mesh_candidate *c = &walk.plan->candidate[i];

		jobs[nr] = (struct mesh_job){ .slab = pfn_to_page(c->pfn), .group = walk.created };
		nr += (!walk.only_gaps || fills_a_gap(c)) && isolate(cc, jobs, &jobs[nr], c);
		walk.candidate = c->next;
		if (walk.ksm && walk.candidate == NO_INDEX)
			break;		/* what comes next belongs to another bin */
	}
	if (nr < MESH_BATCH && next_candidate() == NO_INDEX)
		walk.step = MESH_PLAN;		/* the next class */
	return nr;
}

static void run(struct compact_control *cc)
{
	struct mesh_job jobs[MESH_BATCH];
	unsigned nr = fill_batch(cc, jobs);
	s64 gain = 0;

	if (!nr)
		return;
	if (walk.ksm)
		mesh_ksm_batch(jobs, nr);
	else
		mesh_run_batch(jobs, nr);
	for (unsigned i = 0; i < nr; i++) {
		gain += jobs[i].error ? 0 : jobs[i].gain;
		putback_slab(jobs[i].slab);
	}
	cc->again |= walk.left_slabs && gain > 0;	/* some of those lie in gaps now */
	cc->nr_freed += gain * (s64)os_page_size;
	count_vm_events(VM_mesh_page, (u64)gain * (os_page_size >> PAGE_SHIFT));
}

/* --- the compactor ------------------------------------------------------------------------------------------ */

static void say_what_is_left(void)
{
	static bool said, said_child;
	bool may = kmm_params.compact != COMPACT_AUTO || kmm_params.verbose;

	if (walk.child_lives && !said_child && may) {
		said_child = true;
		pr_info("meshing: waits until no child shares this process's memory");
	}
	if (walk.left_slabs && !said && may) {
		said = true;
		pr_info("meshing: vm.max_map_count is used up; %llu more mappings would free %llu kB",
			(unsigned long long)walk.left_slabs, (unsigned long long)(walk.left_pages * os_page_size >> 10));
	}
}

static bool mesh_scan(struct compact_control *cc)
{
	bool more = true, gated = walk.step != MESH_PLAN && walk.step != MESH_SURVEY;	/* a plan is kmmd's own, and takes its time */

	if (gated)
		gate_enter();
	switch (walk.step) {
	case MESH_BEGIN: more = begin(cc); break;
	case MESH_SCAN: scan(cc); break;
	case MESH_SETTLE: settle(cc); break;
	case MESH_SURVEY: survey(); break;
	case MESH_PLAN: more = walk.cls > 1; if (more) plan(); break;
	case MESH_RUN: run(cc); break;
	}
	if (!more)
		end();
	if (gated)
		gate_leave();
	if (!more)
		say_what_is_left();
	return more;
}

static bool ksm_scan(struct compact_control *cc)
{
	walk.ksm = true;
	return mesh_scan(cc);
}

static void ksm_forget(void)
{
	end();
	walk.ksm = false;
}

static void scan_forget(void)
{
	end();
	mesh_forget();
}

static struct compactor mesh_compactor = { .name = "mesh", .mode = COMPACT_MESH, .open = mesh_open, .scan = mesh_scan,
					   .forget = scan_forget, .needs = mesh_needs };

static struct compactor ksm_compactor = { .name = "ksm", .mode = COMPACT_KSM, .open = mesh_ksm_open, .scan = ksm_scan,
					  .forget = ksm_forget, .needs = mesh_ksm_needs };

__init void mesh_init(void)
{
	register_compactor(&mesh_compactor);
	register_compactor(&ksm_compactor);
}

/* --- when memory is out ------------------------------------------------------------------------------------- */

unsigned mesh_take(unsigned cls, void **p, unsigned want)
{
	unsigned got = 0;

	for (int z = 0; z < MAX_NR_ZONES && mesh_view_bytes() && !got; z++) {
		for (pfn_t pfn = zones[z].start_pfn; pfn < READ_ONCE(zones[z].end_pfn) && !got; pfn++) {
			struct page *slab = pfn_to_page(pfn);
			struct kmem_cache_node *n;

			if (!(READ_ONCE(slab->flags) & PG_meshed) || slab_cache(slab) != cls)
				continue;
			n = lock_slab(slab);
			if (!n)
				continue;
			if (slab->flags & PG_meshed && slab_cache(slab) == cls && slab->bucket != SLAB_LIMBO)
				got = __take_from_slab(n, slab, p, want);
			mutex_unlock(&n->lock, LOCK_node);
		}
	}
	count_vm_events(VM_mesh_take, got);
	return got;
}
