/* SPDX-License-Identifier: MIT */
/* align.h - rounding and powers of two. ALIGN() takes powers of two only. */
#ifndef KMM_BASE_ALIGN_H
#define KMM_BASE_ALIGN_H

#include "base/compiler.h"
#include "base/types.h"

#define ALIGN(x, a)	 (((x) + ((__typeof__(x))(a) - 1)) & ~((__typeof__(x))(a) - 1))
#define ALIGN_DOWN(x, a) ((x) & ~((__typeof__(x))(a) - 1))
#define IS_ALIGNED(x, a) (((x) & ((__typeof__(x))(a) - 1)) == 0)
#define DIV_ROUND_UP(n, d) (((n) + (d) - 1) / (d))
#define PAGE_ALIGN(x)	 ALIGN(x, PAGE_SIZE)

static inline bool is_power_of_2(unsigned long n)
{
	return n != 0 && (n & (n - 1)) == 0;
}

/* Floor of the binary logarithm; n must not be 0. */
static inline unsigned ilog2(unsigned long n)
{
	return 63u - (unsigned)__builtin_clzl(n);
}

static inline unsigned long roundup_pow_of_two(unsigned long n)
{
	return n <= 1 ? 1 : 1UL << (ilog2(n - 1) + 1);
}

/* The smallest order of which a block holds nr_pages pages. */
static inline unsigned get_order(unsigned long nr_pages)
{
	return nr_pages <= 1 ? 0 : ilog2(nr_pages - 1) + 1;
}

#endif
