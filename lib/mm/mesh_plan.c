/* SPDX-License-Identifier: MIT */
/*
 * mesh_plan.c - which slabs can share physical pages.
 *
 * Purpose. Slabs of one class can lie on the same page frames if no two live objects have the same place. Given the
 * occupancy of many sparse slabs, finds sets of them, as large as can be, that fit on one slab's frames each.
 *
 * Objects
 *	candidate	a sparse slab: which objects are live
 *	bin		candidates that go together, and the union of what is live in them; or a group of slabs that are
 *			meshed already, which more can join
 *
 *	by_weight[class][number of live objects] -> candidate -> candidate ...
 *
 * How. First fit, the fullest candidates first, as in bin packing: each is tried against all bins, or so many chosen at
 * random (probes), and opens a bin of its own if none takes it. A bin that has taken several fills on, so this is
 * meshing over and over, not only in pairs: 90 % of the objects of 32 to 512 bytes freed, 7.7 pages of pages per page of
 * live bytes before; pairs and pairs of pairs (SplitMesher) reach 2.6, this 1.5 (simulated). The more probes, the fuller the
 * frames: of 4,500 slabs with 9 % of 64 objects live 61 % are used after 64 probes, 74 % after 256, 83 % after 1,000.
 *
 * Bound. If a share q of the bins could take a candidate, all probes miss with probability (1 - q)^probes, less than
 * exp(-q * probes). So where a candidate is left alone, at most one bin in probes / 4 would have done, but for a chance of 2 %. The
 * work is at most PROBES_MAX comparisons of 32 bytes a candidate and COMPARISONS in all, which take about 10 ms, but PROBES_MIN
 * a candidate in any case, whatever the number of bins. SplitMesher gives the same kind of bound for pairs: Powers, Tench,
 * Berger, McGregor, "Mesh: Compacting Memory Management for C/C++ Applications", PLDI 2019, 5.3.
 *
 * Locks. None: a plan belongs to its one user, and works on copies. Things will have changed when it is carried out.
 *
 * Kernel counterpart. mm/compaction.c's two scanners, which find movable pages and free ones.
 */
#include "mesh.h"

#include "os/vm.h"
#include <string.h>

#define PROBES_MIN  64u
#define PROBES_MAX  1024u
#define COMPARISONS (1u << 22)

bool mesh_class_is_worth(unsigned cls)
{
	const struct kmem_cache *s = &kmalloc_caches[cls];
	size_t size = (size_t)s->nr_pages << PAGE_SHIFT;

	/* Larger objects have pages of their own, which go home when they are free. */
	return s->size < os_page_size && s->nr_objects > 1 && s->nr_objects <= MESH_OBJECTS_MAX && IS_ALIGNED(size, os_page_size) &&
	       size / os_page_size <= MESH_PAGES_MAX;
}

u64 occupied_pages(unsigned cls, const struct occupancy *live)
{
	size_t size = kmalloc_caches[cls].size;
	unsigned shift = ilog2(os_page_size);
	u64 map = 0;

	for_each_live(i, live)
		map |= 1ull << (i * size >> shift) | 1ull << ((i * size + size - 1) >> shift);
	return map;
}

void slab_occupancy(struct page *slab, struct occupancy *live)
{
	const u64 *bits = slab_bits(slab);
	unsigned nr = slab->nr_objects;

	memset(live, 0, sizeof(*live));
	for (unsigned i = 0; i < nr; i += 64)
		live->word[i / 64] = ~bits[i / 64] & (nr - i >= 64 ? ~0ull : (1ull << (nr - i)) - 1);
}

static size_t plan_size(u32 max)
{
	return ALIGN(sizeof(struct mesh_plan) + max * (sizeof(struct mesh_candidate) + sizeof(struct mesh_bin)) +
		     NR_KMALLOC_CLASSES * sizeof(u32[MESH_OBJECTS_MAX + 1]), os_page_size);
}

struct mesh_plan *mesh_plan_create(u32 max)
{
	struct mesh_plan *plan = vm_map(plan_size(max));

