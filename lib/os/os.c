/* SPDX-License-Identifier: MIT */
/*
 * os.c - time, threads, files, membarrier and rseq.
 *
 * Purpose. Thin wrappers with the rules of os/vm.h: -errno instead of errno, no allocation, no cancellation points.
 */
#include "os/os.h"

#include "base/align.h"
#include "base/printk.h"
#include "os/membarrier.h"
#include "os/syscall.h"
#include "os/vdso.h"
#include <fcntl.h>
#include <linux/membarrier.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>

static __resident u64 clock_read(clockid_t id)
{
	struct timespec ts = { 0 };

	os_clock_gettime(id, &ts);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

__resident u64 os_clock_ms(void)
{
	return clock_read(CLOCK_MONOTONIC_COARSE) / 1000000u;
}

__resident u64 os_clock_ns(void)
{
	return clock_read(CLOCK_MONOTONIC);
}

#define THREAD_CLOCK 6	/* CPUCLOCK_PERTHREAD_MASK | CPUCLOCK_SCHED */

u64 os_thread_cpu_ns(int tid)
{
	return clock_read((clockid_t)(~(unsigned)tid << 3 | THREAD_CLOCK));
}

__resident int os_gettid(void)
{
	return (int)raw_syscall0(SYS_gettid);
}

__resident int os_getpid(void)
{
	return (int)raw_syscall0(SYS_getpid);
}

long os_prctl(int option, const unsigned long arg[4])
{
	return raw_syscall5(SYS_prctl, option, (long)arg[0], (long)arg[1], (long)arg[2], (long)arg[3]);
}

__resident u64 os_block_signals(u64 set)
{
	u64 old = 0;

	raw_syscall4(SYS_rt_sigprocmask, SIG_BLOCK, (long)&set, (long)&old, sizeof(set));
	return old;
}

__resident void os_restore_signals(u64 blocked)
{
	raw_syscall4(SYS_rt_sigprocmask, SIG_SETMASK, (long)&blocked, 0, sizeof(blocked));
}

void os_yield(void)
{
	raw_syscall0(SYS_sched_yield);
}

void os_exit(int status)
{
	for (;;)
		raw_syscall1(SYS_exit_group, status);
}

int os_comm(char comm[16])
{
	return (int)raw_syscall5(SYS_prctl, PR_GET_NAME, (long)comm, 0, 0, 0);
}

/* /proc/self/task has a link for each thread, and two of its own. */
unsigned os_nr_threads(void)
{
	struct stat st;

	return raw_syscall4(SYS_newfstatat, AT_FDCWD, (long)"/proc/self/task", (long)&st, 0) == 0 && st.st_nlink > 2
		? (unsigned)st.st_nlink - 2 : 0;
}

bool os_thread_alive(int tid)
{
	return raw_syscall3(SYS_tgkill, os_getpid(), tid, 0) == 0;
}

int os_thread_comm(int tid, char comm[16])
{
	char path[48];
	ssize_t n;

	kmm_snprintf(path, sizeof(path), "/proc/self/task/%d/comm", tid);
	n = os_read_file(path, comm, 16);
	if (n < 0) {
		comm[0] = '\0';
		return (int)n;
	}
	if (n > 0 && comm[n - 1] == '\n')
		comm[n - 1] = '\0';
	return 0;
}

__resident int os_getcpu(void)
{
	int saved = errno;
	int cpu = sched_getcpu();	/* rseq's cpu_id or the vdso */

	errno = saved;
	return cpu < 0 ? 0 : cpu;
}

__resident int os_getcpu_syscall(void)
{
	unsigned cpu = 0;

	raw_syscall3(SYS_getcpu, (long)&cpu, 0, 0);
	return (int)cpu;
}

int os_open(const char *path, int flags, int mode)
{
	return (int)raw_syscall4(SYS_openat, AT_FDCWD, (long)path, flags | O_CLOEXEC, mode);
}

ssize_t os_read(int fd, void *buf, size_t size)
{
	ssize_t n;

	do
		n = raw_syscall3(SYS_read, fd, (long)buf, (long)size);
	while (n == -EINTR);
	return n;
}

ssize_t os_write(int fd, const void *buf, size_t size)
{
	size_t done = 0;

	while (done < size) {
		ssize_t n = raw_syscall3(SYS_write, fd, (long)buf + (long)done, (long)(size - done));

		if (n == -EINTR)
			continue;
		if (n < 0)
			return n;
		done += (size_t)n;
	}
	return (ssize_t)done;
}

void os_close(int fd)
{
	raw_syscall1(SYS_close, fd);
}

__cold ssize_t os_read_file(const char *path, char *buf, size_t size)
{
	int fd = os_open(path, O_RDONLY, 0);
	size_t done = 0;
	ssize_t n = 0;

	if (fd < 0)
		return fd;
	while (done < size - 1 && (n = os_read(fd, buf + done, size - 1 - done)) > 0)
		done += (size_t)n;
	os_close(fd);
	buf[done] = '\0';
	return n < 0 ? n : (ssize_t)done;
}

#define DEFAULT_MAX_MAP_COUNT 65530u

static u64 known_max_map_count;

u64 os_read_max_map_count(void)
{
	char text[32];
	u64 nr = 0;

	if (os_read_file("/proc/sys/vm/max_map_count", text, sizeof(text)) > 0)
		for (const char *s = text; *s >= '0' && *s <= '9'; s++)
			nr = nr * 10 + (u64)(*s - '0');
	nr = nr ? nr : DEFAULT_MAX_MAP_COUNT;
	WRITE_ONCE(known_max_map_count, nr);
	return nr;
}

u64 os_max_map_count(void)
{
	u64 nr = READ_ONCE(known_max_map_count);

	return nr ? nr : os_read_max_map_count();
}

#ifndef SYS_pidfd_open
#define SYS_pidfd_open 434
#endif
#ifndef SYS_pidfd_getfd
#define SYS_pidfd_getfd 438
#endif

static int private_tid;

void os_descriptors_are_private(void)
{
	WRITE_ONCE(private_tid, os_gettid());
}

/* By a thread in whose table the number means something else: it borrows the program's. */
static ssize_t write_to_programs_stderr(const char *buf, size_t len)
{
	int process = (int)raw_syscall2(SYS_pidfd_open, os_getpid(), 0);
	int fd = process < 0 ? process : (int)raw_syscall3(SYS_pidfd_getfd, process, STDERR_FILENO, 0);
	ssize_t ret = fd < 0 ? fd : os_write(fd, buf, len);

	if (process >= 0)
		os_close(process);
	if (fd >= 0)
		os_close(fd);
	return ret;
}

static __cold ssize_t console_to_stderr(const char *buf, size_t len)
{
	if (READ_ONCE(private_tid) && READ_ONCE(private_tid) == os_gettid())
		return write_to_programs_stderr(buf, len);
	return os_write(STDERR_FILENO, buf, len);
}

ssize_t (*console_write)(const char *buf, size_t len) = console_to_stderr;

static __resident int membarrier(int cmd)
{
	return (int)raw_syscall3(SYS_membarrier, cmd, 0, 0);
}

__init int membarrier_register_rseq(void)
{
	return membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED_RSEQ);
}

__resident int membarrier_rseq(void)
{
	int ret = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ);

	if (ret == -EPERM) {
		ret = membarrier_register_rseq();
		if (!ret)
			ret = membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED_RSEQ);
	}
	return ret;
}

int rseq_register(void *area, u32 len, u32 sig)
{
	return (int)raw_syscall4(SYS_rseq, (long)area, len, 0, sig);
}

int rseq_unregister(void *area, u32 len, u32 sig)
{
	return (int)raw_syscall4(SYS_rseq, (long)area, len, 1 /* RSEQ_FLAG_UNREGISTER */, sig);
}
