/* SPDX-License-Identifier: MIT */
/*
 * printk.h - messages to stderr without stdio and without allocation.
 *
 * One call writes one whole line with one write(2), prefixed "kmm: ", so lines of several threads do not mix.
 * The formats: %d %i %u %x %X %p %s %c %% with width, precision of %s ("%.*s"), '-' and '0', and l/ll/z; any other
 * is a BUG. Control characters are shown as '?', a newline at the end is not needed. Longer output is cut at
 * PRINTK_MAX bytes. Async-signal-safe, thread-safe, fork-safe (no lock).
 */
#ifndef KMM_BASE_PRINTK_H
#define KMM_BASE_PRINTK_H

#include "base/compiler.h"
#include "base/types.h"
#include <stdarg.h>

#define PRINTK_MAX 1024

/*
 * Where lines go; returns bytes or -errno. Defined by lib/os/os.c, and by every program that compiles lib/base in
 * without lib/os (the kmm tool, unit tests).
 */
extern ssize_t (*console_write)(const char *buf, size_t len);

/* Formats into buf, always terminated; returns the length that the whole would have had. */
int kmm_vsnprintf(char *buf, size_t size, const char *fmt, va_list ap);
int kmm_snprintf(char *buf, size_t size, const char *fmt, ...) __printf(3, 4);

void pr_info(const char *fmt, ...) __printf(1, 2);
void pr_warn(const char *fmt, ...) __printf(1, 2);

/* pr_warn() and abort(); for memory corruption and misuse found by the allocator. */
__noreturn __cold void panic(const char *fmt, ...) __printf(1, 2);

#define pr_warn_once(...)                                                      \
	do {                                                                   \
		static bool __warned;                                          \
		if (!__atomic_exchange_n(&__warned, true, __ATOMIC_RELAXED))   \
			pr_warn(__VA_ARGS__);                                  \
	} while (0)

#endif
