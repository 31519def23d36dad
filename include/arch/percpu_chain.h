/* SPDX-License-Identifier: MIT */
/*
 * percpu_chain.h - a slot is a stack of sheaves: what happens when the sheaf on top is empty or full, as long as the CPU
 * has sheaves of its own to go on with. Written like percpu_ops.h, and with the same meaning of "slow".
 *
 * A sheaf (mm/slab.h) is 512 bytes. Its first word is a link: the address of the full sheaf below it, and in the low
 * nine bits its room: 1 + how many sheaves may yet be put on it. So a slot is a stack of sheaves, changed by one store:
 *
 *   pop_chain(slot, left):               push_chain(entry, obj, new, least, left):      new: a sheaf with obj on it
 *     as pop, but if obj == NULL:          as push, but if (top & 511) == 0:
 *       below = sheaf(top).link & ~511       room = sheaf(top).link & 511
 *       if below == 0: slow                  if room < least: slow       (0: the boot or stop sheaf)
 *       left = sheaf(top)                    if room > 1: new.link = sheaf(top) | room - 1, left = NULL
 *       top = below + 512                    else: new.link = sheaf(top).link, left = sheaf(top)
 *       obj = top[-1]                        commit slots[cpu][slot] = top of new
 *                                          else: left = new
 *
 * left is then the caller's. get_empty and put_empty are pop and push of the stack of empty sheaves at SLOT_EMPTY.
 */
#ifndef KMM_ARCH_PERCPU_CHAIN_H
#define KMM_ARCH_PERCPU_CHAIN_H

#include "arch/percpu_ops.h"

/* No class: the CPU's empty sheaves, by address, and in the low nine bits how many more there may be. */
#define SLOT_EMPTY 126u
#define EMPTY_MAX  128u

struct chain_left {
	void *sheaf;		/* or NULL */
	unsigned long slot;	/* that was pushed on */
};

void *percpu_pop_chain(unsigned slot, struct chain_left *left);
bool percpu_push_chain(map_entry_t e, void *obj, void **new_top, unsigned least, struct chain_left *left);
void *percpu_get_empty(void);		/* or NULL */
bool percpu_put_empty(void *sheaf);	/* false when there are EMPTY_MAX */

/* The lock mode's bodies. lib/arch/generic/percpu_lock.c */
void *lock_pop_chain(unsigned slot, struct chain_left *left);
bool lock_push_chain(map_entry_t e, void *obj, void **new_top, unsigned least, struct chain_left *left);
void *lock_get_empty(void);
bool lock_put_empty(void *sheaf);

#if defined(__x86_64__)
#include "arch/x86_64/rseq_chain.h"
#else
#include "arch/generic/rseq_chain.h"
#endif

#endif
