/* SPDX-License-Identifier: MIT */
/*
 * rcu.c - read-copy-update through liburcu-bp, once it is there.
 *
 * Purpose
 *	Readers of the registry should not take a lock. liburcu-bp is loaded late, by kmmd, since linking to it
 *	would make every small program pay for it; until then, and where it cannot be used, readers lock.
 *
 * Locks
 *	liburcu-bp has two of its own, gp and registry. Between ours they lie directly below kmmd and above the gate:
 *
 *	  kmmd > urcu gp > urcu registry > gate > everything else
 *
 *	Registering a thread holds the registry lock and may call malloc (pthread_setspecific does, from the 33rd key
 *	on, and so does the first use of a library's thread-local variable). malloc may have to wait at the gate. So
 *	nobody inside the gate ever takes an urcu lock: read_lock says no there, and synchronize is for the outside.
 *	Fork takes urcu's locks before it closes the gate. Thread exit unregisters by a pthread key, outside the gate.
 *
 * Kernel counterpart and what differs
 *	kernel/rcu/. There is no call_rcu here: liburcu would start a thread for it. Who frees batches and waits.
 *
 * Fork and init
 *	The child keeps the library; its registry is pruned to the calling thread. A program that brings liburcu-bp
 *	itself handles forks itself (or not at all), and its locks cannot be taken twice: there we keep out of it.
 */
#include "mm/kmmd.h"

#include "mm/gate.h"
#include "mm/mm_struct.h"
#include <dlfcn.h>
#include <errno.h>

static struct {
	bool loaded;
	void (*register_thread)(void);
	void (*read_lock)(void);
	void (*read_unlock)(void);
	void (*synchronize)(void);
	void (*before_fork)(void);
	void (*after_fork_parent)(void);
	void (*after_fork_child)(void);
} urcu;

static const struct {
	void (**fn)(void);
	const char *name;
} symbols[] = {
	{ &urcu.register_thread, "urcu_bp_register" },
	{ &urcu.read_lock, "urcu_bp_read_lock" },
	{ &urcu.read_unlock, "urcu_bp_read_unlock" },
	{ &urcu.synchronize, "urcu_bp_synchronize_rcu" },
	{ &urcu.before_fork, "urcu_bp_before_fork" },
	{ &urcu.after_fork_parent, "urcu_bp_after_fork_parent" },
	{ &urcu.after_fork_child, "urcu_bp_after_fork_child" },
};

static const char *const sonames[] = { "liburcu-bp.so.8", "liburcu-bp.so" };

int kmm_rcu_load(void)
{
	void *lib = NULL;

	if (urcu.loaded)
		return 0;
	for (unsigned i = 0; i < ARRAY_SIZE(sonames); i++) {
		lib = dlopen(sonames[i], RTLD_NOW | RTLD_LOCAL | RTLD_NOLOAD);
		if (lib != NULL) {
			dlclose(lib);
			return -EBUSY;
		}
	}
	for (unsigned i = 0; i < ARRAY_SIZE(sonames) && lib == NULL; i++)
		lib = dlopen(sonames[i], RTLD_NOW | RTLD_LOCAL | RTLD_NODELETE);
	if (lib == NULL)
		return -ENOENT;
	for (unsigned i = 0; i < ARRAY_SIZE(symbols); i++) {
		void *sym = dlsym(lib, symbols[i].name);

		if (sym == NULL)
			return -ENOSYS;
		__builtin_memcpy(symbols[i].fn, &sym, sizeof(sym));
	}
	smp_store_release(&urcu.loaded, true);
	return 0;
}

bool kmm_rcu_loaded(void)
{
	return smp_load_acquire(&urcu.loaded);
}

bool kmm_rcu_read_lock(void)
{
	struct task_struct *task;

	if (!kmm_rcu_loaded())
		return false;
	task = current_task();
	if (task == NULL || gate_is_inside())
		return false;
	if (unlikely(!task->rcu_registered)) {
		int saved = errno;

		urcu.register_thread();
		task->rcu_registered = true;
		errno = saved;
	}
	urcu.read_lock();
	return true;
}

void kmm_rcu_read_unlock(void)
{
	urcu.read_unlock();
}

void kmm_synchronize_rcu(void)
{
	int saved = errno;

	if (!kmm_rcu_loaded())
		return;
	VM_BUG_ON(gate_is_inside());
	urcu.synchronize();
	errno = saved;
}

/* Loaded cannot become true between these: kmmd needs its lock for that, and fork holds it. */
void kmm_rcu_before_fork(void)
{
	if (kmm_rcu_loaded())
		urcu.before_fork();
}

void kmm_rcu_after_fork_parent(void)
{
	if (kmm_rcu_loaded())
		urcu.after_fork_parent();
}

void kmm_rcu_after_fork_child(void)
{
	if (kmm_rcu_loaded())
		urcu.after_fork_child();
}
