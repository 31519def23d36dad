/* SPDX-License-Identifier: MIT */
/*
 * malloc_info.c - mallopt mallinfo mallinfo2 malloc_stats malloc_info malloc_trim.
 *
 * Purpose: glibc's own windows on the allocator, filled with real figures. What its words mean here:
 *
 *	arena		memory online in both zones		hblks, hblkhd	vmalloc areas, their bytes
 *	ordblks		free blocks of the buddy and free	smblks, fsmblks	objects cached in sheaves and barns,
 *			objects in slabs					their bytes
 *	fordblks	free: pages, objects, caches		uordblks	arena less fordblks
 *	keepcost	free and still resident: what malloc_trim(0) can give back at most
 *
 * mallopt: accepted are the parameters that mallopt(3) lists. M_TRIM_THRESHOLD -1 ("never trim") switches trimming by
 * age off, as it does in glibc. The others steer mechanisms that libkmm has not (arenas, fast bins, a threshold
 * beyond which blocks are mapped) or debugging aids: they are accepted if glibc would accept the value, without effect.
 *
 * malloc_info() writes through the caller's FILE and so may allocate: it holds no lock while it writes.
 */
#include "api/stats.h"

#include "api/malloc.h"
#include "base/param.h"
#include "base/printk.h"
#include "kmm/kmm.h"
#include "mm/gate.h"
#include "mm/slab.h"
#include "os/outfile.h"
#include "page/mmzone.h"
#include <errno.h>
#include <limits.h>
#include <malloc.h>
#include <stdio.h>

/* glibc refuses a larger M_MXFAST. */
#define GLIBC_MXFAST_MAX (80 * (int)sizeof(size_t) / 4)

EXPORT_SYMBOL int mallopt(int param, int value)
{
	switch (param) {
	case M_TRIM_THRESHOLD:
		if (value == -1)
			kmm_decay_set(KMM_DECAY_MAX_MS);
		return 1;
	case M_MXFAST:
		return value >= 0 && value <= GLIBC_MXFAST_MAX;
	case M_MMAP_THRESHOLD:
	case M_TOP_PAD:
	case M_MMAP_MAX:
	case M_CHECK_ACTION:
	case M_PERTURB:
	case M_ARENA_TEST:
	case M_ARENA_MAX:
		return 1;
	default:
		return 0;
	}
}

EXPORT_SYMBOL struct mallinfo2 mallinfo2(void)
{
	struct meminfo mi;
	size_t unused;

	get_meminfo(&mi);
	unused = mi.free + mi.pcp + mi.slab_free + mi.cached;
	unused = min(unused, (size_t)mi.present);
	return (struct mallinfo2){
		.arena = mi.present,
		.ordblks = mi.nr_free_blocks + mi.nr_slab_free,
		.smblks = mi.nr_cached,
		.hblks = mi.vmalloc.nr_areas,
		.hblkhd = mi.vmalloc.bytes,
		.fsmblks = mi.cached,
		.uordblks = mi.present - unused,
		.fordblks = unused,
		.keepcost = mi.free - min(mi.free, mi.reported),
	};
}

/* The old form has ints and wraps beyond 2 GiB: mallinfo(3) says so. Here it stays at INT_MAX. */
static int saturate(size_t n)
{
	return n > INT_MAX ? INT_MAX : (int)n;
}

EXPORT_SYMBOL struct mallinfo mallinfo(void)
{
	struct mallinfo2 m = mallinfo2();

	return (struct mallinfo){
		.arena = saturate(m.arena),
		.ordblks = saturate(m.ordblks),
		.smblks = saturate(m.smblks),
		.hblks = saturate(m.hblks),
		.hblkhd = saturate(m.hblkhd),
		.fsmblks = saturate(m.fsmblks),
		.uordblks = saturate(m.uordblks),
		.fordblks = saturate(m.fordblks),
		.keepcost = saturate(m.keepcost),
	};
}

