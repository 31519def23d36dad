/* SPDX-License-Identifier: MIT */
/*
 * psi.h - pressure: the time in which threads of a group waited for memory. Kernel: include/linux/psi.h.
 */
#ifndef KMM_PAGE_PSI_H
#define KMM_PAGE_PSI_H

#include "os/mutex.h"

enum { PSI_AVG10, PSI_AVG60, PSI_AVG300, NR_PSI_AVGS };

struct psi_group {
	struct mutex lock;
	u32 nr_stalled;			/* threads that wait now */
	u64 since_ns;			/* when the first of them began, or when the time was last added up */
	u64 total_ns;			/* in which at least one waited */
	u64 avg_total_ns, avg_next_ns;	/* total at the last update of the averages, and when the next is due */
	u32 avg[NR_PSI_AVGS];		/* share of the time in 1/2048 per cent */
};

/* A thread begins and ends to wait. */
void psi_stall_begin(struct psi_group *psi, u64 now_ns);
void psi_stall_end(struct psi_group *psi, u64 now_ns);

struct psi_show {
	u32 avg[NR_PSI_AVGS];		/* hundredths of a per cent */
	u64 total_us;
};
void psi_show(struct psi_group *psi, u64 now_ns, struct psi_show *show);
/* In a child of fork nobody waits. */
void psi_reset_child(struct psi_group *psi);

#endif
