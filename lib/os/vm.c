/* SPDX-License-Identifier: MIT */
/*
 * vm.c - address space from the kernel.
 *
 * Purpose. The one place where libkmm asks for, changes and gives back address space. Every call is a raw system
 * call, so errno of the program is never touched and no interposed mmap() gets in between. The break is the
 * exception: it moves through glibc's __sbrk(), because glibc caches the break and a raw brk(2) would leave that
 * cache stale (a later sbrk() of the program would then shrink our heap).
 *
 * Fault injection sits here: os_fault_every makes every n-th call that can fail do so.
 *
 * Fork and init. No state but what os_init() read; a child inherits it.
 */
#include "os/vm.h"

#include "base/align.h"
#include "os/membarrier.h"
#include "os/syscall.h"
#include <sys/auxv.h>
#include <sys/resource.h>
#include <sys/sysinfo.h>
#include <sys/uio.h>

#define VM_RANGES_MAX 1024u	/* UIO_MAXIOV */

#ifndef MAP_FIXED_NOREPLACE
#define MAP_FIXED_NOREPLACE 0x100000
#endif
#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#endif

size_t os_page_size = PAGE_SIZE;
unsigned os_fault_every;

static unsigned fault_count;

static bool fault_injected(void)
{
	unsigned every = READ_ONCE(os_fault_every);

	return unlikely(every) && __atomic_add_fetch(&fault_count, 1, __ATOMIC_RELAXED) % every == 0;
}

__init void os_init(void)
{
	unsigned long size = getauxval(AT_PAGESZ);

	if (size >= PAGE_SIZE && is_power_of_2(size))
		os_page_size = size;
}

__init bool os_secure(void)
{
	return getauxval(AT_SECURE) != 0;
}

__init unsigned long os_auxval(unsigned long type)
{
	return getauxval(type);
}

__init u64 os_ram_bytes(void)
{
	struct sysinfo si;

	if (raw_syscall1(SYS_sysinfo, (long)&si) != 0)
		return GIB(4);
	return (u64)si.totalram * si.mem_unit;
}

__init u64 os_address_space_limit(void)
{
	struct {
		u64 cur, max;
	} lim;

	if (raw_syscall4(SYS_prlimit64, 0, RLIMIT_AS, 0, (long)&lim) != 0)
		return UINT64_MAX;
	return lim.cur;
}

static void *sys_mmap(size_t size, int prot, int flags)
{
	if (fault_injected())
		return NULL;

	long ret = raw_syscall6(SYS_mmap, 0, (long)size, prot, MAP_PRIVATE | MAP_ANONYMOUS | flags, -1, 0);

	return ret < 0 && ret > -4096 ? NULL : (void *)ret;
}

__resident void *vm_reserve(size_t size, int prot)
{
	return sys_mmap(size, prot, MAP_NORESERVE);
}

void *vm_map(size_t size)
{
	void *p = sys_mmap(size, PROT_READ | PROT_WRITE, 0);

	if (p)
		vm_advise(p, size, MADV_NOHUGEPAGE);
	return p;
}

