/* SPDX-License-Identifier: MIT */
/*
 * vm.h - the one contract with the kernel about address space. Nothing here touches errno or allocates;
 * int functions return 0 or -errno, pointer functions NULL. Thread-safe; fork-safe (no state but brk's).
 * Sizes and addresses are multiples of the running kernel's page size (os_page_size) where not said otherwise.
 */
#ifndef KMM_OS_VM_H
#define KMM_OS_VM_H

#include "base/types.h"
#include <sys/mman.h>

/* Page size of the running kernel, 4 to 64 KiB; set by os_init(). The granule PAGE_SIZE stays 4 KiB. */
extern size_t os_page_size;

/* Reads auxv and limits once; called first in boot. */
void os_init(void);

bool os_secure(void);			/* AT_SECURE: set-user-id or capabilities gained by exec */
u64 os_ram_bytes(void);			/* physical memory, sysinfo(2) */
u64 os_address_space_limit(void);	/* RLIMIT_AS soft limit in bytes, U64 max when unlimited */

/* Reserves address space anywhere; prot is PROT_NONE or PROT_READ. */
void *vm_reserve(size_t size, int prot);
/* Fresh zeroed private memory, readable and writable, anywhere, and never in huge pages: for tables of which little is used. */
void *vm_map(size_t size);
/* The same exactly at addr: 0, -EEXIST where something is mapped already (it stays), or -ENOMEM. */
int vm_map_at(void *addr, size_t size);
int vm_unmap(void *addr, size_t size);
/*
 * Puts something else in the place of our own mapping at addr: fresh zeroed private memory, or a private view of a file (copied
 * page by page as it is written). On failure what was there stays.
 */
int vm_map_over(void *addr, size_t size);
int vm_map_file_over(void *addr, size_t size, int fd, u64 offset);
/* mlock(2), munlock(2). */
int vm_lock(void *addr, size_t size);
int vm_unlock(void *addr, size_t size);
/* Maps the pages that a file has for the range, for reading, so that the first touch does not fault. A hint. */
void vm_populate_read(void *addr, size_t size);
/* Makes part of a reservation readable and writable (or PROT_NONE / PROT_READ again). */
int vm_protect(void *addr, size_t size, int prot);
/*
 * mremap: in place if it can be, elsewhere if may_move; fixed address new_addr if not NULL. NULL: nothing has moved, but
 * what was mapped at new_addr may be gone.
 */
void *vm_remap(void *addr, size_t old_size, size_t new_size, bool may_move, void *new_addr);
/* Gives the pages back; they read as zeroes afterwards. */
int vm_dontneed(void *addr, size_t size);
/* The same for many ranges, in one system call where the kernel has it. 0 or -errno: some of them may be there still. */
struct vm_range {
	void *start;
	size_t size;
};
int vm_dontneed_ranges(const struct vm_range *range, unsigned nr);
int vm_advise(void *addr, size_t size, int advice);
/* Faults all pages in, for writing. A hint: before Linux 5.14 nothing happens. */
void vm_populate(void *addr, size_t size);
/* Bytes of [addr, addr + size) resident, by mincore(2), or -errno. */
ssize_t vm_resident(void *addr, size_t size);

/* The program break, through glibc's own cache of it. brk lock held by the caller (page/memblock.c). */
void *__os_sbrk(ptrdiff_t increment);	/* old break, or NULL when it cannot move */

/* Test hook: every n-th call of the functions above that can fail returns failure; 0 switches it off. */
extern unsigned os_fault_every;

#endif
