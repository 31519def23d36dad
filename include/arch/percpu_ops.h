/* SPDX-License-Identifier: MIT */
/*
 * percpu_ops.h - pop, push and exchange on this CPU's sheaves. The contract in pseudo-code; the bodies are in
 * arch/<machine>/rseq_ops.h (rseq) and lib/arch/generic/percpu_lock.c (try-lock). Everything from `begin` on either
 * runs on one CPU without being preempted, or has no effect (librseq's convention).
 *
 *   pop(slot):                 push(entry, obj):                        exchange(cpu, slot, new):
 *     begin                      begin                                    begin
 *     cpu = this CPU             cpu = this CPU                           if this CPU != cpu: return NULL
 *     top = slots[cpu][slot]     slot = entry & MAP_SLOT_MASK             old = slots[cpu][slot]
 *     obj = top[-1]              if entry >> 16 != cpu: slot |= REMOTE    if old is nothing: return NULL
 *     if obj == NULL: slow       top = slots[cpu][slot]                   if old is the stop sheaf: return NULL
 *     commit slots[cpu][slot]    if (top & 511) == 0: slow                commit slots[cpu][slot] = new
 *            = top - 1           if top[-1] == obj: slow (double free)    return old
 *     return obj                 top[0] = obj
 *                                commit slots[cpu][slot] = top + 1
 *
 * Where the slots are, and what "nothing" is: arch/percpu_area.h.
 *
 * "slow" means NULL or false, and nothing done. A section that was restarted counts as slow as well: the slow path
 * decides, so that the single steps of a debugger cannot livelock.
 */
#ifndef KMM_ARCH_PERCPU_OPS_H
#define KMM_ARCH_PERCPU_OPS_H

#include "arch/percpu_area.h"

enum percpu_mode { PERCPU_MODE_BOOT, PERCPU_MODE_RSEQ, PERCPU_MODE_LOCK };
extern enum percpu_mode percpu_mode;

/* Chooses and tests the mode: want is the value of KMM_PERCPU (0 auto; 1 rseq, code as compiled; 2 lock). Areas come online later. */
void percpu_mode_init(int want, void **stop_top);
/* How many indices the kernel may write. Where that is more than fit rseq is given up: 1, as in the lock mode. At boot. */
u32 percpu_nr_index(u64 fit);
/* The first area is online: rseq is used from now on, if it is the mode. */
void percpu_enable(void);
/* True when the index is mm_cid (dense), for the banner. */
bool percpu_uses_mm_cid(void);

unsigned this_core_id(void);	/* the index in the lock mode */

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
