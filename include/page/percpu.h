/* SPDX-License-Identifier: MIT */
/*
 * percpu.h - one area per CPU at percpu_hot.base + (cpu << PERCPU_SHIFT). Kernel: mm/percpu.c.
 *
 *   0                PERCPU_STATIC                                           1 MiB
 *   | sheaf slots    | struct pcpu | wanted | nodes (mm/slab.h) | memory groups | captured | dynamic |
 *
 * What every program uses lies close together: the root group's slots in one page, its nodes and the rest in two.
 *
 * "cpu" is the index of an area: the kernel's mm_cid (dense) where rseq has it, else the CPU number, or in the
 * lock mode the number of the core. Areas come online in order, when a slow path first runs on them.
 */
#ifndef KMM_PAGE_PERCPU_H
#define KMM_PAGE_PERCPU_H

#include "os/mutex.h"
#include "page/mm_types.h"
#include "page/vmstat.h"

#define PERCPU_WANTED	(PERCPU_STATIC + 832)		/* what classes want (mm/slab_share.c) */
#define PERCPU_NODES	(PERCPU_STATIC + 1664)		/* where mm/ keeps the nodes of a CPU */
#define PERCPU_MEMCG	(PERCPU_STATIC + 7872)		/* stocks of the memory groups (memcontrol.c) */
#define PERCPU_CAPTURED	(PERCPU_STATIC + KIB(24))	/* what a drain has taken out of the slots */
#define PERCPU_DYNAMIC	(PERCPU_STATIC + KIB(64))	/* alloc_percpu() */
#define NR_PCP_ORDERS	4	/* page lists serve blocks of up to 32 KiB */

struct per_cpu_pages {
	struct mutex lock;
	u32 count;		/* pages */
	struct {
		pfn_t head;
		u32 nr;
	} list[MIGRATE_TYPES][NR_PCP_ORDERS];
};

/* The allocator's own variables of a CPU, at PERCPU_STATIC; mm/ keeps its nodes behind it. */
struct pcpu {
	struct mutex lock;	/* guards the slots where there is no rseq (lock mode) */
	u32 cpu;
	u32 last_cpu;		/* CPU number on which a slow path last ran with this area */
	u32 gate;		/* threads inside the slow-path gate that entered on this CPU (mm/gate.h) */
	u32 busy_ms;		/* when a pass of reclaim last found that slow paths had run here (page/vmscan.c) */
	u64 seen_events;	/* sum of vmstat at the end of that pass */
	u64 vmstat[NR_VMSTAT_ITEMS] __aligned(64);
	struct per_cpu_pages pcp __aligned(64);
};

_Static_assert(sizeof(struct pcpu) <= PERCPU_WANTED - PERCPU_STATIC, "struct pcpu ends before what classes want");

extern u32 max_percpu_areas;		/* reserved */

static inline u32 nr_percpu_areas(void)	/* online */
{
	return smp_load_acquire(&percpu_hot.nr_areas);
}

static inline void *percpu_at(unsigned cpu, size_t offset)
{
	return percpu_area(cpu) + offset;
}

static inline struct pcpu *pcpu_of(unsigned cpu)
{
	return percpu_at(cpu, PERCPU_STATIC);
}

/*
 * Brings areas up to cpu online; 0, -ENOMEM, or -ERANGE beyond the reservation. Takes LOCK_hotplug.
 * percpu_prepare is called for each before it can be seen: mm/ fills in slots and nodes. 0 or -ENOMEM.
 */
int percpu_online(unsigned cpu);
extern int (*percpu_prepare)(unsigned cpu);
/* Calls fn for each area that is online until it returns other than 0, and returns that; none comes online meanwhile. */
int for_each_online_area(int (*fn)(unsigned cpu, void *arg), void *arg);

/* The area of the caller, clamped to those online; 0 before boot. For lists where any CPU's will do. */
static inline unsigned any_cpu(void)
{
	u32 nr = nr_percpu_areas();
	unsigned cpu;

	if (unlikely(nr == 0))
		return 0;
	cpu = this_cpu_id();
	return likely(cpu < nr) ? cpu : cpu % nr;
}

/*
 * size bytes at the same offset of every area, zeroed: offset from an area's start, or 0 when the areas are full.
 * align at most 64. Kernel: __alloc_percpu(). Freed blocks of a size are reused: free_percpu() wants the larger of
 * the size and the alignment that were asked for.
 */
size_t alloc_percpu(size_t size, size_t align);
void free_percpu(size_t offset, size_t size);

#endif
