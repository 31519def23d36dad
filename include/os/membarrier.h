/* SPDX-License-Identifier: MIT */
/* membarrier.h - membarrier(2) and rseq(2). */
#ifndef KMM_OS_MEMBARRIER_H
#define KMM_OS_MEMBARRIER_H

#include "base/types.h"

/* Registers for PRIVATE_EXPEDITED_RSEQ; cheap while the process is single-threaded. 0 or -errno. */
int membarrier_register_rseq(void);
/*
 * After it returns, no thread of the process is still in an rseq critical section that it was in before.
 * 0 or -errno; registers again on -EPERM (a new mm after fork).
 */
int membarrier_rseq(void);

/* rseq(2): registers or unregisters the calling thread's area. */
int rseq_register(void *area, u32 len, u32 sig);
int rseq_unregister(void *area, u32 len, u32 sig);

/* Value of an auxv entry, 0 when absent. */
unsigned long os_auxval(unsigned long type);
#ifndef AT_RSEQ_FEATURE_SIZE
#define AT_RSEQ_FEATURE_SIZE 27
#endif

#endif
