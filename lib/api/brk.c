/* SPDX-License-Identifier: MIT */
/*
 * brk.c - the exported brk() and sbrk(), and vfork()'s error.
 *
 * Purpose. A program that moves the break itself shares it with ZONE_BRK. Its calls come here, are made under libkmm's
 * brk lock, and may not cut into libkmm's memory; the break itself is moved by glibc (page/memblock.c).
 */
#include "api/malloc.h"
#include "page/memblock.h"
#include <errno.h>

EXPORT_SYMBOL void *sbrk(intptr_t increment)
{
	void *old = foreign_sbrk(increment);

	if (old)
		return old;
	errno = ENOMEM;
	return (void *)-1;
}

EXPORT_SYMBOL int brk(void *addr)
{
	if (foreign_brk(addr) == 0)
		return 0;
	errno = ENOMEM;
	return -1;
}

/* Tail of vfork.S when the system call failed. */
int vfork_failed(int neg_errno);
int vfork_failed(int neg_errno)
{
	errno = -neg_errno;
	return -1;
}
