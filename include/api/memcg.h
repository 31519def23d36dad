/* SPDX-License-Identifier: MIT */
/* memcg.h - what the files of api/ share about memory groups. */
#ifndef KMM_API_MEMCG_H
#define KMM_API_MEMCG_H

#include "base/seq_file.h"
#include "page/memcontrol.h"

struct mem_cgroup *memcg_by_id(int id);		/* NULL: there is none, or no longer */
void show_memcg(struct seq_file *m);		/* the section of the statistics; memcg_show.c */

#endif
