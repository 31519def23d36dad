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
#include "arch/runtime_const.h"
#include "mm/gate.h"
#include "mm/kmmd.h"
#include "mm/memcg_reclaim.h"
#include "mm/mm_struct.h"
#include "os/atfork.h"
#include "page/memblock.h"
#include "page/memcontrol.h"
#include "page/vmstat.h"
#include <pty.h>
#include <unistd.h>

#define FORK_COVERED(name)
#define FORK_RESET(name)	/* gate_reset_child() clears them */
#define FORK_TAKE(name)		{ &name##_lock, LOCK_##name },
#define FORK_GATE(name)		{ NULL, LOCK_##name },
#define LOCKCLASS(rank, name, fork, help) fork(name)

static const struct fork_class {
	struct mutex *lock;	/* NULL: the gate */
	enum lock_class class;
} fork_order[] = {
#include "base/lockclass.def"
};

/*
 * What prepare took; a fork inside a slow path (a signal handler) may hold some itself. Guarded by the lock that comes
 * first in fork_order, taken before and released after all others.
 */
static u32 taken;

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

static void fork_close_gate(void)
{
	kmm_rcu_before_fork();
	gate_close();
}

static void atfork_prepare(void)
{
	count_vm_event(VM_fork);
	for (unsigned i = 0; i < ARRAY_SIZE(fork_order); i++)
		if (fork_order[i].lock)
			fork_lock(fork_order[i].lock, fork_order[i].class);
		else
			fork_close_gate();
}

static void fork_undo(void (*gate_undo)(void))
{
	for (unsigned i = ARRAY_SIZE(fork_order); i-- > 0;)
		if (fork_order[i].lock)
			fork_unlock(fork_order[i].lock, fork_order[i].class);
		else
			gate_undo();
}

static void atfork_parent(void)
{
	kmm_rcu_after_fork_parent();
	fork_undo(gate_open);
}

static void atfork_child(void)
{
	kmm_rcu_after_fork_child();
	fork_undo(gate_reset_child);
	runtime_const_never();	/* prctl.c */
	gate_enter();		/* nobody can fork now, but who takes locks is inside */
	tasks_reset_child();
	memcg_reset_child();
	memcg_reclaim_reset_child();
	gate_leave();
	kmmd_reset_child();
}

static const struct atfork_handlers handlers = { atfork_prepare, atfork_parent, atfork_child };

__init void kmm_atfork_init(void)
{
	os_atfork_init(&handlers);
}

/* --- what leads to them ---------------------------------------------------------------------------------------- */

EXPORT_SYMBOL pid_t fork(void)
{
	static void *next;
	pid_t (*fn)(void) = (pid_t (*)(void))os_next_fork(&next, "fork");

	return fn ? fn() : -1;
}

typedef pid_t (*forkpty_fn)(int *, char *, const struct termios *, const struct winsize *);

EXPORT_SYMBOL pid_t forkpty(int *master, char *name, const struct termios *termios, const struct winsize *size)
{
	static void *next;
	forkpty_fn fn = (forkpty_fn)os_next_fork(&next, "forkpty");

	return fn ? fn(master, name, termios, size) : -1;
}

EXPORT_SYMBOL int daemon(int nochdir, int noclose)
{
	static void *next;
	int (*fn)(int, int) = (int (*)(int, int))os_next_fork(&next, "daemon");

	return fn ? fn(nochdir, noclose) : -1;
}

/* What pthread_atfork() calls. */
int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);

EXPORT_SYMBOL int __register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso)
{
	return os_register_atfork(prepare, parent, child, dso);
}
