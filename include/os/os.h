/* SPDX-License-Identifier: MIT */
/* os.h - the rest of the contract with the kernel: time, threads, files, futexes. Same rules as os/vm.h. */
#ifndef KMM_OS_OS_H
#define KMM_OS_OS_H

#include "base/types.h"

u64 os_clock_ms(void);			/* CLOCK_MONOTONIC_COARSE in ms: no system call, steps of up to 10 ms */
u64 os_clock_ns(void);			/* CLOCK_MONOTONIC in ns */
u64 os_thread_cpu_ns(int tid);		/* CPU time of a thread of this process, 0: the calling one; 0 if there is none */
int os_gettid(void);
int os_getpid(void);
void os_yield(void);
__attribute__((noreturn)) void os_exit(int status);	/* the whole process, at once */
long os_prctl(int option, const unsigned long arg[4]);	/* what it returns, or -errno */
int os_comm(char comm[16]);		/* name of the calling thread, without /proc; 0 or -errno */
bool os_thread_alive(int tid);		/* a thread of this process */
unsigned os_nr_threads(void);		/* of this process; 0: not known */
int os_thread_comm(int tid, char comm[16]);	/* name of a thread, "" and -errno when unknown */
int os_getcpu(void);			/* CPU number the caller ran on, by rseq or vdso; 0 when unknown */
int os_getcpu_syscall(void);		/* the same, asked of the kernel */

/* Signals of the calling thread: bit n is signal n + 1. Returns what was blocked before. */
u64 os_block_signals(u64 set);
void os_restore_signals(u64 blocked);

int futex_wait(u32 *word, u32 expected, u64 timeout_ms);	/* timeout 0: for ever */
int futex_wake(u32 *word, int nr);
/*
 * Waits on a word of our own and on a thread's id, which the kernel clears, and wakes one waiter, when that thread
 * ends (os_tid_word()). As futex_wait(); -ENOSYS before Linux 5.16. Call futex_wake_shared() on a cleared tid.
 */
int futex_wait_or_exit(u32 *word, u32 expected, u32 *tid_word, u32 tid, u64 timeout_ms);
int futex_wake_shared(u32 *word, int nr);

/* Files, for /proc and statistics. O_CLOEXEC always. */
int os_open(const char *path, int flags, int mode);
ssize_t os_read(int fd, void *buf, size_t size);	/* restarts after EINTR */
ssize_t os_write(int fd, const void *buf, size_t size);	/* writes all or returns -errno */
void os_close(int fd);
void os_descriptors_are_private(void);	/* the caller's: messages of its go to the standard error of the others (Linux 5.6) */
/* Reads a whole small file, terminates it; length or -errno. */
ssize_t os_read_file(const char *path, char *buf, size_t size);
/*
 * vm.max_map_count, read now, or the kernel's default where it cannot be; and as it was when last read. What of it is whose:
 * vmalloc areas and lazy ones a quarter, with the seams between assembled pieces an eighth; meshing, what then is left.
 */
u64 os_read_max_map_count(void);
u64 os_max_map_count(void);

#endif
