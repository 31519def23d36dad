/* SPDX-License-Identifier: MIT */
/*
 * memcg.c - memory groups for the program: kmm_memcg_*(), and the shrinkers.
 *
 * Purpose: the doors to page/memcontrol.c and mm/memcg_rules.c, with names, numbers and errno. What is written to a
 * group's files is checked here, in whole, before anything changes; what they show is in memcg_show.c.
 *
 * Locks: cgroup, outside the gate, for making and removing; memcg, inside of it, for the tree. Reclaim runs outside of all.
 *
 * Kernel counterpart: kernel/cgroup/cgroup.c (cgroup_mkdir, cgroup_rmdir, cgroup_attach_task), the cftypes of
 * mm/memcontrol.c (memory_max_write, memory_high_write, memory_reclaim).
 */
#include "api/malloc.h"
#include "api/memcg.h"
#include "base/param.h"
#include "kmm/kmm.h"
#include "mm/gate.h"
#include "mm/memcg_reclaim.h"
#include "mm/memcg_rules.h"
#include "mm/mm_struct.h"
#include <errno.h>
#include <string.h>

static int fail(int err)
{
	errno = err;
	return -1;
}

static void lock_tree(void)
{
	kmm_boot();
	gate_enter();
	memcg_lock();
}

static void unlock_tree(void)
{
	memcg_unlock();
	gate_leave();
}

struct mem_cgroup *memcg_by_id(int id)
{
	struct mem_cgroup *memcg;

	lock_tree();
	memcg = id >= 0 ? __mem_cgroup_from_id((u32)id) : NULL;
	unlock_tree();
	return memcg;
}

/* --- the tree ---------------------------------------------------------------------------------------------- */

/* Its number or -errno. */
static int create_group(const char *path)
{
	const char *slash, *name;
	struct mem_cgroup *parent, *memcg = NULL;
	int err = ENOENT, id = -1;

	path += *path == '/';
	slash = strrchr(path, '/');
	name = slash ? slash + 1 : path;
	lock_tree();
	parent = __mem_cgroup_from_path(path, slash ? (size_t)(slash - path) : 0);
	if (parent) {
		memcg = __mem_cgroup_make(parent, name, strlen(name), &err);
		err = -err;
	}
	if (memcg)
		id = (int)memcg->id;
	unlock_tree();
	return memcg ? id : -err;
}

EXPORT_SYMBOL int kmm_memcg_create(const char *path)
{
	int id;

	kmm_boot();
	if (gate_is_inside())
		return fail(EBUSY);
	mutex_lock(&cgroup_lock, LOCK_cgroup);
	id = create_group(path);
	if (id == -ENOSPC && memcg_reap())
		id = create_group(path);
	mutex_unlock(&cgroup_lock, LOCK_cgroup);
	return id >= 0 ? id : fail(-id);
}

EXPORT_SYMBOL int kmm_memcg_find(const char *path)
{
	struct mem_cgroup *memcg;
	int id;

	path += *path == '/';
	lock_tree();
	memcg = __mem_cgroup_from_path(path, strlen(path));
	id = memcg ? (int)memcg->id : -1;
	unlock_tree();
	return memcg ? id : fail(ENOENT);
}

static int remove_group(int id)
{
	struct mem_cgroup *memcg;
	int err;

	lock_tree();
	memcg = id >= 0 ? __mem_cgroup_from_id((u32)id) : NULL;
	if (!memcg)
		err = ENOENT;
	else if (!memcg->parent)
		err = EINVAL;
	else if (nr_tasks_in_memcg(memcg_colour(memcg)))
		err = EBUSY;
	else
		err = -__mem_cgroup_remove(memcg);
	if (!err)
		__memcg_forget_rules(memcg);
	unlock_tree();
	return err;
}

EXPORT_SYMBOL int kmm_memcg_remove(int id)
{
	int err;

	kmm_boot();
	if (gate_is_inside())
		return fail(EBUSY);
	mutex_lock(&cgroup_lock, LOCK_cgroup);
	err = remove_group(id);
	if (!err)
		memcg_reap();
	mutex_unlock(&cgroup_lock, LOCK_cgroup);
	return err ? fail(err) : 0;
}

EXPORT_SYMBOL int kmm_memcg_attach(int id, int tid)
{
	int ret;

	kmm_boot();
	ret = id >= 0 ? memcg_attach((u32)id, tid) : -ENOENT;
	return ret ? fail(-ret) : 0;
}

