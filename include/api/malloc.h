/* SPDX-License-Identifier: MIT */
/*
 * malloc.h - the fast paths, for every entry point to inline, and the boot.
 */
#ifndef KMM_API_MALLOC_H
#define KMM_API_MALLOC_H

#include "arch/percpu_ops.h"
#include "mm/slab.h"

/* Boots once; later calls return at once. Safe to call from anywhere, also recursively from inside the boot. */
void kmm_boot(void);

/* The allocator beneath, for KMM_FOREIGN_FREE=next; NULL where dlsym(RTLD_NEXT) found none. */
extern struct next_allocator {
	void (*free)(void *p);
	void *(*realloc)(void *p, size_t n);
} next_allocator;

/* Registers the at-fork handlers; once, by the constructor. api/fork.c */
void kmm_atfork_init(void);

/* NULL with errno ENOMEM. */
__noinline void *malloc_slowpath(size_t n, const void *caller);
__noinline void free_slowpath(void *p, const void *caller);
/* align: a power of two. NULL with errno ENOMEM. api/memalign.c */
void *kmm_memalign_internal(size_t align, size_t size, const void *caller);
void *kmalloc_large_from(size_t n, size_t align, bool *zeroed, const void *caller);

/*
 * The fast path of every malloc: size to class, pop from this CPU's sheaf. Class 0, sizes beyond the classes, an
 * empty sheaf and a library that has not booted all leave by the one way out: NULL, malloc_slowpath() is to be asked.
 */
static __always_inline void *kmm_malloc_fast(size_t n)
{
	size_t i;

	return likely(size_to_index(n, &i)) ? this_cpu_pop(size_index[i]) : NULL;
}

/* caller: the program's address that is to be taken for the one that allocates; NULL: the function's own. */
static __always_inline void *kmm_malloc_from(size_t n, const void *caller)
{
	void *obj = kmm_malloc_fast(n);

	return likely(obj) ? obj : malloc_slowpath(n, caller ? caller : __builtin_return_address(0));
}

static __always_inline void *kmm_malloc_internal(size_t n)
{
	return kmm_malloc_from(n, NULL);
}

/*
 * The fast path of every free: address to map entry, push onto this CPU's sheaf. The rotation moves the four low bits
 * to the top, so that the one comparison with the bound also catches a pointer that is not aligned to 16, NULL,
 * and everything outside the window.
 */
static __always_inline void kmm_free_internal(void *p)
{
	u64 off = (uintptr_t)p;

	hot_sub(off, direct_map, start);
	off = off >> 4 | off << 60;
	if (likely(hot_below(off, direct_map, limit16)) && likely(this_cpu_push(hot_load(direct_map, map), off >> (PAGE_SHIFT - 4), p)))
		return;
	free_slowpath(p, __builtin_return_address(0));
}

#endif
