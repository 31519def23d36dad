/* SPDX-License-Identifier: MIT */
/*
 * oom_kill.c - a memory group is over its max and has nothing to give: what now.
 *
 * Purpose. The policy of the group whose max is in the way decides:
 *   enomem      the allocation fails: malloc returns NULL, new throws
 *   callback    a function of the program is asked; it frees something, raises the limit, or says no
 *   report      a report, then as enomem
 *   abort       a report, then abort()
 *   exit        a report, then the process ends at once with status 137, as if the kernel had killed it
 *
 * The report is the kernel's: who asked for how much, and from where; the groups with their use and limits; the classes that
 * hold most; the callers that most was charged for (page/call_sites.c). It allocates nothing. A group reports once a second at most; the first time always.
 *
 * The reserve. Whoever is refused may have to allocate in order to say so: an exception, a message. So a small part of
 * each max (page_counter.c) is kept for threads that have just been refused; each may use up to RESERVE_CREDIT of it for
 * slabs, until it has seen as much room as is set aside: a slab has 16 KiB mostly, and unwinding needs objects of a dozen
 * classes. One allocation gets one slab, not what would fill a sheaf. The size that was refused is refused once more, since
 * operator new asks twice, and then gets REFUSED_SLABS: a handler may need that size, but a loop shall not eat the reserve up.
 * It is part of max: no group exceeds that.
 *
 * Locks. None on entry. The callback is called with nothing held and may allocate; when that fails it is not called again.
 *
 * Kernel counterpart and what differs. mm/oom_kill.c: out_of_memory(), dump_header(); mm/memcontrol.c:
 * mem_cgroup_print_oom_meminfo(). There is one process here, so nobody is chosen.
 */
#include "mm/memcg_reclaim.h"

#include "base/printk.h"
#include "internal.h"
#include "mm/dso.h"
#include "mm/gate.h"
#include "os/os.h"
#include "page/memblock.h"
#include <stdlib.h>

#define RESERVE_CREDIT	(KIB(256) >> PAGE_SHIFT)
#define REFUSED_SLABS	2
#define REPORT_EVERY_MS 1000u
#define REPORT_CLASSES	8u
#define REPORT_SITES	6u
#define OOM_EXIT_STATUS 137	/* 128 + SIGKILL */

static __thread bool in_callback __initial_exec;

/* --- the report ------------------------------------------------------------------------------------------- */

static void format_pages(char *buf, size_t size, u64 pages)
{
	if (pages == PAGE_COUNTER_MAX)
		kmm_snprintf(buf, size, "max");
	else
		kmm_snprintf(buf, size, "%lukB", pages << (PAGE_SHIFT - 10));
}

static void report_group(const struct mem_cgroup *m)
{
	char path[128], max[24], high[24];
	unsigned c = memcg_colour(m);

	mem_cgroup_path(m, path, sizeof(path));
	format_pages(max, sizeof(max), READ_ONCE(m->memory.max));
	format_pages(high, sizeof(high), READ_ONCE(m->memory.high));
	pr_info("oom: group %s: usage %lukB, limit %s, high %s, peak %lukB, failcnt %lu; own: slab %lukB large %lukB "
		"vmalloc %lukB pages %lukB",
		path, READ_ONCE(m->memory.usage) << 2, max, high, READ_ONCE(m->memory.watermark) << 2,
		READ_ONCE(m->events[MEMCG_MAX]), memcg_stat(c, MEMCG_SLAB) << 2, memcg_stat(c, MEMCG_LARGE) << 2,
		memcg_stat(c, MEMCG_VMALLOC) << 2, memcg_stat(c, MEMCG_PAGES) << 2);
}

struct class_use {
	unsigned cls;
	u64 bytes, nr_slabs, in_use, cached;
};

/* Of the group and those below it. */
static struct class_use class_use(const struct mem_cgroup *over, unsigned cls)
{
	struct class_use use = { .cls = cls };
	struct slabinfo si;

	for_each_mem_cgroup(m) {
		if (!mem_cgroup_is_descendant(m, over))
			continue;
		get_colour_slabinfo(cls, memcg_colour(m), &si);
		use.nr_slabs += si.nr_slabs;
		use.cached += si.nr_sheaf + si.nr_barn;
		use.in_use += si.nr_objects - min(si.nr_objects, si.nr_free + si.nr_sheaf + si.nr_barn);
	}
	use.bytes = use.nr_slabs * cache_of(cls)->nr_pages * PAGE_SIZE;
	return use;
}

