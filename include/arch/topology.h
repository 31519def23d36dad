/* SPDX-License-Identifier: MIT */
/*
 * topology.h - which CPUs share a core and a last-level cache. Until kmmd has loaded hwloc there is one core
 * per CPU and one cache domain.
 */
#ifndef KMM_ARCH_TOPOLOGY_H
#define KMM_ARCH_TOPOLOGY_H

#include "base/types.h"

#define TOPOLOGY_MAX_CPUS 1024

/* Last-level cache domain of a CPU number (0 before hwloc); at most 127. */
u32 topology_llc(unsigned cpu);
/* Dense number of the core that CPU number cpu belongs to (cpu itself before hwloc). */
u32 topology_core(unsigned cpu);
/* CPU numbers that share the core of cpu, without cpu; returns how many, at most max. */
u32 topology_siblings(unsigned cpu, u32 *sib, u32 max);
bool topology_loaded(void);

/*
 * Loads libhwloc by dlopen and reads the machine, or the synthetic topology in `synthetic` (hwloc syntax; tests)
 * when not NULL. Called by kmmd with its lock held. 0 or -errno; nothing changes on failure.
 */
int topology_load(const char *synthetic);

#endif
