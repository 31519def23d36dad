/* SPDX-License-Identifier: MIT */
/* groups.h - what the tests of memory groups share: making them, allocating in them, removing them. */
#ifndef KMM_TESTS_UNIT_GROUPS_H
#define KMM_TESTS_UNIT_GROUPS_H

#include "boot.h"
#include "mm/gate.h"
#include "mm/memcg_reclaim.h"
#include "mm/memcg_rules.h"
#include "page/memcontrol.h"

static inline struct mem_cgroup *new_group(struct mem_cgroup *parent, const char *name)
{
	struct mem_cgroup *memcg;
	int err = 0;

	gate_enter();
	memcg_lock();
	memcg = __mem_cgroup_make(parent, name, strlen(name), &err);
	memcg_unlock();
	gate_leave();
	CHECK(memcg && err == 0);
	return memcg;
}

/* NULL: there is none. */
static inline struct mem_cgroup *find_group(const char *path)
{
	struct mem_cgroup *memcg;

	gate_enter();
	memcg_lock();
	memcg = __mem_cgroup_from_path(path, strlen(path));
	memcg_unlock();
	gate_leave();
	return memcg;
}

/* As kmm_memcg_remove(); colours that are free again. */
static inline u32 remove_group(struct mem_cgroup *memcg)
{
	u32 nr;

	mutex_lock(&cgroup_lock, LOCK_cgroup);
	gate_enter();
	memcg_lock();
	CHECK(__mem_cgroup_remove(memcg) == 0);
	__memcg_forget_rules(memcg);
	memcg_unlock();
	gate_leave();
	nr = memcg_reap();
	mutex_unlock(&cgroup_lock, LOCK_cgroup);
	return nr;
}

/* As malloc does where there are groups. */
static inline void *kmalloc_in(const struct mem_cgroup *memcg, size_t size)
{
	unsigned slot = kmalloc_class(size) | memcg_colour(memcg) << MAP_COLOUR_SHIFT;
	void *p = this_cpu_pop(slot);

	return p ? p : kmem_cache_alloc_slowpath(slot);
}

static inline bool charge(const struct mem_cgroup *memcg, u64 nr)
{
	bool ok;

	gate_enter();
	memcg_thread.failed = 0;
	ok = memcg_charge(memcg_colour(memcg), MEMCG_PAGES, nr);
	gate_leave();
	return ok;
}

static inline void uncharge(const struct mem_cgroup *memcg, u64 nr)
{
	gate_enter();
	memcg_uncharge(memcg_colour(memcg), MEMCG_PAGES, nr);
	gate_leave();
}

static inline void drain_group_stocks(const struct mem_cgroup *memcg)
{
	gate_enter();
	drain_stocks(memcg);
	gate_leave();
}

/* Pages that the group itself holds, by what for. */
static inline u64 own_pages(const struct mem_cgroup *memcg)
{
	u64 sum = memcg_stock(memcg_colour(memcg));

	for (int i = 0; i < NR_MEMCG_STATS; i++)
		sum += memcg_stat(memcg_colour(memcg), (enum memcg_stat_item)i);
	return sum;
}

#endif
