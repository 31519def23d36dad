/* SPDX-License-Identifier: MIT */
/*
 * rseq_chain.h - see rseq_ops.h: always "slow".
 */
#ifndef KMM_ARCH_PERCPU_CHAIN_H
#error "include arch/percpu_chain.h"
#endif

static inline void *rseq_pop_chain(unsigned long slot, struct chain_left *left)
{
	(void)slot;
	(void)left;
	return NULL;
}

static inline bool rseq_push_chain(map_entry_t e, void *obj, void **new_top, unsigned least, struct chain_left *left)
{
	(void)e;
	(void)obj;
	(void)new_top;
	(void)least;
	(void)left;
	return false;
}

static inline void *rseq_get_empty(void)
{
	return NULL;
}

static inline bool rseq_put_empty(void *sheaf)
{
	(void)sheaf;
	return false;
}
