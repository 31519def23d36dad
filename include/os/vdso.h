/* SPDX-License-Identifier: MIT */
/* vdso.h - functions that the kernel lends to programs. */
#ifndef KMM_OS_VDSO_H
#define KMM_OS_VDSO_H

#include "base/types.h"
#include <time.h>

/* 0 or -errno; errno stays. */
typedef int (*clock_gettime_fn)(clockid_t id, struct timespec *ts);

extern clock_gettime_fn os_clock_gettime;

/* That of the vdso at this address (AT_SYSINFO_EHDR); of none, 0, or where it has none, the system call. Never NULL. */
clock_gettime_fn vdso_clock_gettime(unsigned long image);

#endif
