/* SPDX-License-Identifier: MIT */
/*
 * memcontrol.h - memory groups: a tree of page counters, and who charges which. Kernel: include/linux/memcontrol.h.
 *
 * Charged are, by whole pages, slabs, large blocks, busy vmalloc areas and kmm_alloc_pages(). Not charged: metadata,
 * free pages and lazily freed areas (no group holds them), stacks, mappings of the program's own.
 *
 * Memory stays with the group that it was allocated in until it is freed, by whatever thread. Colour 0 is the root.
 */
#ifndef KMM_PAGE_MEMCONTROL_H
#define KMM_PAGE_MEMCONTROL_H

#include "arch/percpu_ops.h"
#include "base/memcg_spec.h"
#include "page/call_sites.h"
#include "page/memcg_thread.h"
#include "page/page_counter.h"
#include "page/percpu.h"
#include "page/psi.h"

#define MEMCG_NAME_MAX	32
#define MEMCG_STOCK_PAGES (KIB(64) >> PAGE_SHIFT)	/* that a CPU holds at most, already charged */

enum memcg_stat_item { MEMCG_SLAB, MEMCG_LARGE, MEMCG_VMALLOC, MEMCG_PAGES, NR_MEMCG_STATS };
enum memcg_event { MEMCG_LOW, MEMCG_HIGH, MEMCG_MAX, MEMCG_OOM, MEMCG_OOM_KILL, NR_MEMCG_EVENTS };
extern const char *const memcg_stat_names[NR_MEMCG_STATS], *const memcg_event_names[NR_MEMCG_EVENTS];

/* What happens when a group is over its max and nothing can be reclaimed (mm/oom_kill.c). */
enum memcg_oom_policy { OOM_ENOMEM, OOM_CALLBACK, OOM_REPORT, OOM_ABORT, OOM_EXIT, NR_OOM_POLICIES };
_Static_assert(ARRAY_SIZE(memcg_oom_names) == NR_OOM_POLICIES, "the rules know them all");

struct mem_cgroup {
	struct page_counter memory;
	struct mem_cgroup *parent;	/* NULL: the root */
	u32 id;				/* colour | generation << 8 */
	bool online;			/* false: removed, and waits for its last page */
	char name[MEMCG_NAME_MAX];
	int oom_policy;
	bool (*oom_fn)(int id, size_t bytes, void *arg);
	void *oom_arg;
	u32 high_seq;			/* changes when a limit does; throttled threads wait on it */
	u64 last_report_ms;
	u64 events[NR_MEMCG_EVENTS];	/* of the group and those below */
	u64 reclaimed, throttled_us;	/* pages; both of this group alone */
	struct psi_group psi;
	struct call_sites sites;	/* who asked for what it was charged */
};

extern struct mem_cgroup root_mem_cgroup;
extern struct mutex cgroup_lock;	/* taken outside the gate */
extern bool memcg_enabled;		/* there are groups besides the root, or there have been */
extern bool memcg_watched;		/* or the root has, or has had, a limit: slow paths note who allocates */

static inline unsigned memcg_colour(const struct mem_cgroup *memcg)
{
	return memcg->id % NR_COLOURS;
}

/* --- the tree; inside the gate ------------------------------------------------------------------------- */

void memcg_lock(void);
void memcg_unlock(void);
/* By colour, removed ones included; NULL: none. Valid as long as somebody is in it or it holds memory. */
struct mem_cgroup *mem_cgroup_from_colour(unsigned colour);
/* memcg lock held. By identifier or by path ("a/b", "" is the root); NULL: no such group, or it has been removed. */
struct mem_cgroup *__mem_cgroup_from_id(u32 id);
struct mem_cgroup *__mem_cgroup_from_path(const char *path, size_t len);
/*
 * A new group below parent; its colour is free, and the caller brings it online. NULL and *err: -EEXIST, -EINVAL (name),
 * -ENOSPC (255 there are), -ENOMEM.
 */
struct mem_cgroup *__mem_cgroup_create(struct mem_cgroup *parent, const char *name, size_t len, int *err);
/* -EBUSY: it has groups below it. The caller has seen to it that no thread is in it. */
int __mem_cgroup_remove(struct mem_cgroup *memcg);
bool mem_cgroup_is_online(unsigned colour);		/* there, and not removed */
/*
 * Removed groups that hold nothing any more are no longer there; how many. The caller lets everybody leave the gate before,
 * and again before a group is created.
 */
u32 __mem_cgroup_forget_empty(void);
/* Is it memcg, or below it? */
bool mem_cgroup_is_descendant(const struct mem_cgroup *child, const struct mem_cgroup *memcg);
size_t mem_cgroup_path(const struct mem_cgroup *memcg, char *buf, size_t size);

/* All that there are, the root first, removed ones included. */
#define for_each_mem_cgroup(m)                                                                                         \
	for (unsigned colour_ = 0; colour_ < NR_COLOURS; colour_++)                                                    \
		for (struct mem_cgroup *m = mem_cgroup_from_colour(colour_); m; m = NULL)

/* --- charging; any context ------------------------------------------------------------------------------ */

/*
 * nr pages to the group and all above it, tried before use. false: over some max, which is noted in memcg_thread, and the
 * allocation fails; who called it from outside, with no lock held, then asks memcg_make_room() (mm/memcg_reclaim.h).
 */
bool memcg_charge(unsigned colour, enum memcg_stat_item item, u64 nr);
void memcg_uncharge(unsigned colour, enum memcg_stat_item item, u64 nr);
/*
 * Code of others that does not survive a failing malloc() (hwloc) is called with pages charged to the root in advance, which
 * the calling thread gets where there is no room. false: there is none now. Stock of the root until memcg_unprepay().
 */
bool memcg_prepay(u32 nr);
void memcg_unprepay(void);
/* Takes back what CPUs hold in advance for the group; and those below it. */
void drain_stock(struct mem_cgroup *memcg);
void drain_stocks(const struct mem_cgroup *memcg);
u64 memcg_stat(unsigned colour, enum memcg_stat_item item);	/* pages of this group alone */
u64 memcg_stock(unsigned colour);				/* the same, held in advance */
void memcg_count_event(struct mem_cgroup *memcg, enum memcg_event event);	/* there and above */
/* A limit or more has changed: whoever is throttled looks again. */
void memcg_limits_changed(struct mem_cgroup *memcg);
void memcg_reset_child(void);

/* Inside the gate: the slot, but the calling thread's group's if its own has just been removed (rules by library). */
static inline unsigned memcg_online_slot(unsigned slot)
{
	unsigned bits = slot & MEMCG_COLOUR_BITS;

	if (likely(!bits || mem_cgroup_is_online(bits >> MAP_COLOUR_SHIFT)))
		return slot;
	return slot - bits + (memcg_thread.word & MEMCG_COLOUR_BITS);
}

#endif
