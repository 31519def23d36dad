/* SPDX-License-Identifier: MIT */
/* kthread.h - threads of libkmm's own, and how many CPUs there are. Same rules as os/vm.h but where it says so. */
#ifndef KMM_OS_KTHREAD_H
#define KMM_OS_KTHREAD_H

#include "base/types.h"
#include <pthread.h>
#include <threads.h>

typedef int (*pthread_create_fn)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
typedef int (*thrd_create_fn)(thrd_t *, thrd_start_t, void *);

/* CPUs that the calling thread may run on; at least 1. */
unsigned os_nr_cpus(void);
/* All CPU numbers that there can ever be are below this one, and so are rseq's. */
u32 os_nr_cpu_ids(void);
/* The same from sysfs, not rounded up to a word of them, but dearer; os_nr_cpu_ids() where there is no sysfs. */
u32 os_nr_possible_cpus(void);

/* libc's own, not those that are exported in front of them; NULL: there is none. Take locks of ld.so. */
pthread_create_fn os_pthread_create(void);
thrd_create_fn os_thrd_create(void);

/*
 * Starts a detached thread with every signal blocked, by pthread_create, so that setuid() and friends reach it.
 * Allocates (glibc does), takes locks of ld.so. 0 or -errno.
 */
int os_kthread_create(void *(*fn)(void *), void *arg);

/*
 * First call of such a thread: gives it its name, leave to be woken late (its timers may wait for others'), and a
 * descriptor table of its own, empty. Without one (before Linux 5.9) -errno: the thread must not open anything then.
 */
int os_kthread_begin(const char *name);

/*
 * The word that holds the calling thread's id and that the kernel clears when the thread ends; NULL where the
 * kernel does not tell (prctl(PR_GET_TID_ADDRESS)).
 */
u32 *os_tid_word(void);

/* atexit(3): fn runs before any destructor of a library. May allocate. 0 or -ENOMEM. */
int os_at_exit(void (*fn)(void));

#endif
