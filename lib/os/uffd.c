/* SPDX-License-Identifier: MIT */
/*
 * uffd.c - userfaultfd, memfd and pagemap.
 *
 * Purpose. The system calls by which pages are taken from under a running program and given back in another place
 * (mm/mesh.c). A page that has been moved away from a registered range is missing: whoever touches it waits, system
 * calls too, which is why a descriptor for user mode only is of no use.
 *
 * Forks. A child that is made while pages are away would find zeroes. So the descriptor asks for fork events: the forking
 * thread waits inside fork() until its event has been read, and the event brings a descriptor for the child's memory.
 * While an event is on its way the kernel refuses every operation with EAGAIN, which is how it is found
 * without a race: uffd_fork_pending() asks for a move of nothing.
 *
 * Fork and init. Descriptors live in the table of one thread (os/kthread.c), so no child has them.
 */
#include "os/uffd.h"

#include "base/align.h"
#include "os/os.h"
#include "os/syscall.h"
#include "os/vm.h"
#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <sys/ioctl.h>

/* What headers before Linux 6.8 lack. */
#ifndef UFFD_FEATURE_MOVE
#define UFFD_FEATURE_MOVE (1 << 16)
#endif
#define KMM_UFFDIO_MOVE _IOWR(UFFDIO, 0x05, struct move_args)
struct move_args {
	u64 dst, src, len, mode;
	s64 move;
};

#define KMM_PAGEMAP_SCAN _IOWR('f', 16, struct pm_scan_args)
#define KMM_PAGE_IS_FILE    (1ull << 2)
#define KMM_PAGE_IS_PRESENT (1ull << 3)
#define KMM_PAGE_IS_SWAPPED (1ull << 4)
struct pm_scan_args {
	u64 size, flags, start, end, walk_end, vec, vec_len, max_pages;
	u64 category_inverted, category_mask, category_anyof_mask, return_mask;
};

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#endif
#define MEMFD_SIZE (1l << 46)

static long uffd_ioctl(int fd, unsigned long request, void *arg)
{
	return raw_syscall3(SYS_ioctl, fd, (long)request, (long)arg);
}

int uffd_open(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MOVE | UFFD_FEATURE_EVENT_FORK };
	int fd = (int)raw_syscall1(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK), ret;

	if (fd < 0)
		return fd;
	ret = (int)uffd_ioctl(fd, UFFDIO_API, &api);
	if (ret == 0)
		return fd;
	os_close(fd);
	return ret == -EINVAL ? -EOPNOTSUPP : ret;
}

int uffd_register(int fd, void *addr, size_t size)
{
	struct uffdio_register r = { .range = { (u64)(uintptr_t)addr, size }, .mode = UFFDIO_REGISTER_MODE_MISSING };

	return (int)uffd_ioctl(fd, UFFDIO_REGISTER, &r);
}

int uffd_unregister(int fd, void *addr, size_t size)
{
	struct uffdio_range r = { (u64)(uintptr_t)addr, size };

	return (int)uffd_ioctl(fd, UFFDIO_UNREGISTER, &r);
}

ssize_t uffd_move(int fd, void *dst, void *src, size_t size)
{
	struct move_args m = { .dst = (u64)(uintptr_t)dst, .src = (u64)(uintptr_t)src, .len = size };
	long ret = uffd_ioctl(fd, KMM_UFFDIO_MOVE, &m);

	if (ret == 0)
		return (ssize_t)size;
	return m.move > 0 ? (ssize_t)m.move : ret;
}

int uffd_copy(int fd, void *dst, const void *src, size_t size)
{
	struct uffdio_copy c = { .dst = (u64)(uintptr_t)dst, .src = (u64)(uintptr_t)src, .len = size };
	long ret;

	do
		ret = uffd_ioctl(fd, UFFDIO_COPY, &c);
	while (ret == -EAGAIN && c.copy <= 0 && !uffd_fork_pending(fd));
	return (int)ret;
}

int uffd_wake(int fd, void *addr, size_t size)
{
	struct uffdio_range r = { (u64)(uintptr_t)addr, size };

	return (int)uffd_ioctl(fd, UFFDIO_WAKE, &r);
}

bool uffd_fork_pending(int fd)
{
	struct move_args nothing = { 0 };

	return uffd_ioctl(fd, KMM_UFFDIO_MOVE, &nothing) == -EAGAIN;
}

