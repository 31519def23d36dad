/* SPDX-License-Identifier: MIT */
/*
 * uffd.h - userfaultfd(2), memfd_create(2) and pagemap: what moving memory under a running program needs. All descriptors are
 * for a thread with a descriptor table of its own (os/kthread.h). Same rules as os/vm.h.
 */
#ifndef KMM_OS_UFFD_H
#define KMM_OS_UFFD_H

#include "base/types.h"

/*
 * A descriptor that can move pages, stops system calls as well as instructions, and tells of forks. -errno where this
 * kernel (before Linux 6.8) or the process's rights do not give that.
 */
int uffd_open(void);
/* Threads that touch a page that is missing in the range wait from now on. -EBUSY: somebody else watches it. */
int uffd_register(int fd, void *addr, size_t size);
/* No longer; wakes who waits. */
int uffd_unregister(int fd, void *addr, size_t size);
/*
 * Moves pages, at least one; both ranges lie in private anonymous memory and dst is registered and empty. Bytes moved, or, with
 * nothing moved, -ENOENT: the first page is missing; -EBUSY: it is pinned or shared with another process; -EAGAIN: try
 * again, after uffd_fork_pending(); -EINVAL: such memory is not to be moved (locked, protected).
 */
ssize_t uffd_move(int fd, void *dst, void *src, size_t size);
/* Fills a missing page of the descriptor's process, and wakes who waits for it. -EEXIST: it is there; -ENOENT: not watched. */
int uffd_copy(int fd, void *dst, const void *src, size_t size);
int uffd_wake(int fd, void *addr, size_t size);
/* A thread that forked while a range was registered waits until the child is known. */
bool uffd_fork_pending(int fd);
/* That child's own descriptor; -EAGAIN: not there yet (it has waited a little). */
int uffd_next_child(int fd);

/* Memory without a name, zeroed, as large as it may ever become. -errno. */
int memfd_open(const char *name);
int memfd_read(int fd, void *buf, size_t size, u64 offset);	/* 0 or -errno: not all of it */
int memfd_write(int fd, const void *buf, size_t size, u64 offset);
int memfd_punch(int fd, u64 offset, size_t size);		/* those pages go home */

/* What the kernel says about pages of this process. */
int pagemap_open(void);
bool pagemap_is_exclusive(int fd, const void *addr);	/* resident, and no other process maps the page */
/* The same of up to PAGEMAP_SUM_MAX pages at once. 0 or -errno. */
#define PAGEMAP_SUM_MAX 512u
struct pagemap_sum {
	u32 nr_present, nr_exclusive, nr_swapped;
	u32 first_present;	/* page, if there is one */
};
int pagemap_sum(int fd, const void *addr, unsigned nr_pages, struct pagemap_sum *sum);
/*
 * Ranges of [addr, addr + size) that are the process's own copies of a mapped file's pages, at most nr; how many, *end: up to
 * where it looked. -errno: before Linux 6.7.
 */
struct page_region {
	u64 start, end, categories;
};
int pagemap_private_copies(int fd, void *addr, size_t size, struct page_region *region, unsigned nr, uintptr_t *end);

#endif
