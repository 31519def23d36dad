/* SPDX-License-Identifier: MIT */
/*
 * pthread.c - pthread_create() and C11's thrd_create(), so that a thread begins in the memory group of the one that creates it.
 *
 * Purpose: nobody else tells a new thread who its creator was. As long as there are no groups the call goes straight on to
 * libc's; otherwise a small record takes the creator's group to the new thread, which frees it before anything else. A
 * group that has been removed in between is not entered; the thread begins in the root.
 *
 * It is also the last moment at which the process has one thread: the fast paths get their constants (arch/x86_64/runtime_const.c),
 * and kmmd hears that there may be two, since a thread that finds all that it wants in sheaves is not known otherwise.
 *
 * Fast and slow path: libc's functions are looked up at the first call and kept (os/kthread.c).
 *
 * Kernel counterpart: kernel/fork.c, cgroup_fork().
 */
#include "api/malloc.h"

#include "arch/runtime_const.h"
#include "mm/kmmd.h"
#include "mm/memcg_rules.h"
#include "os/kthread.h"
#include <errno.h>
#include <pthread.h>
#include <threads.h>

struct thread_start {
	union {
		void *(*posix)(void *);
		thrd_start_t c11;
	} fn;
	void *arg;
	u32 memcg_id;
};

/* NULL: no memory. */
static struct thread_start *new_start(void *arg)
{
	struct thread_start *start = kmm_malloc_internal(sizeof(*start));

	if (likely(start)) {
		start->arg = arg;
		start->memcg_id = mem_cgroup_from_colour(memcg_word_colour(memcg_thread.word))->id;
	}
	return start;
}

static struct thread_start begin(void *arg)
{
	struct thread_start start = *(struct thread_start *)arg;

	memcg_begin_thread(start.memcg_id);
	kmm_free_internal(arg);
	return start;
}

/* Cancellation and pthread_exit() unwind through here. */
static void *begin_posix(void *arg)
{
	struct thread_start start = begin(arg);

	return start.fn.posix(start.arg);
}

static int begin_c11(void *arg)
{
	struct thread_start start = begin(arg);

	return start.fn.c11(start.arg);
}

/* libc has answered, 0 for success in both; the record of a thread that was not made is still ours. */
static __resident int settle(int ret, struct thread_start *start)
{
	if (likely(!ret))
		kmmd_note_thread();
	else if (start)
		kmm_free_internal(start);
	return ret;
}
_Static_assert(thrd_success == 0, "pthread_create() and thrd_create() agree on what success is");

EXPORT_SYMBOL __resident int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	pthread_create_fn create = os_pthread_create();
	struct thread_start *start;

	if (unlikely(!create))
		return EAGAIN;
	runtime_const_before_threads();
	if (likely(!memcg_enabled))
		return settle(create(thread, attr, fn, arg), NULL);
	start = new_start(arg);
	if (unlikely(!start))
		return EAGAIN;
	start->fn.posix = fn;
	return settle(create(thread, attr, begin_posix, start), start);
}

EXPORT_SYMBOL int thrd_create(thrd_t *thread, thrd_start_t fn, void *arg)
{
	thrd_create_fn create = os_thrd_create();
	struct thread_start *start;

	if (unlikely(!create))
		return thrd_error;
	runtime_const_before_threads();
	if (likely(!memcg_enabled))
		return settle(create(thread, fn, arg), NULL);
	start = new_start(arg);
	if (unlikely(!start))
		return thrd_nomem;
	start->fn.c11 = fn;
	return settle(create(thread, begin_c11, start), start);
}
