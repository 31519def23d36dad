/* SPDX-License-Identifier: MIT */
/*
 * reclaim.h - free memory goes back to the kernel. Kernel: mm/vmscan.c, mm/page_reporting.c, mm/shrinker.c.
 */
#ifndef KMM_PAGE_RECLAIM_H
#define KMM_PAGE_RECLAIM_H

#include "base/list.h"
#include "page/mmzone.h"

#define NEVER_MS UINT32_MAX

/*
 * One pass of reclaim. It is made in slices, so that nobody waits long: between two of them no lock is held and, if
 * the caller likes, the gate is open. Kernel: struct scan_control.
 */
struct scan_control {
	bool kswapd;		/* by the background thread; else by the program's, which waits */
	bool busy;		/* slow paths have run since the background thread's last pass */
	u32 now_ms;
	u32 max_age_ms;		/* what has been free for longer goes */
	u32 deep_age_ms;	/* the same for what a zone keeps below its low watermark, and for single pages */
	bool small_first;	/* small blocks before large ones */
	size_t nr_to_reclaim;	/* bytes that may still go in this pass */
	size_t nr_reclaimed;	/* bytes that went */
	u32 next_ms;		/* until something else is old enough, NEVER_MS: nothing is there */
	bool failed;		/* the kernel would not take something back (locked memory) */
	struct shrinker *turn;	/* whose turn it is, NULL: the pass begins */
	u32 cursor;		/* how far that one has got; 0 when its turn begins */
};

/* Everything there is, of any age, without limit. */
#define SCAN_ALL(now) { .now_ms = (now), .nr_to_reclaim = SIZE_MAX, .next_ms = NEVER_MS }

/* Books bytes that went home. */
void scan_account(struct scan_control *sc, size_t bytes);
/* Something has been free since then: true if it may go; otherwise next_ms notes when. */
bool scan_is_old(struct scan_control *sc, u32 since_ms, u32 max_age_ms);

/* What is taken back before the heap grows. */
enum reap_depth {
	REAP_EMPTY,		/* whole free pages, without any other trouble */
	REAP_LARGE,		/* from caches what they hold in few pieces, if that is enough */
	REAP_CACHES,		/* all that caches hold, if that is enough */
};

/*
 * Something that holds free memory (kernel: struct shrinker). scan does one slice; false: nothing more in this pass.
 * reap, if there is one, is called before the heap grows, with no lock held. True if there was anything.
 */
struct shrinker {
	const char *name;
	bool (*scan)(struct scan_control *sc);
	bool (*reap)(enum reap_depth depth);
	size_t (*count)(void);		/* bytes that would go if they were old, about; NULL: cannot tell */
	struct shrinker *next;
};
void register_shrinker(struct shrinker *s);

/* --- page_reporting.c ----------------------------------------------------------------------------------- */

/* Free resident blocks of the zone: one batch, oldest first. false: nothing more in this pass. */
bool page_report(struct zone *zone, struct scan_control *sc);
/* Lowers the break over pages at the zone's end that have been given back, all but pad bytes of the zone. By how much. */
size_t brk_trim(size_t pad);
u64 resident_free_pages(const struct zone *zone);
/*
 * Called after pages were freed, without locks, and when the decay time has changed: while there is no background
 * thread, the caller does a pass in time.
 */
void page_reporting_notify_free(struct zone *zone, u32 now_ms);

/* --- vmscan.c ------------------------------------------------------------------------------------------- */

/* One slice, of whoever is in turn. false: the pass is over. Kernel: shrink_node(). */
bool shrink_slice(struct scan_control *sc);
/* What every shrinker can reap. True if there was anything. */
bool reap_all(enum reap_depth depth);
/*
 * Called without locks before a zone grows: caches are reaped, at a small share of the time; who comes while another does it
 * waits for that. True if there was anything.
 */
bool reap_before_growth(void);
/*
 * Everything of any age but about pad bytes, in slices: begin, slice until it says false, end, which returns bytes.
 * try_to_free_pages() does all of it in one go, for an allocation that fails.
 */
void trim_begin(struct scan_control *sc);
bool trim_slice(struct scan_control *sc, size_t pad);
size_t trim_end(struct scan_control *sc, size_t pad);
size_t try_to_free_pages(size_t pad);
/*
 * How old free memory becomes before the slow paths of the program give it back: KMM_DECAY_MS, and UNATTENDED times that
 * without the background thread, since then the program itself has to do it and to wait.
 */
u64 direct_decay_ms(void);
/* Free memory that is resident: in zones, and what shrinkers count. */
size_t reclaimable_bytes(void);

/*
 * Called without locks after pages that were not resident were allocated. At a new peak of residence the program pays with
 * what lies free in the wrong places: CPUs' caches are taken back whenever the peak has grown by an eighth, their page lists
 * each time, and free blocks are reported, the small ones first, until as much has gone or only a sixteenth is left.
 */
void balance_growth(void);

/* The background thread's frame around a pass. end: ms until the next one, NEVER_MS: all memory is at home. */
void kswapd_begin(struct scan_control *sc);
u32 kswapd_end(struct scan_control *sc);
void kswapd_own_events(void);	/* what was counted so far was the background thread's doing: nobody is busy for that */
extern bool kswapd_running;	/* there is a background thread */
extern int kswapd_tid;		/* its id */
bool kswapd_is_alive(void);	/* the same for sure: a child made by a raw clone(2) has its parent's variables, and no thread */
/*
 * What the slow paths test on their way out, and nothing else: somebody should call kmmd_consider(). Set when free
 * memory has grown enough to be worth a thread, and by the thread when it goes to sleep for good.
 */
extern bool kmmd_wanted;
/*
 * Memory came online: free memory in slabs shows only when somebody looks, so a large heap is looked at now and then, and one of a
 * program with threads that may hold KSWAPD_WORTH of it has the background thread look (a thousand threads that sleep).
 */
void kswapd_note_growth(void);
size_t heap_bytes(void);		/* in both zones, with what has gone home */
#define KSWAPD_WORTH  MIB(8)	/* of reclaimable memory: for a program with threads */
#define KSWAPD_EARNED MIB(64)	/* for one without (see mm/kmmd.c) */

#endif
