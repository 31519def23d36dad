/* SPDX-License-Identifier: MIT */
/*
 * malloc.c - malloc free calloc realloc reallocarray cfree malloc_usable_size free_sized free_aligned_sized.
 *
 * Purpose. The C entry points. What glibc 2.36 documents about errno, zero sizes, overflow and PTRDIFF_MAX holds
 * here; free() leaves errno alone (every slow path below uses system calls that do not touch it).
 *
 * Fast and slow path. The fast ones are in api/malloc.h. The slow ones see to it that the library has booted, take large
 * sizes apart from small ones, and when they are done consider the background thread.
 *
 * realloc. A block stays where it is while the new size leads to the same class, or is smaller by less than half;
 * large blocks shrink by giving back their tail, vmalloc blocks grow and shrink by mremap.
 *
 * Fork and init. A call that comes before or inside the boot (ld.so, dlsym) is served by memblock.
 */
#include "api/malloc.h"

#include "mm/kmmd.h"
#include "mm/memcg_rules.h"
#include "os/os.h"
#include "page/memblock.h"
#include "page/vmstat.h"
#include <errno.h>
#include <string.h>

struct next_allocator next_allocator;

static __always_inline bool booted(void)
{
	return likely(nr_percpu_areas() != 0);
}

/* Large blocks charge the thread's group; where a library has one, that for as long as this takes. */
void *kmalloc_large_from(size_t n, size_t align, bool *zeroed, const void *caller)
{
	u32 outer = memcg_thread.active;	/* of an allocation that a shrinker or a call-back interrupts */
	void *p;

	if (likely(!memcg_watched))
		return kmalloc_large(n, align, zeroed);
	memcg_thread.caller = caller;
	memcg_thread.active = memcg_slot_bits(caller) | MEMCG_ASSIGNED;
	p = kmalloc_large(n, align, zeroed);
	memcg_thread.active = outer;
	return p;
}

static void *malloc_large(size_t n, const void *caller)
{
	void *p = n > PTRDIFF_MAX ? NULL : kmalloc_large_from(n, 0, NULL, caller);

	if (unlikely(!p))
		errno = ENOMEM;
	if (unlikely(kmmd_wanted))
		kmmd_consider(caller);
	return p;
}

/* Where there are groups, or a limit. */
static __rare __noinline void *alloc_watched(unsigned cls, const void *caller)
{
	void *p;

	cls |= memcg_slot_bits(caller);
	p = this_cpu_pop(cls);
	if (likely(p))
		return p;
	memcg_thread.caller = caller;
	return kmalloc_slowpath(cls);
}

static __noinline void *malloc_slowest(size_t n, const void *caller)
{
	unsigned cls;
	void *p;

	if (unlikely(!booted())) {
		kmm_boot();
		if (!booted()) {	/* inside the boot, or it failed */
			p = memblock_boot_object(n, 16);
			if (!p)
				errno = ENOMEM;
			return p;
		}
	}
	if (n > KMALLOC_MAX_SIZE)
		return malloc_large(n, caller);
	cls = kmalloc_class(n);
	p = unlikely(memcg_watched) ? alloc_watched(cls, caller) : kmalloc_slowpath(cls);
	if (unlikely(!p))
		errno = ENOMEM;
	if (unlikely(kmmd_wanted))
		kmmd_consider(caller);
	return p;
}

/*
 * Where there are groups, size_index sends every call here: the other half of the fast path. A word is a colour's slots and
 * MEMCG_ASSIGNED, which is 1.
 */
static __always_inline void *try_pop(size_t n, u32 word)
{
	size_t i;

	return likely(size_to_index(n, &i)) ? this_cpu_pop(kmalloc_index[i] + word - MEMCG_ASSIGNED) : NULL;
}

static __hot __noinline void *malloc_by_caller(size_t n, const void *caller)
{
	void *p = try_pop(n, memcg_word_of_next_caller(caller));

	return likely(p) ? p : malloc_slowest(n, caller);
}

__hot __noinline void *malloc_slowpath(size_t n, const void *caller)
{
	u32 word = memcg_thread.word;
	void *p;

	if (likely(word)) {
		if (unlikely(memcg_has_libs))
			return malloc_by_caller(n, caller);
		p = try_pop(n, word);
		if (likely(p))
			return p;
	}
	return malloc_slowest(n, caller);
}