EXPORT_SYMBOL int kmm_memcg_current(void)
{
	kmm_boot();
	if (memcg_enabled)
		memcg_recheck_thread();
	return (int)mem_cgroup_from_colour(memcg_word_colour(memcg_thread.word))->id;
}

/* --- limits ------------------------------------------------------------------------------------------------ */

/* A limit that is below what is used: what can go, goes. */
static void limit_changed(struct mem_cgroup *memcg, u64 pages)
{
	u64 usage = READ_ONCE(memcg->memory.usage);

	memcg_limits_changed(memcg);
	if (usage > pages)
		mem_cgroup_reclaim(memcg, (usage - pages) << PAGE_SHIFT);
}

static int set_limit(struct mem_cgroup *memcg, enum memcg_limit which, const char *value)
{
	u64 limit, pages;

	if (parse_limit(value, strlen(value), &limit))
		return EINVAL;
	if (resolve_limit(limit, &pages))
		pages = PAGE_COUNTER_MAX;
	switch (which) {
	case MEMCG_LIMIT_MAX:
		page_counter_set_max(&memcg->memory, pages);
		limit_changed(memcg, pages);
		break;
	case MEMCG_LIMIT_HIGH:
		WRITE_ONCE(memcg->memory.high, pages);
		limit_changed(memcg, pages);
		break;
	case MEMCG_LIMIT_LOW:
		WRITE_ONCE(memcg->memory.low, pages);
		break;
	default:
		WRITE_ONCE(memcg->memory.min, pages);
	}
	return 0;
}

static int set_policy(struct mem_cgroup *memcg, const char *value)
{
	for (int i = 0; i < NR_OOM_POLICIES; i++) {
		if (strcmp(value, memcg_oom_names[i]) == 0) {
			WRITE_ONCE(memcg->oom_policy, i);
			return 0;
		}
	}
	return EINVAL;
}

static int reclaim_now(struct mem_cgroup *memcg, const char *value)
{
	u64 bytes;

	if (parse_limit(value, strlen(value), &bytes) || bytes >= LIMIT_SPECIAL)
		return EINVAL;
	return mem_cgroup_reclaim(memcg, bytes) << PAGE_SHIFT >= bytes ? 0 : EAGAIN;
}

EXPORT_SYMBOL int kmm_memcg_set(int id, const char *file, const char *value)
{
	struct mem_cgroup *memcg = memcg_by_id(id);
	int err = ENOENT;

	if (!memcg || strncmp(file, "memory.", 7) != 0)
		return fail(ENOENT);
	file += 7;
	for (int i = 0; i < NR_MEMCG_LIMITS; i++)
		if (strcmp(file, memcg_limit_names[i]) == 0)
			err = set_limit(memcg, (enum memcg_limit)i, value);
	if (strcmp(file, "oom") == 0)
		err = set_policy(memcg, value);
	if (strcmp(file, "reclaim") == 0)
		err = reclaim_now(memcg, value);
	return err ? fail(err) : 0;
}

EXPORT_SYMBOL int kmm_memcg_set_oom(int id, bool (*fn)(int memcg, size_t bytes, void *arg), void *arg)
{
	struct mem_cgroup *memcg = memcg_by_id(id);

	if (!memcg)
		return fail(ENOENT);
	WRITE_ONCE(memcg->oom_fn, NULL);
	WRITE_ONCE(memcg->oom_arg, arg);
	__atomic_store_n(&memcg->oom_fn, fn, __ATOMIC_RELEASE);
	WRITE_ONCE(memcg->oom_policy, OOM_CALLBACK);
	return 0;
}

/* --- shrinkers --------------------------------------------------------------------------------------------- */

EXPORT_SYMBOL int kmm_register_shrinker(int id, size_t (*shrink)(size_t bytes, void *arg), void *arg)
{
	int nr;

	if (!memcg_by_id(id))
		return fail(ENOENT);
	nr = register_memcg_shrinker((u32)id, shrink, arg);
	return nr >= 0 ? nr : fail(-nr);
}

EXPORT_SYMBOL int kmm_unregister_shrinker(int nr)
{
	int ret = unregister_memcg_shrinker(nr);

	return ret ? fail(-ret) : 0;
}