int uffd_next_child(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	struct timespec ms = { .tv_nsec = 1000000 };
	struct uffd_msg msg;

	raw_syscall5(SYS_ppoll, (long)&p, 1, (long)&ms, 0, 0);
	if (os_read(fd, &msg, sizeof(msg)) != (ssize_t)sizeof(msg) || msg.event != UFFD_EVENT_FORK)
		return -EAGAIN;
	return (int)msg.arg.fork.ufd;
}

/* --- memfd ------------------------------------------------------------------------------------------------ */

int memfd_open(const char *name)
{
	int fd = (int)raw_syscall2(SYS_memfd_create, (long)name, MFD_CLOEXEC | MFD_NOEXEC_SEAL), ret;

	if (fd == -EINVAL)	/* before Linux 6.3 */
		fd = (int)raw_syscall2(SYS_memfd_create, (long)name, MFD_CLOEXEC);
	if (fd < 0)
		return fd;
	ret = (int)raw_syscall2(SYS_ftruncate, fd, MEMFD_SIZE);
	if (ret == 0)
		return fd;
	os_close(fd);
	return ret;
}

int memfd_read(int fd, void *buf, size_t size, u64 offset)
{
	ssize_t n = raw_syscall4(SYS_pread64, fd, (long)buf, (long)size, (long)offset);

	return n < 0 ? (int)n : (size_t)n == size ? 0 : -EIO;
}

int memfd_write(int fd, const void *buf, size_t size, u64 offset)
{
	ssize_t n = raw_syscall4(SYS_pwrite64, fd, (long)buf, (long)size, (long)offset);

	return n < 0 ? (int)n : (size_t)n == size ? 0 : -ENOMEM;
}

int memfd_punch(int fd, u64 offset, size_t size)
{
	return (int)raw_syscall4(SYS_fallocate, fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, (long)offset, (long)size);
}

/* --- pagemap ---------------------------------------------------------------------------------------------- */

#define PM_PRESENT   (1ull << 63)
#define PM_EXCLUSIVE (1ull << 56)
#define PM_SWAPPED   (1ull << 62)

int pagemap_open(void)
{
	return os_open("/proc/thread-self/pagemap", O_RDONLY, 0);
}

bool pagemap_is_exclusive(int fd, const void *addr)
{
	u64 entry = 0, at = (uintptr_t)addr / os_page_size * sizeof(entry);

	return memfd_read(fd, &entry, sizeof(entry), at) == 0 && (~entry & (PM_PRESENT | PM_EXCLUSIVE)) == 0;
}

int pagemap_sum(int fd, const void *addr, unsigned nr_pages, struct pagemap_sum *sum)
{
	u64 entry[PAGEMAP_SUM_MAX], at = (uintptr_t)addr / os_page_size * sizeof(*entry);
	int ret = nr_pages > PAGEMAP_SUM_MAX ? -EINVAL : memfd_read(fd, entry, nr_pages * sizeof(*entry), at);

	*sum = (struct pagemap_sum){ 0 };
	for (unsigned i = 0; ret == 0 && i < nr_pages; i++) {
		bool present = entry[i] & PM_PRESENT;

		if (present && !sum->nr_present)
			sum->first_present = i;
		sum->nr_present += present;
		sum->nr_exclusive += present && entry[i] & PM_EXCLUSIVE;
		sum->nr_swapped += (entry[i] & PM_SWAPPED) != 0;
	}
	return ret;
}

int pagemap_private_copies(int fd, void *addr, size_t size, struct page_region *region, unsigned nr, uintptr_t *end)
{
	struct pm_scan_args args = {
		.size = sizeof(args), .start = (uintptr_t)addr, .end = (uintptr_t)addr + size, .vec = (uintptr_t)region, .vec_len = nr,
		.category_inverted = KMM_PAGE_IS_FILE, .category_mask = KMM_PAGE_IS_FILE,
		.category_anyof_mask = KMM_PAGE_IS_PRESENT | KMM_PAGE_IS_SWAPPED, .return_mask = KMM_PAGE_IS_PRESENT,
	};
	long ret = raw_syscall3(SYS_ioctl, fd, (long)KMM_PAGEMAP_SCAN, (long)&args);

	*end = (uintptr_t)args.walk_end;
	return (int)ret;
}