void free_slowpath(void *p, const void *caller)
{
	if (!p)
		return;
	if (unlikely(!booted())) {	/* a boot object at most: those stay */
		kmm_boot();
		if (!booted())
			return;
	}
	if (!kfree_slowpath(p) && foreign_goes_to_next(p, "free") && next_allocator.free)
		next_allocator.free(p);
	if (unlikely(kmmd_wanted))
		kmmd_consider(caller);
}

EXPORT_SYMBOL __hot void *malloc(size_t n)
{
	return kmm_malloc_internal(n);
}

EXPORT_SYMBOL __hot void free(void *p)
{
	kmm_free_internal(p);
}

EXPORT_SYMBOL void cfree(void *p);
EXPORT_SYMBOL void free_sized(void *p, size_t n);
EXPORT_SYMBOL void free_aligned_sized(void *p, size_t align, size_t n);

__rare void cfree(void *p)
{
	kmm_free_internal(p);
}

/* C23. The map tells the class, so the size need not be believed. */
__rare void free_sized(void *p, size_t n)
{
	(void)n;
	kmm_free_internal(p);
}

__rare void free_aligned_sized(void *p, size_t align, size_t n)
{
	(void)align;
	(void)n;
	kmm_free_internal(p);
}

static __cold void *calloc_large(size_t n, const void *caller)
{
	bool zeroed = false;
	void *p = n > PTRDIFF_MAX ? NULL : kmalloc_large_from(n, 0, &zeroed, caller);

	if (unlikely(!p))
		errno = ENOMEM;
	else if (!zeroed)
		memset(p, 0, n);
	return p;
}

EXPORT_SYMBOL void *calloc(size_t nr, size_t size)
{
	size_t n;
	void *p;

	if (unlikely(__builtin_mul_overflow(nr, size, &n))) {
		errno = ENOMEM;
		return NULL;
	}
	if (unlikely(n > KMALLOC_MAX_SIZE)) {
		if (!booted())
			kmm_boot();
		if (booted())
			return calloc_large(n, __builtin_return_address(0));
	}
	p = kmm_malloc_internal(n);
	return likely(p) ? memset(p, 0, n) : NULL;
}

EXPORT_SYMBOL __rare size_t malloc_usable_size(void *p)
{
	return p ? ksize(p) : 0;
}

/* A pointer that is none of ours. */
static __cold void *realloc_foreign(void *p, size_t n)
{
	if (foreign_goes_to_next(p, "realloc") && next_allocator.realloc)
		return next_allocator.realloc(p, n);
	errno = ENOMEM;
	return NULL;
}

static __rare __noinline void *realloc_large(void *p, size_t old_size, size_t n, const void *caller)
{
	void *q;

	if (unlikely(memcg_watched))
		memcg_thread.caller = caller;
	q = n <= PTRDIFF_MAX ? krealloc_large(p, n) : NULL;

	if (q) {
		count_vm_event(VM_realloc_inplace);
		return q;
	}
	q = kmm_malloc_from(n, caller);
	if (unlikely(!q))
		return NULL;
	count_vm_event(VM_realloc_copy);
	memcpy(q, p, min(old_size, n));
	kmm_free_internal(p);
	return q;
}

EXPORT_SYMBOL void *realloc(void *p, size_t n)
{
	size_t old_size;
	void *q;

	if (unlikely(!p))
		return kmm_malloc_internal(n);
	if (unlikely(!n)) {
		kmm_free_internal(p);
		return NULL;
	}
	old_size = ksize(p);
	if (likely(n <= old_size && n >= old_size / 2 && old_size))
		return p;
	if (unlikely(old_size > KMALLOC_MAX_SIZE))
		return realloc_large(p, old_size, n, __builtin_return_address(0));
	if (unlikely(!old_size))
		return realloc_foreign(p, n);
	q = kmm_malloc_internal(n);
	if (unlikely(!q))
		return n <= old_size ? p : NULL;
	memcpy(q, p, min(old_size, n));
	kmm_free_internal(p);
	return q;
}

EXPORT_SYMBOL void *reallocarray(void *p, size_t nr, size_t size)
{
	size_t n;

	if (unlikely(__builtin_mul_overflow(nr, size, &n))) {
		errno = ENOMEM;
		return NULL;
	}
	return realloc(p, n);
}
