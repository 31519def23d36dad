/* SPDX-License-Identifier: MIT */
/* vmpressure.h - how short memory is outside of the process. Kernel: mm/vmpressure.c, whose levels these are. */
#ifndef KMM_PAGE_VMPRESSURE_H
#define KMM_PAGE_VMPRESSURE_H

#include "base/types.h"

enum vmpressure_level { VMPRESSURE_NONE, VMPRESSURE_LOW, VMPRESSURE_MEDIUM, VMPRESSURE_CRITICAL };

/*
 * The background thread's, once it has a descriptor table of its own: looks, if it is time, and returns ms until it should
 * look again; NEVER_MS: there is nothing to look at. forget: it ends, or in a child of fork.
 */
u32 vmpressure_look(u32 now_ms);
void vmpressure_forget(void);

/* As it was found at the last look; none without a background thread. */
enum vmpressure_level vmpressure_level(void);
/* What a decay time becomes under that. */
u64 vmpressure_decay_ms(enum vmpressure_level level, u64 decay_ms);

/* What a group's room and its limit mean; pure. room: bytes until the limit; soft: reaching it is not fatal. */
enum vmpressure_level vmpressure_of_room(u64 room, u64 limit, bool soft);

#endif
