/* SPDX-License-Identifier: MIT */
/*
 * bug.h - three levels of assertion, all type-checked even where they are off.
 *
 *   BUG_ON(c)      always compiled in: corruption that must not go on.
 *   VM_BUG_ON(c)   with -DKMM_DEBUG=1 or more: invariants on slow paths (make check builds so).
 *   VM_BUG_ON_EXPENSIVE(c)  with -DKMM_DEBUG=2: whole-structure walks.
 */
#ifndef KMM_BASE_BUG_H
#define KMM_BASE_BUG_H

#include "base/compiler.h"

#ifndef KMM_DEBUG
#define KMM_DEBUG 0
#endif

/* Prints "kmm: BUG: file:line: what" and aborts. Never allocates. */
__noreturn __cold void __bug(const char *file, int line, const char *what);

#define BUG()	      __bug(__FILE__, __LINE__, "unreachable")
#define BUG_ON(c)     do { if (unlikely(c)) __bug(__FILE__, __LINE__, #c); } while (0)

#define __bug_if_level(level, c) \
	do { if (KMM_DEBUG >= (level) && unlikely(c)) __bug(__FILE__, __LINE__, #c); } while (0)
#define VM_BUG_ON(c)	       __bug_if_level(1, c)
#define VM_BUG_ON_EXPENSIVE(c) __bug_if_level(2, c)

#endif
