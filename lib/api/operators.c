/* SPDX-License-Identifier: MIT */
/*
 * operators.c - C++ operator new and delete in every form, by mangled name from C.
 *
 * Purpose: a C++ program reaches the allocator without going through libstdc++ to malloc(), and a failure looks as
 * the standard says: the new_handler is called until it gives up, then std::bad_alloc is thrown, or NULL returned.
 *
 * Fast and slow path: the fast path is malloc's. When that fails, the slow path calls the *C++ runtime's own
 * definition of the same operator*, found by api/cxx_runtime.c. That definition calls malloc() (ours, which fails
 * again), the new_handler in a loop, and throws; its nothrow forms catch whatever the handler throws, which C could
 * not do. So no rule of C++ is written down twice. Exceptions pass through the frames of this file: it is compiled
 * with -fexceptions, for its unwind tables.
 *
 *	_Znwm -> kmm_malloc_fast(), then malloc_slowpath() --NULL--> new_slowpath() -> libstdc++'s operator new
 *	                                                                                  | malloc() -> NULL
 *	                                                                                  | handler() ...
 *	caller <================================ throw std::bad_alloc ===================='
 *
 * Invariants: no lock and no gate is held when the runtime is called, so the handler may allocate and free. A
 * runtime's operator is never entered before malloc has failed.
 *
 * Without a C++ runtime nobody can have set a handler and nobody can catch: nothrow forms return NULL, the others
 * say so in one line and abort.
 *
 * The names: nw new, na new[], dl delete, da delete[]; m size_t; St11align_val_t std::align_val_t;
 * RKSt9nothrow_t const std::nothrow_t &.
 */
#include "api/cxx_runtime.h"
#include "api/malloc.h"
#include "base/align.h"
#include "base/compiler.h"
#include "base/printk.h"

typedef void *(*new_fn)(size_t);
typedef void *(*new_nothrow_fn)(size_t, const void *);
typedef void *(*new_aligned_fn)(size_t, size_t);
typedef void *(*new_aligned_nothrow_fn)(size_t, size_t, const void *);

/* The declarations keep -Wmissing-prototypes quiet, and list the vocabulary in one place. */
EXPORT_SYMBOL void *_Znwm(size_t size);
EXPORT_SYMBOL void *_Znam(size_t size);
EXPORT_SYMBOL __rare void *_ZnwmRKSt9nothrow_t(size_t size, const void *nothrow);
EXPORT_SYMBOL __rare void *_ZnamRKSt9nothrow_t(size_t size, const void *nothrow);
EXPORT_SYMBOL __rare void *_ZnwmSt11align_val_t(size_t size, size_t align);
EXPORT_SYMBOL __rare void *_ZnamSt11align_val_t(size_t size, size_t align);
EXPORT_SYMBOL __rare void *_ZnwmSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const void *nothrow);
EXPORT_SYMBOL __rare void *_ZnamSt11align_val_tRKSt9nothrow_t(size_t size, size_t align, const void *nothrow);
EXPORT_SYMBOL void _ZdlPv(void *p);
EXPORT_SYMBOL void _ZdaPv(void *p);
EXPORT_SYMBOL void _ZdlPvm(void *p, size_t size);
EXPORT_SYMBOL void _ZdaPvm(void *p, size_t size);
EXPORT_SYMBOL __rare void _ZdlPvRKSt9nothrow_t(void *p, const void *nothrow);
EXPORT_SYMBOL __rare void _ZdaPvRKSt9nothrow_t(void *p, const void *nothrow);
EXPORT_SYMBOL __rare void _ZdlPvSt11align_val_t(void *p, size_t align);
EXPORT_SYMBOL __rare void _ZdaPvSt11align_val_t(void *p, size_t align);
EXPORT_SYMBOL __rare void _ZdlPvmSt11align_val_t(void *p, size_t size, size_t align);
EXPORT_SYMBOL __rare void _ZdaPvmSt11align_val_t(void *p, size_t size, size_t align);
EXPORT_SYMBOL __rare void _ZdlPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align, const void *nothrow);
EXPORT_SYMBOL __rare void _ZdaPvSt11align_val_tRKSt9nothrow_t(void *p, size_t align, const void *nothrow);

/* The runtime's operator of that name for the code at caller, or the end: nobody can throw. */
static __cold void *runtime_operator(const char *name, size_t size, const void *caller)
{
	void *fn = find_cxx_runtime_symbol(name, caller);

	if (fn == NULL)
		panic("operator new: out of memory for %zu bytes, and no C++ runtime to throw std::bad_alloc", size);
	return fn;
}

static __cold void *new_slowpath(size_t size, const char *name, const void *caller)
{
	return ((new_fn)runtime_operator(name, size, caller))(size);
}

/* A function of its own, so that the fast path is a leaf and keeps nothing across a call. */
static __hot __noinline void *new_beneath(size_t size, const char *name, const void *caller)
{
	void *p = malloc_slowpath(size, caller);

	return likely(p != NULL) ? p : new_slowpath(size, name, caller);
}

