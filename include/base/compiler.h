/* SPDX-License-Identifier: MIT */
/* compiler.h - the compiler's vocabulary, under the kernel's names. */
#ifndef KMM_BASE_COMPILER_H
#define KMM_BASE_COMPILER_H

#include <sys/cdefs.h>	/* __always_inline */

#define likely(x)	__builtin_expect(!!(x), 1)
#define unlikely(x)	__builtin_expect(!!(x), 0)
#define barrier()	__asm__ __volatile__("" ::: "memory")

#define __noinline	__attribute__((noinline))
#define __cold		__attribute__((cold, noinline))
/* Called by every program, out of a file of which the rest is not (lib/libkmm-cold.ld). */
#define __resident	__attribute__((section(".text.resident")))
/* Called by every program too, but seldom, at boot or when a CPU or a memory group comes online: small rather than fast. */
#define __init		__attribute__((section(".text.init"), cold))
/* The reverse: full speed, but most programs never call it. */
#define __rare		__attribute__((section(".text.rare")))
#define __rare_data	__attribute__((section(".bss.rare")))	/* zero at start */
#define __hot		__attribute__((hot, aligned(64)))	/* begins a cache line */
#define __noreturn	__attribute__((noreturn))
#define __aligned(n)	__attribute__((aligned(n)))
#define __maybe_unused	__attribute__((unused))
#define __printf(f, a)	__attribute__((format(printf, f, a)))
#define __initial_exec	__attribute__((tls_model("initial-exec")))

/* Symbols are hidden by -fvisibility=hidden; what the world sees says so. */
#define EXPORT_SYMBOL	__attribute__((visibility("default")))

#define READ_ONCE(x)	 __atomic_load_n(&(x), __ATOMIC_RELAXED)
#define WRITE_ONCE(x, v) __atomic_store_n(&(x), (v), __ATOMIC_RELAXED)

/* Pairs with smp_store_release(): what was written before the store is seen after the load. */
#define smp_load_acquire(p)	 __atomic_load_n((p), __ATOMIC_ACQUIRE)
#define smp_store_release(p, v)	 __atomic_store_n((p), (v), __ATOMIC_RELEASE)
#define smp_mb()		 __atomic_thread_fence(__ATOMIC_SEQ_CST)

#define container_of(ptr, type, member) \
	((type *)((char *)(ptr) - __builtin_offsetof(type, member)))

#define ARRAY_SIZE(a)	(sizeof(a) / sizeof((a)[0]))
#define min(a, b)	({ __typeof__(a) _a = (a); __typeof__(b) _b = (b); _a < _b ? _a : _b; })
#define max(a, b)	({ __typeof__(a) _a = (a); __typeof__(b) _b = (b); _a > _b ? _a : _b; })
#define clamp(v, lo, hi) min(max((v), (lo)), (hi))
#define swap(a, b)	do { __typeof__(a) _t = (a); (a) = (b); (b) = _t; } while (0)

static __always_inline void cpu_relax(void)
{
#if defined(__x86_64__)
	__builtin_ia32_pause();
#elif defined(__aarch64__)
	__asm__ __volatile__("yield" ::: "memory");
#else
	barrier();
#endif
}

#endif
