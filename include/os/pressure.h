/* SPDX-License-Identifier: MIT */
/*
 * pressure.h - the kernel says that memory is short: pressure stall information (PSI) of the machine and of the own control
 * group, and version 1's memory.pressure_level. Same rules as os/vm.h.
 *
 * The descriptors lie in the caller's table, which must be private to it (os/kthread.h); all calls are that thread's.
 */
#ifndef KMM_OS_PRESSURE_H
#define KMM_OS_PRESSURE_H

#include "os/cgroup.h"

#define OS_PRESSURE_SOME 1u	/* somebody waited for memory; version 1: "medium" */
#define OS_PRESSURE_FULL 2u	/* nobody did anything else; version 1: "critical" */

/* Asks for what there is; cg may be NULL. How many sources there are: none where the kernel or its rights refuse. */
unsigned os_pressure_open(const struct os_cgroup *cg);
/* What has been signalled since the last call; does not wait. */
u32 os_pressure_poll(void);
/* In a child of fork, which has none of the descriptors, and where their table is gone. */
void os_pressure_forget(void);

/* Where the machine's PSI is. Test hook. */
extern const char *pressure_psi_path;

#endif
