/* SPDX-License-Identifier: MIT */
/*
 * once.h - what is to be done once, by whoever comes first; the others wait. pthread_once() would not do: who comes again on top
 * of the one that is at it (recursion, a signal handler) must not wait for itself.
 */
#ifndef KMM_OS_ONCE_H
#define KMM_OS_ONCE_H

#include "base/compiler.h"
#include "os/os.h"

enum once_state { ONCE_NEW, ONCE_RUNNING, ONCE_DONE };

struct once {
	u32 state;
	uintptr_t owner;	/* thread pointer of the one that is at it */
};

static inline bool once_is_done(const struct once *once)
{
	return smp_load_acquire(&once->state) == ONCE_DONE;
}

/* True: the caller is the first, and calls once_end() when it is done. Else it is done, or done by the caller itself. */
static inline bool once_begin(struct once *once)
{
	uintptr_t self = (uintptr_t)__builtin_thread_pointer();
	u32 new = ONCE_NEW;

	if (__atomic_compare_exchange_n(&once->state, &new, ONCE_RUNNING, false, __ATOMIC_ACQUIRE, __ATOMIC_ACQUIRE)) {
		WRITE_ONCE(once->owner, self);
		return true;
	}
	while (READ_ONCE(once->owner) != self && !once_is_done(once))
		os_yield();
	return false;
}

static inline void once_end(struct once *once)
{
	smp_store_release(&once->state, ONCE_DONE);
}

#endif
