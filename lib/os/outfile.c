/* SPDX-License-Identifier: MIT */
/*
 * outfile.c - writing reports into descriptors of the program without harm to it.
 *
 * Purpose: statistics are printed when the program ends, and by then it may have closed stderr (every program of
 * coreutils does, to see write errors), or its reader may be gone. So a duplicate is held from the start, it is
 * checked to be the same file before it is used, and SIGPIPE is kept away.
 *
 * Invariants: the calling thread's signal mask is as before on return. A SIGPIPE that our own write raised is
 * taken back; one that was pending before stays pending.
 *
 * Fork and init: the held duplicate is inherited by fork, and closed by exec.
 */
#include "os/outfile.h"

#include "os/os.h"
#include "os/syscall.h"
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <time.h>

/* Above what programs expect to get from open(), below the usual limit of 1024. */
#define HELD_FD_MIN 200

#define KERNEL_SIGSET_SIZE 8
#define SIGPIPE_BIT	   (1ul << (SIGPIPE - 1))

static int file_identity(int fd, u64 *dev, u64 *ino)
{
	struct stat st = { 0 };
	long ret = raw_syscall2(SYS_fstat, fd, (long)&st);

	if (ret < 0)
		return (int)ret;
	*dev = st.st_dev;
	*ino = st.st_ino;
	return 0;
}

int outfile_hold(struct held_fd *held, int fd)
{
	int ret = file_identity(fd, &held->dev, &held->ino);

	held->fd = -1;
	if (ret < 0)
		return ret;
	ret = (int)raw_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, HELD_FD_MIN);
	if (ret == -EINVAL)	/* RLIMIT_NOFILE is lower */
		ret = (int)raw_syscall3(SYS_fcntl, fd, F_DUPFD_CLOEXEC, 3);
	if (ret < 0)
		return ret;
	held->fd = ret;
	return 0;
}

int outfile_held(const struct held_fd *held)
{
	u64 dev = 0, ino = 0;

	if (held->fd < 0 || file_identity(held->fd, &dev, &ino) < 0)
		return -1;
	return dev == held->dev && ino == held->ino ? held->fd : -1;
}

int outfile_create(const char *path)
{
	return os_open(path, O_WRONLY | O_CREAT | O_TRUNC | O_NOCTTY, 0666);
}

static u64 block_sigpipe(bool *was_pending)
{
	u64 pending = 0;

	raw_syscall2(SYS_rt_sigpending, (long)&pending, KERNEL_SIGSET_SIZE);
	*was_pending = (pending & SIGPIPE_BIT) != 0;
	return os_block_signals(SIGPIPE_BIT);
}

static void restore_sigpipe(u64 old_mask, bool raised)
{
	u64 set = SIGPIPE_BIT;
	struct timespec zero = { 0 };

	if (raised)
		raw_syscall4(SYS_rt_sigtimedwait, (long)&set, 0, (long)&zero, KERNEL_SIGSET_SIZE);
	os_restore_signals(old_mask);
}

static int write_all(int fd, const char *buf, size_t size)
{
	while (size > 0) {
		long n = raw_syscall3(SYS_write, fd, (long)buf, (long)size);

		if (n == -EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };

			raw_syscall5(SYS_ppoll, (long)&p, 1, 0, 0, KERNEL_SIGSET_SIZE);
		} else if (n == 0) {
			return -EIO;
		} else if (n > 0) {
			buf += n;
			size -= (size_t)n;
		} else if (n != -EINTR) {
			return (int)n;
		}
	}
	return 0;
}

int outfile_write(int fd, const void *buf, size_t size)
{
	bool was_pending;
	u64 old_mask = block_sigpipe(&was_pending);
	int ret;

	ret = write_all(fd, buf, size);
	restore_sigpipe(old_mask, ret == -EPIPE && !was_pending);
	return ret;
}
