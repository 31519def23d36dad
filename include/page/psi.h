/* SPDX-License-Identifier: MIT */
/*
 * psi.h - pressure: the time in which threads of a group waited for memory. Kernel: include/linux/psi.h.
 */
#ifndef KMM_PAGE_PSI_H
#define KMM_PAGE_PSI_H

#include "os/mutex.h"

enum { PSI_AVG10, PSI_AVG60, PSI_AVG300, NR_PSI_AVGS };
enum psi_states { PSI_SOME, PSI_FULL, NR_PSI_STATES };

#define PSI_BUSY_NS 10000000ull		/* after it was seen, a thread that does not wait counts as busy for so long */

struct psi_state {
	u64 total_ns;
	u64 avg_total_ns;		/* total at the last update of the averages */
	u32 avg[NR_PSI_AVGS];		/* share of the time in 1/2048 per cent */
};

struct psi_group {
	struct mutex lock;
	u32 nr_stalled;			/* threads that wait now */
	u64 since_ns;			/* when the first of them began, or when the time was last added up */
	u64 busy_until_ns;		/* somebody else does not wait */
	const void *busy;		/* who was seen last */
	u64 avg_next_ns;		/* when the next update is due */
	struct psi_state state[NR_PSI_STATES];
};

/* A thread begins and ends to wait. thread: any address that is its own. */
void psi_stall_begin(struct psi_group *psi, u64 now_ns, const void *thread);
void psi_stall_end(struct psi_group *psi, u64 now_ns, const void *thread);
/* One that does not wait has asked for memory. */
void psi_note_busy(struct psi_group *psi, u64 now_ns, const void *thread);

struct psi_show {
	u32 avg[NR_PSI_AVGS];		/* hundredths of a per cent */
	u64 total_us;
};
void psi_show(struct psi_group *psi, u64 now_ns, struct psi_show show[NR_PSI_STATES]);
/* In a child of fork nobody waits. */
void psi_reset_child(struct psi_group *psi);

#endif
