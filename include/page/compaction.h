/* SPDX-License-Identifier: MIT */
/*
 * compaction.h - live objects move closer together, so that the memory between them goes home. Kernel: mm/compaction.c.
 */
#ifndef KMM_PAGE_COMPACTION_H
#define KMM_PAGE_COMPACTION_H

#include "base/list.h"
#include "page/reclaim.h"

/* Values of KMM_COMPACT. */
enum compact_mode { COMPACT_OFF, COMPACT_AUTO, COMPACT_MESH, COMPACT_KSM };

/* One pass, made in slices by the background thread. Kernel: struct compact_control. */
struct compact_control {
	bool whole;		/* the program asked for it: what has been used lately as well */
	bool eager;		/* however little there is to gain */
	bool again;		/* out: something was too young, another pass will find it old */
	u32 now_ms;
	size_t worthwhile;	/* bytes of gain below which nothing is done, unless eager */
	s64 nr_freed;		/* out: bytes that went home less what was needed for it */
};

/*
 * A way to compact (kernel: struct movable_operations). open is called once, by the background thread, with its descriptor table;
 * 0 or -errno: it cannot work in this process. scan does one slice, enters the gate itself; false: the pass is over.
 */
struct compactor {
	const char *name;
	enum compact_mode mode;		/* the setting that asks for this one */
	int (*open)(void);
	bool (*scan)(struct compact_control *cc);
	void (*forget)(void);		/* the thread has ended, or is not in this process: with it its descriptors */
	const char *(*needs)(int error);	/* for the log: what is missing */
	struct compactor *next;
};
void register_compactor(struct compactor *c);

/*
 * The background thread's turn. reclaim_ms: when reclaim will look again, NEVER_MS: all is at home. Returns ms until compaction
 * wants its next turn, NEVER_MS: none. may_open: the thread has its own descriptors; stop: has it to end?
 */
u32 kcompactd_run(u32 reclaim_ms, bool may_open, bool (*stop)(void));
void kcompactd_exit(void);	/* that thread ends; or does not exist, in a child */
/*
 * By the program: a pass is wanted. Then, after the background thread was woken: waits until it is done, bytes that went home.
 * Without a background thread, or where nothing can compact, 0 at once.
 */
u32 compact_request(void);
size_t compact_wait(u32 request);

#endif
