/* SPDX-License-Identifier: MIT */
/*
 * stats_show.c - the sections of the statistics, in the manner of /proc.
 *
 * Purpose: says once, through seq_file, what each section holds; text and JSON come from the same calls. Nothing
 * is allocated.
 *
 *	layout		the regions of libkmm's address space, and the choices made at boot
 *	meminfo		where the memory is
 *	buddyinfo	free blocks by zone and order
 *	pagetypeinfo	the same by migrate type; pageblocks of each type
 *	slabinfo	size classes that have slabs
 *	vmallocinfo	large blocks
 *	zoneinfo	zones, watermarks, per-CPU page lists
 *	vmstat		every event counter
 *	memcg		memory groups (memcg_show.c)
 *	mm		the process: code, data, brk, stack, arguments, tasks, mappings
 *
 * Locks: each section enters the gate for itself, so that a fork waits for one section at most. Zones are copied
 * under their lock and printed afterwards; tables of areas, mappings and tasks are printed under theirs.
 *
 * Kernel counterpart: fs/proc/meminfo.c, and the *info files of mm/vmstat.c, mm/slub.c, mm/vmalloc.c.
 */
#include "api/stats.h"
#include "api/memcg.h"

#include "arch/percpu_ops.h"
#include "arch/topology.h"
#include "base/param.h"
#include "base/printk.h"
#include "kmm/kmm.h"
#include "mm/gate.h"
#include "mm/kmmd.h"
#include "mm/mm_struct.h"
#include "mm/slab.h"
#include "mm/vmalloc.h"
#include "os/os.h"
#include "os/vm.h"
#include "page/memblock.h"
#include "page/page_alloc.h"
#include "page/percpu.h"
#include "page/sparse.h"
#include <string.h>

/* seq_file keeps the keys of a table's columns by address. */
static const char *const order_keys[] = { "order0", "order1", "order2", "order3", "order4", "order5", "order6", "order7",
	"order8", "order9", "order10", "order11", "order12", "order13", "order14" };
_Static_assert(ARRAY_SIZE(order_keys) == NR_PAGE_ORDERS, "one key an order");

static void seq_kb(struct seq_file *m, const char *key, u64 bytes)
{
	seq_u64(m, key, bytes >> 10, "kB");
}

/* --- layout ----------------------------------------------------------------------------------------------- */

static const char *percpu_mode_name(void)
{
	switch (percpu_mode) {
	case PERCPU_MODE_RSEQ:
		return "rseq";
	case PERCPU_MODE_LOCK:
		return "lock";
	default:
		return "boot";
	}
}

static void show_layout(struct seq_file *m)
{
	u64 limit = os_address_space_limit();
	char comm[16] = "";

	os_thread_comm(os_getpid(), comm);
	seq_section(m, "layout");
	seq_str(m, "Version", kmm_version());
	seq_u64(m, "Pid", (u64)os_getpid(), NULL);
	seq_str(m, "Command", comm);
	seq_str(m, "PerCpuMode", percpu_mode_name());
	seq_str(m, "PerCpuIndex", percpu_uses_mm_cid() ? "mm_cid" : "cpu");
	seq_u64(m, "PerCpuAreas", nr_percpu_areas(), NULL);
	seq_u64(m, "PerCpuAreasMax", max_percpu_areas, NULL);
	seq_str(m, "Topology", topology_loaded() ? "hwloc" : "one domain");
	seq_str(m, "Kmmd", kmmd_running() ? "running" : "not started");
	seq_u64(m, "KmmdCpuMs", kmmd_cpu_ns() / 1000000u, NULL);
	seq_kb(m, "PageSize", PAGE_SIZE);
	seq_kb(m, "OsPageSize", os_page_size);
	seq_kb(m, "Ram", os_ram_bytes());
	if (limit != UINT64_MAX)
		seq_kb(m, "AddressSpaceLimit", limit);
	seq_hex(m, "WindowStart", direct_map.start);
	seq_hex(m, "OnlineEnd", direct_map.start + (direct_map.limit16 << 4));
	seq_hex(m, "WindowEnd", direct_map.end);
	seq_table(m, "regions");
	for (unsigned i = 0; i < NR_REGIONS; i++) {
		if (regions[i].name == NULL)
			continue;
		seq_row(m);
		seq_hex(m, "start", regions[i].start);
		seq_hex(m, "end", regions[i].end);
		seq_u64(m, "size", (regions[i].end - regions[i].start) >> 10, "kB");
		seq_str(m, "name", regions[i].name);
		seq_str(m, "use", regions[i].help);
		seq_row_end(m);
	}
	seq_table_end(m);
	seq_section_end(m);
}