/* glibc's layout, so that what reads it goes on reading; there is one arena. */
EXPORT_SYMBOL void malloc_stats(void)
{
	struct mallinfo2 m = mallinfo2();
	struct meminfo mi;
	char buf[512];
	int len;

	get_meminfo(&mi);
	len = kmm_snprintf(buf, sizeof(buf),
			   "Arena 0:\n"
			   "system bytes     = %10zu\n"
			   "in use bytes     = %10zu\n"
			   "Total (incl. mmap):\n"
			   "system bytes     = %10zu\n"
			   "in use bytes     = %10zu\n"
			   "mmap regions     = %10zu\n"
			   "max mmap bytes   = %10zu\n",
			   m.arena, m.uordblks, m.arena + m.hblkhd, m.uordblks + m.hblkhd, m.hblks,
			   (size_t)mi.vmalloc.peak_bytes);
	outfile_write(2, buf, (size_t)len);
}

/* --- malloc_info ------------------------------------------------------------------------------------------ */

static void print_class_sizes(FILE *fp)
{
	size_t from = 1;

	for (unsigned cls = 1; cls < NR_KMALLOC_CLASSES; cls++) {
		size_t to = kmalloc_caches[cls].size;
		struct slabinfo si = { 0 };
		gate_enter();
		u64 nr;

		get_slabinfo(cls, &si);
		gate_leave();
		nr = si.nr_free + si.nr_sheaf + si.nr_barn;
		if (nr != 0)
			fprintf(fp, "  <size from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n", from, to,
				(size_t)nr * to, (size_t)nr);
		from = to + 1;
	}
}

static void print_page_sizes(FILE *fp)
{
	u64 nr[NR_PAGE_ORDERS] = { 0 };
	gate_enter();

	for (unsigned i = 0; i < MAX_NR_ZONES; i++) {
		mutex_lock(&zones[i].lock, LOCK_zone);
		for (unsigned order = 0; order < NR_PAGE_ORDERS; order++) {
			for (unsigned mt = 0; mt < MIGRATE_TYPES; mt++)
				nr[order] += zones[i].free_area[order].free_list[mt].nr;
		}
		mutex_unlock(&zones[i].lock, LOCK_zone);
	}
	gate_leave();

	for (unsigned order = 0; order < NR_PAGE_ORDERS; order++) {
		size_t size = PAGE_SIZE << order;

		if (nr[order] != 0)
			fprintf(fp, "  <size from=\"%zu\" to=\"%zu\" total=\"%zu\" count=\"%zu\"/>\n", size, size,
				(size_t)nr[order] * size, (size_t)nr[order]);
	}
}

/* What both the heap and the whole process have. */
static void print_totals(FILE *fp, const struct meminfo *mi)
{
	fprintf(fp,
		"<total type=\"fast\" count=\"%zu\" size=\"%zu\"/>\n"
		"<total type=\"rest\" count=\"%zu\" size=\"%zu\"/>\n",
		(size_t)mi->nr_cached, (size_t)mi->cached, (size_t)(mi->nr_slab_free + mi->nr_free_blocks),
		(size_t)(mi->slab_free + mi->free + mi->pcp));
}

static void print_system(FILE *fp, size_t current, size_t peak)
{
	fprintf(fp,
		"<system type=\"current\" size=\"%zu\"/>\n"
		"<system type=\"max\" size=\"%zu\"/>\n"
		"<aspace type=\"total\" size=\"%zu\"/>\n"
		"<aspace type=\"mprotect\" size=\"%zu\"/>\n",
		current, peak, current, current);
}

EXPORT_SYMBOL int malloc_info(int options, FILE *fp)
{
	struct meminfo mi;

	if (options != 0)
		return EINVAL;
	get_meminfo(&mi);
	fputs("<malloc version=\"1\">\n<heap nr=\"0\">\n<sizes>\n", fp);
	print_class_sizes(fp);
	print_page_sizes(fp);
	fputs("</sizes>\n", fp);
	print_totals(fp, &mi);
	print_system(fp, mi.present, mi.present);
	fputs("</heap>\n", fp);
	print_totals(fp, &mi);
	fprintf(fp, "<total type=\"mmap\" count=\"%zu\" size=\"%zu\"/>\n", (size_t)mi.vmalloc.nr_areas,
		(size_t)mi.vmalloc.bytes);
	print_system(fp, mi.present + mi.vmalloc.bytes, mi.present + mi.vmalloc.peak_bytes);
	fputs("</malloc>\n", fp);
	return 0;
}

/* 1 if memory went back to the kernel, else 0. With nothing to be kept compaction has its turn as well. */
EXPORT_SYMBOL int malloc_trim(size_t pad)
{
	return (pad != 0 ? kmm_trim(pad) : kmm_compact()) != 0;
}