static void report_slabs(const struct mem_cgroup *over)
{
	struct class_use top[REPORT_CLASSES] = { { 0 } };

	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++) {
		struct class_use use = class_use(over, cls);

		for (unsigned i = 0; i < REPORT_CLASSES; i++)
			if (use.bytes > top[i].bytes)
				swap(use, top[i]);
	}
	for (unsigned i = 0; i < REPORT_CLASSES && top[i].bytes; i++)
		pr_info("oom: kmalloc-%u: %lukB in %lu slabs, %lu objects in use, %lu cached", cache_of(top[i].cls)->size,
			top[i].bytes >> 10, top[i].nr_slabs, top[i].in_use, top[i].cached);
}

/* Outside the gate. */
static void report_sites(const struct call_sites *sites)
{
	char where[96];

	for (unsigned i = 0; i < REPORT_SITES && sites->site[i].pages; i++) {
		format_code_address(where, sizeof(where), sites->site[i].caller);
		pr_info("oom: call site %s: %lukB, %lu%% of what was charged lately", where, sites->site[i].pages << 2,
			sites->site[i].pages * 100 / max(sites->total, (u64)1));
	}
}

static void report_groups(struct mem_cgroup *over, struct call_sites *sites)
{
	*sites = (struct call_sites){ .busy = 0 };
	gate_enter();
	for_each_mem_cgroup(m) {
		if (!mem_cgroup_is_descendant(m, over))
			continue;
		report_group(m);
		call_sites_merge(sites, &m->sites);
	}
	call_sites_sort(sites);
	report_slabs(over);
	gate_leave();
}

void oom_report(struct mem_cgroup *over, size_t bytes)
{
	u64 now = os_clock_ms() | 1, last = READ_ONCE(over->last_report_ms);
	char comm[16] = "", path[128], where[96] = "an unknown place";
	struct call_sites sites;

	if ((last && now - last < REPORT_EVERY_MS) ||
	    !__atomic_compare_exchange_n(&over->last_report_ms, &last, now, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
		return;
	os_comm(comm);
	mem_cgroup_path(over, path, sizeof(path));
	if (memcg_thread.caller)
		format_code_address(where, sizeof(where), memcg_thread.caller);
	pr_warn("oom: thread %s (%d) of process %d wants %zu bytes at %s and memory group %s is at its limit", comm,
		os_gettid(), os_getpid(), bytes, where, path);
	report_groups(over, &sites);
	report_sites(&sites);
	pr_info("oom: metadata %lukB (not charged), policy %s", memblock_bytes() >> 10,
		memcg_oom_names[READ_ONCE(over->oom_policy)]);
}

/* --- the policy -------------------------------------------------------------------------------------------- */

static bool ask_callback(struct mem_cgroup *over, size_t bytes)
{
	bool (*fn)(int, size_t, void *) = READ_ONCE(over->oom_fn);
	bool again;

	if (!fn || in_callback)
		return false;
	in_callback = true;
	again = fn((int)over->id, bytes, READ_ONCE(over->oom_arg));
	in_callback = false;
	return again;
}

static void note_refused(u32 bytes)
{
	if (!memcg_thread.refused) {
		memcg_thread.refused = true;
		memcg_thread.refused_bytes = bytes;
		memcg_thread.refused_again = false;
		memcg_thread.refused_slabs = 0;
		memcg_thread.emergency = RESERVE_CREDIT;
	} else if (!memcg_thread.refused_again && memcg_thread.refused_bytes == bytes) {
		memcg_thread.refused_again = true;
		memcg_thread.refused_slabs = REFUSED_SLABS;
	}
}

bool out_of_memory(struct mem_cgroup *over, size_t bytes)
{
	memcg_count_event(over, MEMCG_OOM);
	switch (READ_ONCE(over->oom_policy)) {
	case OOM_CALLBACK:
		if (ask_callback(over, bytes))
			return true;
		break;
	case OOM_REPORT:
		oom_report(over, bytes);
		break;
	case OOM_ABORT:
		oom_report(over, bytes);
		memcg_count_event(over, MEMCG_OOM_KILL);
		abort();
	case OOM_EXIT:
		oom_report(over, bytes);
		memcg_count_event(over, MEMCG_OOM_KILL);
		os_exit(OOM_EXIT_STATUS);
	}
	note_refused((u32)min(bytes, (size_t)UINT32_MAX));
	return false;
}
