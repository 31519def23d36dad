/* SPDX-License-Identifier: MIT */
/*
 * runtime_const.h - where rseq lies, written into the code of the fast paths: two instructions less for each. The code of
 * libkmm changes once, and only while the process has one thread. Kernel: asm/runtime-const.h.
 */
#ifndef KMM_ARCH_RUNTIME_CONST_H
#define KMM_ARCH_RUNTIME_CONST_H

#include "arch/percpu_ops.h"

extern bool runtime_const_wanted;	/* rseq is in use, the code may be changed and has not been. lib/arch/rseq.c */

/* Does it now, or, beside another thread, not yet; or never, where it is refused. Any time; free of errno and allocation. */
#if HAVE_RSEQ_OPS
void runtime_const_fixup(void);
#else
static inline void runtime_const_fixup(void)
{
}
#endif

/* The code stays as it is: the process may not write it any more, and perhaps may not even try. */
static inline void runtime_const_never(void)
{
	WRITE_ONCE(runtime_const_wanted, false);
}

/* Before a thread is created: the last moment. */
static inline void runtime_const_before_threads(void)
{
	if (unlikely(READ_ONCE(runtime_const_wanted)))
		runtime_const_fixup();
}

#endif