/*
 * libstdc++'s aligned forms round the size up to the alignment without looking for overflow (GCC 12), so that a
 * size near SIZE_MAX becomes 0 and "succeeds". PTRDIFF_MAX is refused as surely and cannot wrap.
 */
static inline size_t clamp_size(size_t size)
{
	return min(size, (size_t)PTRDIFF_MAX);
}

static __cold void *new_aligned_slowpath(const char *name, size_t size, size_t align, const void *caller)
{
	return ((new_aligned_fn)runtime_operator(name, size, caller))(clamp_size(size), align);
}

static __cold void *new_nothrow_slowpath(const char *name, size_t size, const void *nothrow, const void *caller)
{
	new_nothrow_fn fn = (new_nothrow_fn)find_cxx_runtime_symbol(name, caller);

	return fn != NULL ? fn(size, nothrow) : NULL;
}

static __cold void *new_aligned_nothrow_slowpath(const char *name, size_t size, size_t align, const void *nothrow,
						 const void *caller)
{
	new_aligned_nothrow_fn fn = (new_aligned_nothrow_fn)find_cxx_runtime_symbol(name, caller);

	return fn != NULL ? fn(clamp_size(size), align, nothrow) : NULL;
}

/* An alignment that is no power of two is a failure of the request, as in libstdc++. */
static __always_inline void *try_new_aligned(size_t size, size_t align)
{
	return likely(is_power_of_2(align)) ? kmm_memalign_internal(align, size, __builtin_return_address(0)) : NULL;
}

#define CALLER __builtin_return_address(0)

#define DEFINE_NEW(name)                                                                           \
	void *name(size_t size)                                                                    \
	{                                                                                          \
		void *p = kmm_malloc_fast(size);                                                   \
		return likely(p != NULL) ? p : new_beneath(size, #name, CALLER);                   \
	}

#define DEFINE_NEW_NOTHROW(name)                                                                   \
	void *name(size_t size, const void *nothrow)                                               \
	{                                                                                          \
		void *p = kmm_malloc_internal(size);                                               \
		return likely(p != NULL) ? p : new_nothrow_slowpath(#name, size, nothrow, CALLER); \
	}

#define DEFINE_NEW_ALIGNED(name)                                                                   \
	void *name(size_t size, size_t align)                                                      \
	{                                                                                          \
		void *p = try_new_aligned(size, align);                                            \
		return likely(p != NULL) ? p : new_aligned_slowpath(#name, size, align, CALLER);   \
	}

#define DEFINE_NEW_ALIGNED_NOTHROW(name)                                                           \
	void *name(size_t size, size_t align, const void *nothrow)                                 \
	{                                                                                          \
		void *p = try_new_aligned(size, align);                                            \
		return likely(p != NULL) ? p : new_aligned_nothrow_slowpath(#name, size, align, nothrow, CALLER); \
	}

DEFINE_NEW(_Znwm)
DEFINE_NEW(_Znam)
DEFINE_NEW_NOTHROW(_ZnwmRKSt9nothrow_t)
DEFINE_NEW_NOTHROW(_ZnamRKSt9nothrow_t)
DEFINE_NEW_ALIGNED(_ZnwmSt11align_val_t)
DEFINE_NEW_ALIGNED(_ZnamSt11align_val_t)
DEFINE_NEW_ALIGNED_NOTHROW(_ZnwmSt11align_val_tRKSt9nothrow_t)
DEFINE_NEW_ALIGNED_NOTHROW(_ZnamSt11align_val_tRKSt9nothrow_t)

/*
 * Deleting needs neither size nor alignment: the map knows the class of every address.
 */
#define DEFINE_DELETE(name, ...)                                                                   \
	void name(void *p, ##__VA_ARGS__)                                                          \
	{                                                                                          \
		kmm_free_internal(p);                                                              \
	}

#define SIZE	__maybe_unused size_t size
#define ALIGNED __maybe_unused size_t align
#define NOTHROW __maybe_unused const void *nothrow

DEFINE_DELETE(_ZdlPv)
DEFINE_DELETE(_ZdaPv)
DEFINE_DELETE(_ZdlPvm, SIZE)
DEFINE_DELETE(_ZdaPvm, SIZE)
DEFINE_DELETE(_ZdlPvRKSt9nothrow_t, NOTHROW)
DEFINE_DELETE(_ZdaPvRKSt9nothrow_t, NOTHROW)
DEFINE_DELETE(_ZdlPvSt11align_val_t, ALIGNED)
DEFINE_DELETE(_ZdaPvSt11align_val_t, ALIGNED)
DEFINE_DELETE(_ZdlPvmSt11align_val_t, SIZE, ALIGNED)
DEFINE_DELETE(_ZdaPvmSt11align_val_t, SIZE, ALIGNED)
DEFINE_DELETE(_ZdlPvSt11align_val_tRKSt9nothrow_t, ALIGNED, NOTHROW)
DEFINE_DELETE(_ZdaPvSt11align_val_tRKSt9nothrow_t, ALIGNED, NOTHROW)
