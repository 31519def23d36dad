/* SPDX-License-Identifier: MIT */
/*
 * percpu_area.h - where the CPUs' slots are and what stands in them; map entries, which lead free() to one.
 *
 * A slot holds its top (mm/sheaf.h) as seen from the area's start, so that memory which was never written is a slot as
 * well: nothing, which is empty and full at once, since a word of zero lies before every area.
 */
#ifndef KMM_ARCH_PERCPU_AREA_H
#define KMM_ARCH_PERCPU_AREA_H

#include "base/compiler.h"
#include "base/types.h"
#include "os/mutex.h"

/*
 * A map entry: bits 0-6 size class, bit 7 clear, bits 8-15 colour of the memory group, bits 16-31 home.
 * Bits 0-15 are the index of a sheaf slot of a CPU, so free() needs no arithmetic: slot | SLOT_REMOTE when the
 * home is another CPU's. Class 0 is "nothing that a sheaf takes", and so is the one at the end: their slots stay
 * on the stop sheaf and lead to the slow path.
 */
typedef u32 map_entry_t;
#define MAP_CLASS_MASK	0x7fu
#define MAP_SLOT_MASK	0xffffu
#define SLOT_REMOTE	0x80u
#define MAP_COLOUR_SHIFT 8
#define MAP_HOME_SHIFT	16
#define NR_COLOURS	256u	/* 0: the root group */
#define MAP_CLASS_LARGE	127u

static inline map_entry_t make_map_entry(unsigned cls, unsigned colour, unsigned home)
{
	return cls | colour << MAP_COLOUR_SHIFT | (map_entry_t)home << MAP_HOME_SHIFT;
}

/*
 * An area per CPU at base + (cpu << PERCPU_SHIFT): slots first, then at PERCPU_STATIC what page/percpu.h says,
 * beginning with the lock that guards the slots where there is no rseq.
 */
#define PERCPU_SHIFT	20
#define PERCPU_SIZE	(1UL << PERCPU_SHIFT)
#define PERCPU_SLOTS	(MAP_SLOT_MASK + 1u)
#define PERCPU_STATIC	(PERCPU_SLOTS * sizeof(void *))

/*
 * What every pop and push reads; written at boot and around fork.
 *
 * "Is there an area?" costs them no instruction: for every index that the kernel may write there is readable address
 * space, and where no area is online its slots are nothing. Before boot, in the lock mode and around fork rseq is led to
 * address space in which no area ever is.
 */
struct percpu_hot {
	char *base;
	char *rseq_base;	/* area 0 for rseq: base, or nowhere */
	char *nowhere;		/* address space as of all areas, never written */
	long cs_offset;		/* of rseq_cs, from the thread pointer */
	long cpu_offset;	/* of mm_cid or cpu_id, whichever is the index of an area: signed, -2 and -1 if not registered */
	void **stop_top;	/* the stop sheaf, as a top */
	u32 nr_areas;		/* areas online */
} __aligned(64);
#define PERCPU_UNREGISTERED 2u	/* indices below 0 that are read as well */
#define PERCPU_ZERO	512u	/* bytes before every area that are never written */
extern struct percpu_hot percpu_hot;

static inline char *percpu_area(unsigned cpu)
{
	return percpu_hot.base + ((uintptr_t)cpu << PERCPU_SHIFT);
}

static inline uintptr_t *percpu_slot(unsigned cpu, unsigned slot)
{
	return (uintptr_t *)(void *)percpu_area(cpu) + slot;
}

static inline uintptr_t percpu_from_top(unsigned cpu, void **top)
{
	return (uintptr_t)top - (uintptr_t)percpu_area(cpu);
}

static inline void **percpu_to_top(unsigned cpu, uintptr_t value)
{
	return (void **)((uintptr_t)percpu_area(cpu) + value);
}

/* The top in a slot of an area online; its owner may be changing it. */
static inline void **percpu_top(unsigned cpu, unsigned slot)
{
	return percpu_to_top(cpu, READ_ONCE(*percpu_slot(cpu, slot)));
}

static inline void percpu_set_top(unsigned cpu, unsigned slot, void **top)
{
	smp_store_release(percpu_slot(cpu, slot), percpu_from_top(cpu, top));
}

static inline struct mutex *percpu_lock(unsigned cpu)
{
	return (struct mutex *)(void *)(percpu_area(cpu) + PERCPU_STATIC);
}

#endif
