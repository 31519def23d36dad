/* SPDX-License-Identifier: MIT */
/*
 * memcg_show.c - what memory groups show of themselves: the files that kmm_memcg_read() gives, and the statistics' section.
 *
 * Purpose: the kernel's format. Each file is a function that prints into a bounded buffer; nothing is allocated.
 *
 *	memory.stat	bytes of this group alone
 *		slab large vmalloc pages	charged for; their sum and stock is what the group holds itself
 *		stock				charged in advance, held by CPUs
 *		caches				free objects in sheaves and barns, part of slab
 *		slab_free			free objects in slabs, part of slab
 *		metadata			the allocator's own, not charged; the root's only
 *		reclaimed throttled_usec	since the beginning
 *
 * Kernel counterpart: mm/memcontrol.c (memory_stat_show, memory_events_show), kernel/sched/psi.c (psi_show).
 */
#include "api/memcg.h"

#include "api/stats.h"
#include "base/printk.h"
#include "kmm/kmm.h"
#include "mm/gate.h"
#include "mm/slab.h"
#include "os/os.h"
#include "page/memblock.h"
#include <errno.h>
#include <string.h>

/* --- files ------------------------------------------------------------------------------------------------- */

struct out {
	char *buf;
	size_t size, used;
};

static void print(struct out *out, const char *fmt, ...) __printf(2, 3);
static void print(struct out *out, const char *fmt, ...)
{
	size_t room = out->size - min(out->used, out->size);
	char none[1];
	va_list ap;

	va_start(ap, fmt);
	out->used += (size_t)kmm_vsnprintf(room ? out->buf + out->used : none, room ? room : 1, fmt, ap);
	va_end(ap);
}

static void print_pages(struct out *out, u64 pages)
{
	if (pages == PAGE_COUNTER_MAX)
		print(out, "max\n");
	else
		print(out, "%lu\n", pages << PAGE_SHIFT);
}

static void show_current(struct out *out, struct mem_cgroup *m)
{
	print_pages(out, READ_ONCE(m->memory.usage));
}

static void show_peak(struct out *out, struct mem_cgroup *m)
{
	print_pages(out, READ_ONCE(m->memory.watermark));
}

static void show_max(struct out *out, struct mem_cgroup *m)
{
	print_pages(out, READ_ONCE(m->memory.max));
}

static void show_high(struct out *out, struct mem_cgroup *m)
{
	print_pages(out, READ_ONCE(m->memory.high));
}

static void show_low(struct out *out, struct mem_cgroup *m)
{
	print_pages(out, READ_ONCE(m->memory.low));
}

static void show_min(struct out *out, struct mem_cgroup *m)
{
	print_pages(out, READ_ONCE(m->memory.min));
}

static void show_events(struct out *out, struct mem_cgroup *m)
{
	for (int i = 0; i < NR_MEMCG_EVENTS; i++)
		print(out, "%s %lu\n", memcg_event_names[i], READ_ONCE(m->events[i]));
}

/* Bytes of free objects in sheaves and barns, and in slabs. */
static void count_caches(unsigned colour, u64 *caches, u64 *slab_free)
{
	struct slabinfo si;

	*caches = *slab_free = 0;
	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++) {
		get_colour_slabinfo(cls, colour, &si);
		*caches += (si.nr_sheaf + si.nr_barn) * cache_of(cls)->size;
		*slab_free += si.nr_free * cache_of(cls)->size;
	}
}

static void show_stat(struct out *out, struct mem_cgroup *m)
{
	unsigned c = memcg_colour(m);
	u64 caches, slab_free;

	gate_enter();
	count_caches(c, &caches, &slab_free);
	gate_leave();
	for (int i = 0; i < NR_MEMCG_STATS; i++)
		print(out, "%s %lu\n", memcg_stat_names[i], memcg_stat(c, (enum memcg_stat_item)i) << PAGE_SHIFT);
	print(out, "stock %lu\ncaches %lu\nslab_free %lu\nmetadata %lu\nreclaimed %lu\nthrottled_usec %lu\n",
	      memcg_stock(c) << PAGE_SHIFT, caches, slab_free, m->parent ? 0 : memblock_bytes(),
	      READ_ONCE(m->reclaimed) << PAGE_SHIFT, READ_ONCE(m->throttled_us));
}

static const char *const psi_state_names[NR_PSI_STATES] = { "some", "full" };

static void get_pressure(struct mem_cgroup *m, struct psi_show psi[NR_PSI_STATES])
{
	gate_enter();
	psi_show(&m->psi, os_clock_ns(), psi);
	gate_leave();
}

static void show_pressure(struct out *out, struct mem_cgroup *m)
{
	struct psi_show psi[NR_PSI_STATES], *p = psi;

	get_pressure(m, psi);
	for (int s = 0; s < NR_PSI_STATES; s++, p++)
		print(out, "%s avg10=%u.%02u avg60=%u.%02u avg300=%u.%02u total=%lu\n", psi_state_names[s], p->avg[0] / 100,
		      p->avg[0] % 100, p->avg[1] / 100, p->avg[1] % 100, p->avg[2] / 100, p->avg[2] % 100, p->total_us);
}