int vm_map_at(void *addr, size_t size)
{
	long ret;

	if (fault_injected())
		return -ENOMEM;
	ret = raw_syscall6(SYS_mmap, (long)addr, (long)size, PROT_READ | PROT_WRITE,
			   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	if (ret < 0 && ret > -4096)
		return (int)ret;
	if ((void *)ret == addr)
		return 0;
	raw_syscall2(SYS_munmap, ret, (long)size);	/* a kernel before 4.17 takes the flag for a hint */
	return -EEXIST;
}

static int map_over(void *addr, size_t size, int flags, int fd, u64 offset)
{
	long ret;

	if (fault_injected())
		return -ENOMEM;
	ret = raw_syscall6(SYS_mmap, (long)addr, (long)size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_FIXED | flags, fd, (long)offset);
	return ret < 0 && ret > -4096 ? (int)ret : 0;
}

int vm_map_over(void *addr, size_t size)
{
	return map_over(addr, size, MAP_ANONYMOUS, -1, 0);
}

int vm_map_file_over(void *addr, size_t size, int fd, u64 offset)
{
	return map_over(addr, size, 0, fd, offset);
}

int vm_unmap(void *addr, size_t size)
{
	return (int)raw_syscall2(SYS_munmap, (long)addr, (long)size);
}

__resident int vm_protect(void *addr, size_t size, int prot)
{
	if (fault_injected())
		return -ENOMEM;
	return (int)raw_syscall3(SYS_mprotect, (long)addr, (long)size, prot);
}

void *vm_remap(void *addr, size_t old_size, size_t new_size, bool may_move, void *new_addr)
{
	int flags = (may_move ? MREMAP_MAYMOVE : 0) | (new_addr ? MREMAP_MAYMOVE | MREMAP_FIXED : 0);

	if (fault_injected()) {
		if (new_addr != NULL)
			vm_unmap(new_addr, new_size);	/* as the kernel, when it fails late */
		return NULL;
	}

	long ret = raw_syscall5(SYS_mremap, (long)addr, (long)old_size, (long)new_size, flags, (long)new_addr);

	return ret < 0 && ret > -4096 ? NULL : (void *)ret;
}

__resident int vm_advise(void *addr, size_t size, int advice)
{
	return (int)raw_syscall3(SYS_madvise, (long)addr, (long)size, advice);
}

int vm_dontneed(void *addr, size_t size)
{
	return vm_advise(addr, size, MADV_DONTNEED);
}

int vm_lock(void *addr, size_t size)
{
	return (int)raw_syscall2(SYS_mlock, (long)addr, (long)size);
}

int vm_unlock(void *addr, size_t size)
{
	return (int)raw_syscall2(SYS_munlock, (long)addr, (long)size);
}

void vm_populate(void *addr, size_t size)
{
	vm_advise(addr, size, MADV_POPULATE_WRITE);
}

void vm_populate_read(void *addr, size_t size)
{
	vm_advise(addr, size, MADV_POPULATE_READ);
}

#ifndef SYS_process_madvise
#define SYS_process_madvise 440
#endif
#define PIDFD_SELF_PROCESS (-10001)	/* PIDFD_SELF_THREAD_GROUP of Linux 6.14, which needs no descriptor */

_Static_assert(sizeof(struct vm_range) == sizeof(struct iovec) &&
	       offsetof(struct vm_range, size) == offsetof(struct iovec, iov_len), "a vm_range is a struct iovec");

/*
 * Measured for single pages, every second one of a range: madvise(2) one by one 1.46 us each, in batches of 8 0.83,
 * of 32 0.61, of 128 0.53 (one TLB flush for all). A whole range: 0.28. MADV_FREE instead: 1.15 and 0.14, but
 * pages that are only marked free still count as resident.
 */
__resident int vm_dontneed_ranges(const struct vm_range *range, unsigned nr)
{
	static bool refused;
	int ret = 0;

	while (nr > 1 && !READ_ONCE(refused)) {
		long done = raw_syscall5(SYS_process_madvise, PIDFD_SELF_PROCESS, (long)range, min(nr, VM_RANGES_MAX),
					 MADV_DONTNEED, 0);

		if (done < (long)range->size) {
			WRITE_ONCE(refused, done < 0 && done != -EAGAIN && done != -ENOMEM);
			break;
		}
		for (; nr > 0 && done >= (long)range->size; range++, nr--)
			done -= (long)range->size;
	}
	for (; nr > 0; range++, nr--)
		ret = vm_dontneed(range->start, range->size) ?: ret;
	return ret;
}

ssize_t vm_resident(void *addr, size_t size)
{
	unsigned char vec[256];
	size_t resident = 0;

	for (size_t off = 0; off < size; off += sizeof(vec) * os_page_size) {
		size_t n = min(size - off, sizeof(vec) * os_page_size);
		long ret = raw_syscall3(SYS_mincore, (long)addr + (long)off, (long)n, (long)vec);

		if (ret)
			return ret;
		for (size_t i = 0; i < DIV_ROUND_UP(n, os_page_size); i++)
			resident += (vec[i] & 1) * os_page_size;
	}
	return (ssize_t)resident;
}

extern void *__sbrk(intptr_t increment);

__resident void *__os_sbrk(ptrdiff_t increment)
{
	int saved = errno;
	void *old;

	if (increment && fault_injected())
		return NULL;
	old = __sbrk(increment);
	errno = saved;
	return old == (void *)-1 ? NULL : old;
}
