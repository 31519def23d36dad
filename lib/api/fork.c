/* SPDX-License-Identifier: MIT */
/*
 * fork.c - the at-fork handlers, made from lockclass.def.
 *
 * Purpose. Before fork() every lock that the child will need must be in known hands. Single locks (FORK_TAKE) are taken
 * in the order of their rank, the slow-path gate (FORK_GATE) is closed, and with it all locks that are only taken
 * inside (FORK_COVERED) are free. Afterwards parent and child undo it in the opposite order; the child then makes
 * itself at home: one thread, one task, no background thread.
 *
 * Kernel counterpart. libumem's umem_lockup() and umem_release(): the fork handler is the lock order.
 */
#include "api/malloc.h"
#include "mm/gate.h"
#include "mm/kmmd.h"
#include "mm/mm_struct.h"
#include "page/memblock.h"
#include "page/vmstat.h"
#include <pthread.h>

#define FORK_COVERED(name)
#define FORK_RESET(name)	/* gate_reset_child() clears them */
#define LOCKCLASS(rank, name, fork, help) fork(name)

static u32 taken;		/* by prepare; a fork inside a slow path (a signal handler) may hold some itself */

static void fork_lock(struct mutex *m, enum lock_class c)
{
	if (gate_is_inside() && !mutex_trylock(m, c))
		return;
	if (!gate_is_inside())
		mutex_lock(m, c);
	taken |= 1u << c;
}

static void fork_unlock(struct mutex *m, enum lock_class c)
{
	if (taken & 1u << c) {
		taken &= ~(1u << c);
		mutex_unlock(m, c);
	}
}

static void atfork_prepare(void)
{
	count_vm_event(VM_fork);
#define FORK_TAKE(name) fork_lock(&name##_lock, LOCK_##name);
#define FORK_GATE(name) kmm_rcu_before_fork(); gate_close();
#include "base/lockclass.def"
#undef FORK_TAKE
#undef FORK_GATE
}

#define FORK_TAKE(name) fork_unlock(&name##_lock, LOCK_##name);

static void atfork_parent(void)
{
	kmm_rcu_after_fork_parent();
#define FORK_GATE(name) gate_open();
#include "base/lockclass.def"
#undef FORK_GATE
}

static void atfork_child(void)
{
	kmm_rcu_after_fork_child();
#define FORK_GATE(name) gate_reset_child();
#include "base/lockclass.def"
#undef FORK_GATE
	tasks_reset_child();
	kmmd_reset_child();
}

void kmm_atfork_init(void)
{
	pthread_atfork(atfork_prepare, atfork_parent, atfork_child);
}