/* --- meminfo ---------------------------------------------------------------------------------------------- */

/* One "Key:   123 kB" of /proc/self/smaps_rollup. */
static void show_smaps_line(struct seq_file *m, const char *text, const char *name, const char *key)
{
	size_t len = strlen(name);

	for (const char *line = text; line != NULL && *line != '\0'; line = strchr(line, '\n')) {
		u64 kb = 0;

		if (*line == '\n')
			line++;
		if (strncmp(line, name, len) != 0 || line[len] != ':')
			continue;
		for (line += len + 1; *line == ' '; line++)
			;
		for (; *line >= '0' && *line <= '9'; line++)
			kb = kb * 10 + (u64)(*line - '0');
		seq_u64(m, key, kb, "kB");
		return;
	}
}

/* What the kernel says of the whole process; nothing where there is no /proc. */
static void show_resident(struct seq_file *m)
{
	char text[2048];

	if (os_read_file("/proc/self/smaps_rollup", text, sizeof(text)) <= 0)
		return;
	show_smaps_line(m, text, "Rss", "Rss");
	show_smaps_line(m, text, "Pss", "Pss");
	show_smaps_line(m, text, "AnonHugePages", "AnonHugePages");
}

static void show_meminfo(struct seq_file *m)
{
	struct meminfo mi;

	get_meminfo(&mi);
	seq_section(m, "meminfo");
	seq_kb(m, "MemTotal", mi.present);
	seq_kb(m, "MemManaged", mi.managed);
	seq_kb(m, "MemFree", mi.free);
	seq_kb(m, "Reported", mi.reported);
	seq_kb(m, "PcpFree", mi.pcp);
	seq_kb(m, "Slab", mi.slab);
	seq_kb(m, "SlabInUse", mi.slab_inuse);
	seq_kb(m, "SlabFree", mi.slab_free);
	seq_kb(m, "SlabReturned", mi.slab_returned);
	seq_kb(m, "SheafCached", mi.cached);
	seq_kb(m, "Large", mi.large);
	seq_kb(m, "HugeCollapsed", mi.huge);
	seq_kb(m, "KmmMetadata", mi.metadata);
	seq_kb(m, "VmallocTotal", regions[REGION_VMALLOC].end - regions[REGION_VMALLOC].start);
	seq_kb(m, "VmallocUsed", mi.vmalloc.bytes);
	seq_kb(m, "VmallocLazy", mi.vmalloc.lazy_bytes);
	seq_kb(m, "VmallocPeak", mi.vmalloc.peak_bytes);
	show_resident(m);
	seq_section_end(m);
}

/* --- zones ------------------------------------------------------------------------------------------------ */

static void copy_zone(struct zone *copy, unsigned i)
{
	mutex_lock(&zones[i].lock, LOCK_zone);
	*copy = zones[i];
	mutex_unlock(&zones[i].lock, LOCK_zone);
}

static u64 free_blocks(const struct zone *zone, unsigned order)
{
	u64 nr = 0;

	for (unsigned mt = 0; mt < MIGRATE_TYPES; mt++)
		nr += zone->free_area[order].free_list[mt].nr;
	return nr;
}

static void show_buddyinfo(struct seq_file *m)
{
	struct zone zone;

	seq_section(m, "buddyinfo");
	seq_table(m, "buddyinfo");
	for (unsigned i = 0; i < MAX_NR_ZONES; i++) {
		copy_zone(&zone, i);
		seq_row(m);
		seq_str(m, "zone", zone.name);
		for (unsigned order = 0; order < NR_PAGE_ORDERS; order++)
			seq_u64(m, order_keys[order], free_blocks(&zone, order), NULL);
		seq_row_end(m);
	}
	seq_table_end(m);
	seq_section_end(m);
}

static void show_free_by_type(struct seq_file *m)
{
	struct zone zone;

	seq_table(m, "free");
	for (unsigned i = 0; i < MAX_NR_ZONES; i++) {
		copy_zone(&zone, i);
		for (unsigned mt = 0; mt < MIGRATE_TYPES; mt++) {
			seq_row(m);
			seq_str(m, "zone", zone.name);
			seq_str(m, "type", migratetype_names[mt]);
			for (unsigned order = 0; order < NR_PAGE_ORDERS; order++)
				seq_u64(m, order_keys[order], zone.free_area[order].free_list[mt].nr, NULL);
			seq_row_end(m);
		}
	}
	seq_table_end(m);
}