	if (!plan)
		return NULL;
	plan->max = max;
	plan->candidate = (struct mesh_candidate *)(plan + 1);
	plan->bin = (struct mesh_bin *)(plan->candidate + max);
	plan->by_weight = (u32 (*)[MESH_OBJECTS_MAX + 1])(plan->bin + max);
	plan->random = (uintptr_t)plan | 1;
	memset(plan->by_weight, 0xff, NR_KMALLOC_CLASSES * sizeof(u32[MESH_OBJECTS_MAX + 1]));
	return plan;
}

void mesh_plan_destroy(struct mesh_plan *plan)
{
	vm_unmap(plan, plan_size(plan->max));
}

bool mesh_plan_add(struct mesh_plan *plan, pfn_t pfn, unsigned cls, u8 colour, const struct occupancy *live)
{
	struct mesh_candidate *c = plan->candidate + plan->nr_candidates;
	u32 *list = &plan->by_weight[cls][occupancy_weight(live)];

	if (plan->nr_candidates == plan->max)
		return false;
	*c = (struct mesh_candidate){ .live = *live, .pfn = pfn, .next = *list, .cls = (u8)cls, .colour = colour };
	*list = plan->nr_candidates++;
	return true;
}

void mesh_plan_begin(struct mesh_plan *plan)
{
	plan->nr_bins = 0;
}

void mesh_plan_add_group(struct mesh_plan *plan, u32 group, u8 colour, const struct occupancy *live)
{
	if (plan->nr_bins < plan->max)
		plan->bin[plan->nr_bins++] = (struct mesh_bin){ .live = *live, .group = group, .first = NO_INDEX, .colour = colour };
}

/* xorshift: Marsaglia, 2003. */
static u32 random_below(struct mesh_plan *plan, u32 n)
{
	plan->random ^= plan->random << 13;
	plan->random ^= plan->random >> 7;
	plan->random ^= plan->random << 17;
	return (u32)((plan->random >> 32) * n >> 32);
}

static bool bin_takes(const struct mesh_bin *bin, const struct mesh_candidate *c)
{
	return bin->colour == c->colour && !occupancy_overlaps(&bin->live, &c->live);
}

/* A bin that takes the candidate: all are asked if they are few, else so many at random. */
static struct mesh_bin *find_bin(struct mesh_plan *plan, const struct mesh_candidate *c, u32 probes)
{
	u32 nr = plan->nr_bins;

	for (u32 i = 0; i < min(nr, probes); i++) {
		struct mesh_bin *bin = &plan->bin[nr <= probes ? i : random_below(plan, nr)];

		if (bin_takes(bin, c))
			return bin;
	}
	if (nr == plan->max)
		return NULL;
	plan->bin[plan->nr_bins++] = (struct mesh_bin){ .first = NO_INDEX, .colour = c->colour };
	return &plan->bin[nr];
}

void mesh_plan_class(struct mesh_plan *plan, unsigned cls)
{
	u32 probes = clamp(COMPARISONS / max(plan->nr_candidates, 1u), PROBES_MIN, PROBES_MAX);

	for (unsigned weight = MESH_OBJECTS_MAX; weight > 0; weight--) {
		u32 next, i = plan->by_weight[cls][weight];

		plan->by_weight[cls][weight] = NO_INDEX;
		for (; i != NO_INDEX; i = next) {
			struct mesh_candidate *c = &plan->candidate[i];
			struct mesh_bin *bin = find_bin(plan, c, probes);

			next = c->next;
			if (!bin)
				continue;
			c->next = bin->first;
			bin->first = i;
			bin->nr++;
			bin->nr_pages += (u32)__builtin_popcountll(occupied_pages(cls, &c->live));
			occupancy_add(&bin->live, &c->live);
		}
	}
}

void mesh_plan_undo(struct mesh_plan *plan, unsigned cls)
{
	for (u32 b = 0; b < plan->nr_bins; b++) {
		for (u32 next, i = plan->bin[b].first; i != NO_INDEX; i = next) {
			struct mesh_candidate *c = &plan->candidate[i];
			u32 *list = &plan->by_weight[cls][occupancy_weight(&c->live)];

			next = c->next;
			c->next = *list;
			*list = i;
		}
	}
	plan->nr_bins = 0;
}

s32 mesh_bin_gain(const struct mesh_bin *bin, unsigned cls, u64 present)
{
	u64 added = occupied_pages(cls, &bin->live) & ~present;

	return (s32)bin->nr_pages - (s32)__builtin_popcountll(added);
}
