/* SPDX-License-Identifier: MIT */
/*
 * percpu_ops.h - pop, push and exchange on this CPU's sheaves. The contract in pseudo-code; the bodies are in
 * arch/<machine>/rseq_ops.h (rseq) and lib/arch/generic/percpu_lock.c (try-lock). Everything from `begin` on either
 * runs on one CPU without being preempted, or has no effect (librseq's convention).
 *
 *   pop(slot):                 push(entry, obj):                        exchange(cpu, slot, new):
 *     begin                      begin                                    begin
 *     cpu = this CPU             cpu = this CPU                           if this CPU != cpu: return NULL
 *     if cpu >= areas: slow      if cpu >= areas: slow                    old = slots[cpu][slot]
 *     top = slots[cpu][slot]     slot = entry & MAP_SLOT_MASK             if old is the stop sheaf: return NULL
 *     obj = top[-1]              if entry >> 16 != cpu: slot |= REMOTE    commit slots[cpu][slot] = new
 *     if obj == NULL: slow       top = slots[cpu][slot]                   return old
 *     commit slots[cpu][slot]    if (top & 511) == 0: slow
 *            = top - 1           if top[-1] == obj: slow (double free)
 *     return obj                 top[0] = obj
 *                                commit slots[cpu][slot] = top + 1
 *
 * "slow" means NULL or false, and nothing done. A section that was restarted counts as slow as well: the slow path
 * decides, so that the single steps of a debugger cannot livelock.
 */
#ifndef KMM_ARCH_PERCPU_OPS_H
#define KMM_ARCH_PERCPU_OPS_H

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
 * What every pop and push reads; written at boot and when an area comes online.
 *
 * "cpu >= areas: slow" costs them no instruction: areas has an entry for every index that the kernel may write, and
 * where there is no area that rseq may use, it leads to one in which every slot is on the stop sheaf. So it does
 * for all CPUs before boot, in the lock mode and around fork.
 */
struct percpu_hot {
	char *base;
	u32 nr_areas;		/* areas online */
	long cs_offset;		/* of rseq_cs, from the thread pointer */
	long cpu_offset;	/* of mm_cid or cpu_id, whichever is the index of an area; 16 bits are read */
	char **areas;		/* the area of an index: of a CPU online, or the one where nothing is */
	void **stop_top;	/* the stop sheaf, as a top */
} __aligned(64);
extern struct percpu_hot percpu_hot;

enum percpu_mode { PERCPU_MODE_BOOT, PERCPU_MODE_RSEQ, PERCPU_MODE_LOCK };
extern enum percpu_mode percpu_mode;

/* Chooses and tests the mode: want is the value of KMM_PERCPU (0 auto; 1 rseq, code as compiled; 2 lock). Areas come online later. */
void percpu_mode_init(int want, void **stop_top);
/*
 * rseq may use this area from now on; the first one switches the mode on. alloc: of zeroed memory, for large machines'
 * tables. 0 or -ENOMEM.
 */
int percpu_enable(unsigned cpu, void *(*alloc)(size_t size, size_t align));
/* Before a memory group has slots of its own: the area where nothing is gets them, too. 0 or -ENOMEM. */
int percpu_enable_colour(unsigned colour, void *(*alloc)(size_t size, size_t align));
/* True when the index is mm_cid (dense), for the banner. */
bool percpu_uses_mm_cid(void);

unsigned this_core_id(void);	/* the index in the lock mode */

static inline void ***percpu_slot(unsigned cpu, unsigned slot)
{
	return (void ***)(percpu_hot.base + ((uintptr_t)cpu << PERCPU_SHIFT)) + slot;
}

static inline struct mutex *percpu_lock(unsigned cpu)
{
	return (struct mutex *)(percpu_hot.base + ((uintptr_t)cpu << PERCPU_SHIFT) + PERCPU_STATIC);
}

/* The lock mode's bodies; also right when percpu_mode is RSEQ (they then return "slow"). lib/arch/generic/ */
void *lock_pop(unsigned slot);
bool lock_push(map_entry_t e, void *obj);
void **lock_exchange(unsigned cpu, unsigned slot, void **new_top);

#define KMM_PERCPU_OPS_INNER
#if defined(__x86_64__)
#include "arch/x86_64/rseq_ops.h"
#else
#include "arch/generic/rseq_ops.h"
#endif
#undef KMM_PERCPU_OPS_INNER

/* Index of the caller's area, valid for this moment; may be at or beyond nr_areas when that is not online yet. */
static inline unsigned this_cpu_id(void)
{
	return likely(percpu_mode == PERCPU_MODE_RSEQ) ? rseq_cpu_index() : this_core_id();
}

/* The fast path's: rseq or "slow". */
static __always_inline void *this_cpu_pop(unsigned slot)
{
	return rseq_pop(slot);
}

/* The entry is map[pfn], read where it stands. */
static __always_inline bool this_cpu_push(const map_entry_t *map, size_t pfn, void *obj)
{
	return rseq_push(map, pfn, obj);
}

/* The slow paths': whichever mode is on. */
void *percpu_pop(unsigned slot);
bool percpu_push(map_entry_t e, void *obj);
void **percpu_exchange(unsigned cpu, unsigned slot, void **new_top);

/*
 * Around fork: between the two no thread changes a slot or a sheaf on its fast path. The caller keeps the slow paths
 * away. percpu_thaw() serves parent and child.
 */
void percpu_freeze(void);
void percpu_thaw(void);

/* Registers rseq again after vfork, in the child and in the parent. lib/arch/rseq.c; called by vfork.S. */
int vfork_return(int pid);

#endif