static void show_pageblocks(struct seq_file *m)
{
	seq_table(m, "pageblocks");
	for (unsigned i = 0; i < MAX_NR_ZONES; i++) {
		u64 nr[MIGRATE_TYPES] = { 0 };

		mutex_lock(&zones[i].lock, LOCK_zone);
		count_pageblocks(&zones[i], nr);
		mutex_unlock(&zones[i].lock, LOCK_zone);
		seq_row(m);
		seq_str(m, "zone", zones[i].name);
		for (unsigned mt = 0; mt < MIGRATE_TYPES; mt++)
			seq_u64(m, migratetype_names[mt], nr[mt], NULL);
		seq_row_end(m);
	}
	seq_table_end(m);
}

static void show_pagetypeinfo(struct seq_file *m)
{
	seq_section(m, "pagetypeinfo");
	seq_u64(m, "PagesPerBlock", PAGEBLOCK_SIZE / PAGE_SIZE, NULL);
	show_free_by_type(m);
	show_pageblocks(m);
	seq_section_end(m);
}

static void show_pcp(struct seq_file *m)
{
	u32 nr = nr_percpu_areas();

	seq_table(m, "pagesets");
	for (u32 cpu = 0; cpu < nr; cpu++) {
		seq_row(m);
		seq_u64(m, "cpu", cpu, NULL);
		seq_u64(m, "count", READ_ONCE(pcpu_of(cpu)->pcp.count), "pages");
		seq_row_end(m);
	}
	seq_table_end(m);
}

static void show_zoneinfo(struct seq_file *m)
{
	struct zone zone;

	seq_section(m, "zoneinfo");
	seq_table(m, "zones");
	for (unsigned i = 0; i < MAX_NR_ZONES; i++) {
		copy_zone(&zone, i);
		seq_row(m);
		seq_str(m, "zone", zone.name);
		seq_u64(m, "start_pfn", zone.start_pfn, NULL);
		seq_u64(m, "spanned", zone.end_pfn - zone.start_pfn, NULL);
		seq_u64(m, "present", zone.present_pages, NULL);
		seq_u64(m, "managed", zone.managed_pages, NULL);
		seq_u64(m, "free", zone.free_pages, NULL);
		seq_u64(m, "reported", zone.reported_pages, NULL);
		seq_u64(m, "min", zone.watermark[WMARK_MIN], NULL);
		seq_u64(m, "low", zone.watermark[WMARK_LOW], NULL);
		seq_u64(m, "high", zone.watermark[WMARK_HIGH], NULL);
		seq_row_end(m);
	}
	seq_table_end(m);
	show_pcp(m);
	seq_section_end(m);
}

/* --- slabs, areas, counters ------------------------------------------------------------------------------- */

static void show_class(struct seq_file *m, unsigned cls)
{
	const struct kmem_cache *s = &kmalloc_caches[cls];
	struct slabinfo si = { 0 };
	char name[24];
	u64 idle;

	get_slabinfo(cls, &si);
	if (si.nr_slabs == 0)
		return;
	idle = si.nr_free + si.nr_sheaf + si.nr_barn;
	kmm_snprintf(name, sizeof(name), "kmalloc-%u", s->size);
	seq_row(m);
	seq_str(m, "name", name);
	seq_u64(m, "active_objs", si.nr_objects > idle ? si.nr_objects - idle : 0, NULL);
	seq_u64(m, "num_objs", si.nr_objects, NULL);
	seq_u64(m, "objsize", s->size, NULL);
	seq_u64(m, "objperslab", s->nr_objects, NULL);
	seq_u64(m, "pagesperslab", s->nr_pages, NULL);
	seq_u64(m, "num_slabs", si.nr_slabs, NULL);
	seq_u64(m, "sheaf_capacity", s->sheaf_capacity, NULL);
	seq_u64(m, "in_sheaves", si.nr_sheaf, NULL);
	seq_u64(m, "in_barns", si.nr_barn, NULL);
	seq_row_end(m);
}

static void show_slabinfo(struct seq_file *m)
{
	seq_section(m, "slabinfo");
	seq_table(m, "slabinfo");
	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++)
		show_class(m, cls);
	seq_table_end(m);
	seq_section_end(m);
}

