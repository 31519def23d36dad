/* SPDX-License-Identifier: MIT */
/*
 * pthread.c - pthread_create(), so that a thread begins in the memory group of the one that creates it.
 *
 * Purpose: nobody else tells a new thread who its creator was. As long as there are no groups the call goes straight on to
 * libc's; otherwise a small record takes the creator's group to the new thread, which frees it before anything else.
 *
 * Fast and slow path: libc's function is looked up at the first call and kept (os/kthread.c).
 *
 * Kernel counterpart: kernel/fork.c, cgroup_fork().
 */
#include "api/malloc.h"

#include "mm/memcg_rules.h"
#include "os/kthread.h"
#include <errno.h>
#include <pthread.h>

struct thread_start {
	void *(*fn)(void *);
	void *arg;
	u32 word;
};

/* Cancellation and pthread_exit() unwind through here. */
static void *begin_thread(void *arg)
{
	struct thread_start start = *(struct thread_start *)arg;

	memcg_thread.word = start.word;
	kmm_free_internal(arg);
	return start.fn(start.arg);
}

EXPORT_SYMBOL int pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*fn)(void *), void *arg)
{
	pthread_create_fn create = os_pthread_create();
	struct thread_start *start;
	int ret;

	if (unlikely(!create))
		return EAGAIN;
	if (likely(!memcg_enabled))
		return create(thread, attr, fn, arg);
	start = kmm_malloc_internal(sizeof(*start));
	if (unlikely(!start))
		return EAGAIN;
	*start = (struct thread_start){ fn, arg, memcg_thread.word };
	ret = create(thread, attr, begin_thread, start);
	if (ret)
		kmm_free_internal(start);
	return ret;
}
