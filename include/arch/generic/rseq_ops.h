/* SPDX-License-Identifier: MIT */
/*
 * rseq_ops.h - machines without critical sections of their own: always "slow", so the lock mode serves.
 */
#ifndef KMM_PERCPU_OPS_INNER
#error "include arch/percpu_ops.h"
#endif

#define hot_sub(x, s, field)   ((void)((x) -= (s).field))
#define hot_load(s, field)     ((s).field)
#define hot_below(x, s, field) ((x) < (s).field)

static __always_inline void *rseq_pop(unsigned long slot)
{
	(void)slot;
	return NULL;
}

static __always_inline bool rseq_push(const map_entry_t *map, size_t pfn, void *obj)
{
	(void)map;
	(void)pfn;
	(void)obj;
	return false;
}

static inline void **rseq_exchange(unsigned cpu, unsigned slot, void **new_top)
{
	(void)cpu;
	(void)slot;
	(void)new_top;
	return NULL;
}

static inline u32 rseq_cpu_index(void)
{
	return 0;
}

#define RSEQ_NOWHERE 0
#define RSEQ_ZERO    0
#define HAVE_RSEQ_OPS 0