static void show_vmap_area(const struct vmap_area *va, void *arg)
{
	struct seq_file *m = arg;

	seq_row(m);
	seq_hex(m, "start", va->va_start);
	seq_hex(m, "end", va->va_end);
	seq_u64(m, "size", (va->va_end - va->va_start) >> 10, "kB");
	seq_u64(m, "requested", va->requested, "bytes");
	seq_row_end(m);
}

static void show_vmallocinfo(struct seq_file *m)
{
	struct vmalloc_stat st = { 0 };

	get_vmalloc_stat(&st);
	seq_section(m, "vmallocinfo");
	seq_u64(m, "Areas", st.nr_areas, NULL);
	seq_kb(m, "Used", st.bytes);
	seq_u64(m, "LazyAreas", st.nr_lazy, NULL);
	seq_kb(m, "Lazy", st.lazy_bytes);
	seq_kb(m, "Peak", st.peak_bytes);
	seq_table(m, "areas");
	for_each_vmap_area(show_vmap_area, m);
	seq_table_end(m);
	seq_section_end(m);
}

static void show_vmstat(struct seq_file *m)
{
	seq_section(m, "vmstat");
	for (unsigned i = 0; i < NR_VMSTAT_ITEMS; i++)
		seq_u64(m, vmstat_names[i], global_vm_event((enum vmstat_item)i), NULL);
	seq_section_end(m);
}

/* --- mm --------------------------------------------------------------------------------------------------- */

static void show_task(struct task_struct *task, void *arg)
{
	struct seq_file *m = arg;

	seq_row(m);
	seq_u64(m, "pid", (u64)task->pid, NULL);
	seq_str(m, "comm", task->comm);
	seq_u64(m, "memcg", task->memcg, NULL);
	seq_row_end(m);
}

static void show_vma(const struct vm_area_struct *vma, void *arg)
{
	struct seq_file *m = arg;
	unsigned long f = vma->vm_flags;
	char flags[5] = { f & VM_READ ? 'r' : '-', f & VM_WRITE ? 'w' : '-', f & VM_EXEC ? 'x' : '-',
			  f & VM_SHARED ? 's' : 'p', '\0' };

	seq_row(m);
	seq_hex(m, "start", vma->vm_start);
	seq_hex(m, "end", vma->vm_end);
	seq_u64(m, "size", (vma->vm_end - vma->vm_start) >> 10, "kB");
	seq_str(m, "flags", flags);
	seq_str(m, "kind", vma_kind_names[vma->kind]);
	seq_str(m, "name", vma->name);
	seq_row_end(m);
}

static void show_mm(struct seq_file *m)
{
	const struct mm_struct *mm = &init_mm;

	mm_import();
	seq_section(m, "mm");
	seq_u64(m, "map_count", READ_ONCE(mm->map_count), NULL);
	seq_kb(m, "total_vm", READ_ONCE(mm->total_vm));
	seq_u64(m, "nr_tasks", nr_tasks(), NULL);
	seq_hex(m, "start_code", mm->start_code);
	seq_hex(m, "end_code", mm->end_code);
	seq_hex(m, "start_data", mm->start_data);
	seq_hex(m, "end_data", mm->end_data);
	seq_hex(m, "start_brk", mm->start_brk);
	seq_hex(m, "brk", mm->brk != 0 ? mm->brk : brk_end());
	seq_hex(m, "start_stack", mm->start_stack);
	seq_hex(m, "arg_start", mm->arg_start);
	seq_hex(m, "arg_end", mm->arg_end);
	seq_hex(m, "env_start", mm->env_start);
	seq_hex(m, "env_end", mm->env_end);
	seq_table(m, "tasks");
	for_each_task(show_task, m);
	seq_table_end(m);
	seq_table(m, "vmas");
	for_each_vma(show_vma, m);
	seq_table_end(m);
	seq_section_end(m);
}

/* ---------------------------------------------------------------------------------------------------------- */

void show_stats(struct seq_file *m)
{
	static void (*const sections[])(struct seq_file *) = {
		show_layout, show_meminfo, show_buddyinfo, show_pagetypeinfo, show_slabinfo,
		show_vmallocinfo, show_zoneinfo, show_vmstat, show_memcg, show_mm,
	};

	for (unsigned i = 0; i < ARRAY_SIZE(sections); i++) {
		gate_enter();

		sections[i](m);
		gate_leave();
	}
}
