/* SPDX-License-Identifier: MIT */
/*
 * kmmd.h - the background thread: it gives memory back, and loads hwloc and liburcu-bp.
 */
#ifndef KMM_MM_KMMD_H
#define KMM_MM_KMMD_H

#include "base/types.h"
#include "os/mutex.h"
#include "page/reclaim.h"		/* kmmd_wanted, the cheap test before kmmd_consider() */

extern struct mutex kmmd_lock;		/* held while kmmd is inside dlopen; fork waits for it */
extern u32 kmmd_load_after_ms;		/* so long it runs before it loads libraries; test hook */

/*
 * Wakes kmmd, or starts it if it is worth it and safe. Called at the end of slow paths, outside the gate and without any lock;
 * caller is the return address of the program's call into malloc: calls from libc or ld.so (which may be inside
 * pthread_create or dlopen) never start it. errno stays.
 */
void kmmd_consider(const void *caller);
/* The decay time has changed: kmmd, if there is one, looks again, whatever it was waiting for. */
void kmmd_wake(void);
void kmmd_init(void);			/* by the main thread, once */
/* A task was made, there are nr now: with KMM_KTHREAD=1 that is reason enough. */
void kmmd_note_tasks(u32 nr);
void kmmd_note_thread(void);	/* a thread was made, which may never meet a slow path */
bool kmmd_running(void);
void kmmd_want(void);		/* much could go home now: the next slow path looks */
u64 kmmd_cpu_ns(void);	/* CPU time that the background thread has taken, those before it included */
void kmmd_reset_child(void);

/* --- rcu.c -------------------------------------------------------------------------------------------- */

/*
 * RCU read side through liburcu-bp; false (and nothing entered) while it is not loaded, and inside the gate. The
 * first call of a thread registers it, which may allocate: without locks, not in a signal handler.
 */
bool kmm_rcu_read_lock(void);
void kmm_rcu_read_unlock(void);
void kmm_synchronize_rcu(void);		/* may sleep, outside the gate; a no-op before liburcu is loaded */
bool kmm_rcu_loaded(void);
/* Loads liburcu-bp; called by kmmd with its lock held. 0 or -errno, -EBUSY: the program has its own. */
int kmm_rcu_load(void);
/* At fork: before_fork with the kmmd lock held and the gate still open; the others at any time after. */
void kmm_rcu_before_fork(void);
void kmm_rcu_after_fork_parent(void);
void kmm_rcu_after_fork_child(void);

#endif
