/* SPDX-License-Identifier: MIT */
/*
 * memcg_rules.h - who belongs to which memory group: threads by attachment, by name, by who created them; allocations by
 * the library that makes them. And what limits as they are written come to.
 */
#ifndef KMM_MM_MEMCG_RULES_H
#define KMM_MM_MEMCG_RULES_H

#include "base/memcg_spec.h"
#include "page/memcontrol.h"

/* The process's quota and rules from the environment; once, at the end of the boot. */
void memcg_init(void);

/*
 * Pages that a limit comes to: a per cent of the real cgroup's limit or of RAM, whichever is less; auto: the real cgroup's
 * limit with headroom. 0 or -ENOENT: auto, and there is no such limit.
 */
int resolve_limit(u64 limit, u64 *pages);

/* A group by the path that a rule names, made with its parents if need be. memcg lock held. NULL and *err. */
struct mem_cgroup *__mem_cgroup_make(struct mem_cgroup *parent, const char *path, size_t len, int *err);
/* From now on every malloc() asks whose it is. Once, when the first group is made. */
void memcg_enable(void);

/* Adds what a rule says of its group, which is made if need be. 0 or -errno. Inside the gate. */
int memcg_apply_rule(const struct memcg_rule *rule);
/*
 * Colours of removed groups that hold nothing any more are free again; how many. Outside the gate, cgroup lock held. Waits
 * until everybody has left the gate.
 */
u32 memcg_reap(void);
/* memcg lock held: no rule leads to the group any more. */
void __memcg_forget_rules(const struct mem_cgroup *memcg);

/* --- the calling thread; malloc's slow path ------------------------------------------------------------ */

extern bool memcg_has_libs;		/* there are rules by library */
/* A thread that is not in a group yet: by its name, else the root. Its word. */
__cold u32 memcg_assign_thread(void);
/* The word for a call from that address: of a library's group, or the thread's. */
u32 memcg_word_of_caller(const void *caller);
/* On slow paths, outside the gate: has the thread been moved, or got another name? */
void memcg_recheck_thread(void);
/* A new thread, before anything else: it is where its creator was, if that is still there. */
void memcg_begin_thread(u32 id);
/*
 * A thread is in that group from now on, whatever its name is. tid 0: the caller; another one moves when it next meets a slow
 * path. 0, -ENOENT (group), -ESRCH (thread), -ENOMEM.
 */
int memcg_attach(u32 id, int tid);

/* The same, where a caller's library is mostly that of the one before. */
#define MEMCG_LOOKUPS 4096u
extern u32 memcg_ranges_seq;
static __always_inline u32 memcg_word_of_next_caller(const void *caller)
{
	struct memcg_thread *t = &memcg_thread;

	if (likely((uintptr_t)caller - t->lib_start < t->lib_size && t->lib_seq == READ_ONCE(memcg_ranges_seq) &&
		   t->lookups % MEMCG_LOOKUPS)) {
		t->lookups++;
		return t->lib_word ? t->lib_word : t->word;
	}
	return memcg_word_of_caller(caller);
}

/* What is added to a class: 0 where there are no groups. */
static inline unsigned memcg_slot_bits(const void *caller)
{
	u32 word = memcg_thread.word;

	if (unlikely(memcg_has_libs))
		word = memcg_word_of_caller(caller);
	else if (unlikely(!word))
		word = memcg_assign_thread();
	return word & MEMCG_COLOUR_BITS;
}

#endif
