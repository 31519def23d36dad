/* SPDX-License-Identifier: MIT */
/*
 * kthread.c - threads of libkmm's own.
 *
 * Purpose. A thread in somebody else's process must not be noticed: it takes none of his signals, and his descriptors
 * are not its. A program that closes all descriptors and opens a file would otherwise find that file under the number
 * of ours, or find ours closed.
 *
 * What differs from the kernel. A kthread has no user side at all. Ours shares the address space and is a full pthread,
 * because glibc's setuid() walks the list of pthreads and must find it.
 */
#include "os/kthread.h"

#include "base/align.h"
#include "os/atfork.h"
#include "os/os.h"
#include "os/syscall.h"
#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>

#ifndef SYS_close_range
#define SYS_close_range 436
#endif
#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE (1U << 1)
#endif

/* Enough for dlopen of a library with many dependencies; only what is touched becomes memory. */
#define KTHREAD_STACK KIB(512)

#define MASK_WORDS_MAX 128	/* 8,192 CPUs, the most that Linux is built for */
#define KTHREAD_SLACK_NS 10000000l	/* nothing that such a thread does is urgent */

unsigned os_nr_cpus(void)
{
	unsigned long mask[1024 / (8 * sizeof(long))] = { 0 };
	long bytes = raw_syscall3(SYS_sched_getaffinity, 0, sizeof(mask), (long)mask);
	unsigned nr = 0;

	for (long i = 0; i < bytes / (long)sizeof(mask[0]); i++)
		nr += (unsigned)__builtin_popcountl(mask[i]);
	return nr != 0 ? nr : 1;
}

__init u32 os_nr_cpu_ids(void)
{
	u64 mask[MASK_WORDS_MAX];
	long bytes = raw_syscall3(SYS_sched_getaffinity, 0, sizeof(mask), (long)mask);

	return bytes > 0 ? (u32)bytes * 8 : sizeof(mask) * 8;
}

/* A list of ranges, of which the last number is the largest. */
__init u32 os_nr_possible_cpus(void)
{
	char text[256];
	ssize_t len = os_read_file("/sys/devices/system/cpu/possible", text, sizeof(text));
	u32 last = 0, unit = 1;

	while (len > 0 && (text[len - 1] < '0' || text[len - 1] > '9'))
		len--;
	if (len <= 0)
		return os_nr_cpu_ids();
	for (; len > 0 && text[len - 1] >= '0' && text[len - 1] <= '9'; len--, unit *= 10)
		last += unit * (u32)(text[len - 1] - '0');
	return min(last + 1, os_nr_cpu_ids());
}

__resident pthread_create_fn os_pthread_create(void)
{
	static void *next;

	return (pthread_create_fn)os_next_function(&next, "pthread_create");
}

thrd_create_fn os_thrd_create(void)
{
	static void *next;

	return (thrd_create_fn)os_next_function(&next, "thrd_create");
}

int os_kthread_create(void *(*fn)(void *), void *arg)
{
	pthread_create_fn create = os_pthread_create();
	pthread_attr_t attr;
	sigset_t all, old;
	pthread_t thread;
	int saved = errno, ret;

	sigfillset(&all);
	ret = pthread_attr_init(&attr);
	if (ret == 0) {
		pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
		pthread_attr_setstacksize(&attr, KTHREAD_STACK);
		pthread_sigmask(SIG_SETMASK, &all, &old);
		ret = create ? create(&thread, &attr, fn, arg) : EAGAIN;
		pthread_sigmask(SIG_SETMASK, &old, NULL);
		pthread_attr_destroy(&attr);
	}
	errno = saved;
	return -ret;
}

int os_kthread_begin(const char *name)
{
	raw_syscall5(SYS_prctl, PR_SET_NAME, (long)name, 0, 0, 0);
	raw_syscall5(SYS_prctl, PR_SET_TIMERSLACK, KTHREAD_SLACK_NS, 0, 0, 0);
	os_descriptors_are_private();
	return (int)raw_syscall3(SYS_close_range, 0, ~0U, CLOSE_RANGE_UNSHARE);
}

u32 *os_tid_word(void)
{
	u32 *word = NULL;

	return raw_syscall5(SYS_prctl, PR_GET_TID_ADDRESS, (long)&word, 0, 0, 0) == 0 ? word : NULL;
}

int os_at_exit(void (*fn)(void))
{
	return atexit(fn) == 0 ? 0 : -ENOMEM;
}
