/* SPDX-License-Identifier: MIT */
/*
 * gate.h - the slow-path gate: a per-CPU reader/writer semaphore (kernel: percpu_rw_semaphore) whose only
 * writer is fork. Whoever holds a sheaf, an object on its way, or a lock marked FORK_COVERED in lockclass.def is
 * inside; fork closes the gate, waits until everybody is out, and so copies a consistent heap.
 *
 * Nests. Entering costs one atomic increment on the CPU's own line.
 */
#ifndef KMM_MM_GATE_H
#define KMM_MM_GATE_H

#include "base/types.h"

void gate_enter(void);		/* waits while a fork is under way, unless the caller is the forking thread */
void gate_leave(void);
bool gate_is_inside(void);	/* this thread; for assertions */
bool gate_is_held(void);	/* nobody forks now, or it is this thread that does; for assertions */

void gate_close(void);		/* at-fork prepare */
void gate_open(void);		/* parent */
void gate_reset_child(void);	/* child: nobody else exists */
/*
 * Waits until every thread that was inside has been outside; false: one stays there, after a second. Not from inside.
 * Kernel: synchronize_rcu(), for what is looked at inside the gate.
 */
bool gate_synchronize(void);

#endif
