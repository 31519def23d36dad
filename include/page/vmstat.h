/* SPDX-License-Identifier: MIT */
/* vmstat.h - event counters. Kernel: mm/vmstat.c. Names and help: base/vmstat.def. */
#ifndef KMM_PAGE_VMSTAT_H
#define KMM_PAGE_VMSTAT_H

#include "base/types.h"

enum vmstat_item {
#define VMSTAT(name, help) VM_##name,
#include "base/vmstat.def"
#undef VMSTAT
	NR_VMSTAT_ITEMS
};

extern const char *const vmstat_names[NR_VMSTAT_ITEMS];

/* Counts n events on some CPU; relaxed, slow paths only, safe at any time. */
void count_vm_events(enum vmstat_item item, u64 n);
static inline void count_vm_event(enum vmstat_item item) { count_vm_events(item, 1); }
u64 global_vm_event(enum vmstat_item item);

#endif
