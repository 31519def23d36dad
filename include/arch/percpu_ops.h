/* SPDX-License-Identifier: MIT */
/*
 * percpu_ops.h - pop, push and exchange on this CPU's sheaves. The contract in pseudo-code; the bodies are in
 * lib/arch/<machine>/ (rseq) and lib/arch/generic/ (try-lock). Each block between `begin` and `commit` either
 * runs on one CPU without being preempted, or has no effect (librseq's convention).
 *
 *   pop(slot):               push(entry, obj):                          exchange(cpu, slot, new):
 *     begin                    begin                                      begin
 *     cpu = this CPU           cpu = this CPU                             if this CPU != cpu: return NULL
 *     if cpu >= areas: slow    if cpu >= areas: slow                      old = slots[cpu][slot]
 *     top = slots[cpu][slot]   slot = entry & MAP_SLOT_MASK               if old == stop: return NULL
 *     obj = top[-1]            if entry >> 16 != cpu: slot |= REMOTE      commit slots[cpu][slot] = new
 *     if obj == NULL: slow     top = slots[cpu][slot]                     return old
 *     commit slots[cpu][slot]  if (top & 511) == 0: slow
 *              = top - 1       if top[-1] == obj: slow (double free)
 *     return obj               top[0] = obj
 *                              commit slots[cpu][slot] = top + 1
 *
 * "slow" means: NULL / false, nothing done. A restarted section counts as slow as well: the slow path decides,
 * so that a debugger's single steps cannot livelock.
 */
#ifndef KMM_ARCH_PERCPU_OPS_H
#define KMM_ARCH_PERCPU_OPS_H

#include "base/compiler.h"
#include "base/types.h"

/*
 * A map entry: bits 0-6 size class, bit 7 clear, bits 8-15 colour of the memory group, bits 16-31 home.
 * Bits 0-15 are the index of a sheaf slot of a CPU, so free() needs no arithmetic: slot | SLOT_REMOTE when the
 * home is another CPU's. Class 0 is "nothing that a sheaf takes", so is MAP_CLASS_LARGE: their slots stay on
 * the stop sheaf and lead to the slow path.
 */
typedef u32 map_entry_t;
#define MAP_CLASS_MASK	0x7fu
#define MAP_SLOT_MASK	0xffffu
#define SLOT_REMOTE	0x80u
#define MAP_HOME_SHIFT	16
#define MAP_CLASS_LARGE	127u
#define MAP_CLASS_BOOT	126u

static inline map_entry_t make_map_entry(unsigned cls, unsigned colour, unsigned home)
{
	return cls | colour << 8 | (map_entry_t)home << MAP_HOME_SHIFT;
}

enum percpu_mode { PERCPU_MODE_BOOT, PERCPU_MODE_RSEQ, PERCPU_MODE_LOCK };
extern enum percpu_mode percpu_mode;

#endif