static void show_oom(struct out *out, struct mem_cgroup *m)
{
	print(out, "%s\n", memcg_oom_names[READ_ONCE(m->oom_policy)]);
}

static const struct {
	const char *name;
	void (*show)(struct out *out, struct mem_cgroup *m);
} files[] = {
	{ "memory.current", show_current }, { "memory.peak", show_peak }, { "memory.max", show_max },
	{ "memory.high", show_high }, { "memory.low", show_low }, { "memory.min", show_min },
	{ "memory.events", show_events }, { "memory.stat", show_stat }, { "memory.pressure", show_pressure },
	{ "memory.oom", show_oom },
};

EXPORT_SYMBOL ssize_t kmm_memcg_read(int id, const char *file, char *buf, size_t size)
{
	struct mem_cgroup *memcg = memcg_by_id(id);
	struct out out = { .buf = buf, .size = size };

	for (unsigned i = 0; memcg && i < ARRAY_SIZE(files); i++) {
		if (strcmp(file, files[i].name) == 0) {
			files[i].show(&out, memcg);
			return (ssize_t)out.used;
		}
	}
	errno = ENOENT;
	return -1;
}

/* --- the section ------------------------------------------------------------------------------------------- */

static void seq_pages(struct seq_file *m, const char *key, u64 pages)
{
	char text[24];

	if (pages == PAGE_COUNTER_MAX)
		seq_str(m, key, "max");
	else if (kmm_snprintf(text, sizeof(text), "%lu", pages << PAGE_SHIFT))
		seq_str(m, key, text);
}

static void show_group(struct seq_file *m, struct mem_cgroup *memcg)
{
	static const char *const avg_keys[NR_PSI_STATES][NR_PSI_AVGS] = { { "some_avg10", "some_avg60", "some_avg300" },
									  { "full_avg10", "full_avg60", "full_avg300" } };
	static const char *const total_keys[NR_PSI_STATES] = { "some_usec", "full_usec" };
	unsigned c = memcg_colour(memcg);
	u64 caches, slab_free;
	struct psi_show psi[NR_PSI_STATES];
	char path[128], text[16];

	mem_cgroup_path(memcg, path, sizeof(path));
	count_caches(c, &caches, &slab_free);
	get_pressure(memcg, psi);
	seq_row(m);
	seq_str(m, "path", memcg->online ? path : "(removed)");
	seq_u64(m, "colour", c, NULL);
	seq_u64(m, "current", READ_ONCE(memcg->memory.usage) << PAGE_SHIFT, NULL);
	seq_u64(m, "peak", READ_ONCE(memcg->memory.watermark) << PAGE_SHIFT, NULL);
	seq_pages(m, "max", READ_ONCE(memcg->memory.max));
	seq_pages(m, "high", READ_ONCE(memcg->memory.high));
	seq_pages(m, "low", READ_ONCE(memcg->memory.low));
	seq_pages(m, "min", READ_ONCE(memcg->memory.min));
	seq_str(m, "oom", memcg_oom_names[READ_ONCE(memcg->oom_policy)]);
	seq_u64(m, "ev_low", READ_ONCE(memcg->events[MEMCG_LOW]), NULL);
	seq_u64(m, "ev_high", READ_ONCE(memcg->events[MEMCG_HIGH]), NULL);
	seq_u64(m, "ev_max", READ_ONCE(memcg->events[MEMCG_MAX]), NULL);
	seq_u64(m, "ev_oom", READ_ONCE(memcg->events[MEMCG_OOM]), NULL);
	seq_u64(m, "ev_oom_kill", READ_ONCE(memcg->events[MEMCG_OOM_KILL]), NULL);
	for (int i = 0; i < NR_MEMCG_STATS; i++)
		seq_u64(m, memcg_stat_names[i], memcg_stat(c, (enum memcg_stat_item)i) << PAGE_SHIFT, NULL);
	seq_u64(m, "stock", memcg_stock(c) << PAGE_SHIFT, NULL);
	seq_u64(m, "caches", caches, NULL);
	seq_u64(m, "slab_free", slab_free, NULL);
	seq_u64(m, "reclaimed", READ_ONCE(memcg->reclaimed) << PAGE_SHIFT, NULL);
	seq_u64(m, "throttled_usec", READ_ONCE(memcg->throttled_us), NULL);
	for (int s = 0; s < NR_PSI_STATES; s++) {
		for (int i = 0; i < NR_PSI_AVGS; i++) {
			kmm_snprintf(text, sizeof(text), "%u.%02u", psi[s].avg[i] / 100, psi[s].avg[i] % 100);
			seq_str(m, avg_keys[s][i], text);
		}
		seq_u64(m, total_keys[s], psi[s].total_us, NULL);
	}
	seq_row_end(m);
}

void show_memcg(struct seq_file *m)
{
	seq_section(m, "memcg");
	seq_str(m, "Groups", memcg_enabled ? "on" : "off");
	seq_u64(m, "Metadata", memblock_bytes(), "bytes");
	seq_table(m, "groups");
	for_each_mem_cgroup(memcg)
		show_group(m, memcg);
	seq_table_end(m);
	seq_section_end(m);
}
