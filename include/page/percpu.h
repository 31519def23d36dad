/* SPDX-License-Identifier: MIT */
/*
 * percpu.h - one area per CPU at percpu_base + (cpu << PERCPU_SHIFT). Kernel: mm/percpu.c.
 *
 *   0        512 KiB               1 MiB
 *   | slots  | struct pcpu, nodes, dynamic (kmm_alloc_percpu) |
 *
 * "cpu" is the index of an area: the kernel's mm_cid (dense) where rseq has it, else the CPU number, or in the
 * lock mode the number of the core. Areas come online one by one, in order, when a slow path first runs there.
 */
#ifndef KMM_PAGE_PERCPU_H
#define KMM_PAGE_PERCPU_H

#include "os/mutex.h"
#include "page/mm_types.h"
#include "page/vmstat.h"

#define PERCPU_SHIFT	20
#define PERCPU_SIZE	(1UL << PERCPU_SHIFT)
#define PERCPU_SLOTS	(MAP_SLOT_MASK + 1u)	/* sheaf tops: class, remote bit, colour */
#define PERCPU_STATIC	KIB(512)		/* offset of struct pcpu */
#define NR_PCP_ORDERS	4			/* page lists serve blocks of up to 32 KiB */

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
	u64 vmstat[NR_VMSTAT_ITEMS];
	struct per_cpu_pages pcp __aligned(64);
};

extern char *percpu_base;		/* NULL before boot */
extern u32 nr_percpu_areas;		/* online; read by the fast path */
extern u32 max_percpu_areas;		/* reserved */

static inline struct pcpu *pcpu_of(unsigned cpu)
{
	return (struct pcpu *)(percpu_base + ((uintptr_t)cpu << PERCPU_SHIFT) + PERCPU_STATIC);
}

static inline void ***pcpu_slots(unsigned cpu)
{
	return (void ***)(percpu_base + ((uintptr_t)cpu << PERCPU_SHIFT));
}

int percpu_init(void);			/* reserves; 0 or -ENOMEM */
/* Brings areas up to cpu online; 0, -ENOMEM, or -ERANGE beyond the reservation. */
int percpu_online(unsigned cpu);
/* Called for each area before it can be seen (mm/ prepares its slots and nodes). Returns 0 or -ENOMEM. */
extern int (*percpu_prepare)(unsigned cpu);
/* Makes part of an area readable and writable; offsets in bytes. */
int percpu_populate(unsigned cpu, size_t offset, size_t size);

#endif
