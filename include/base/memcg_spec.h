/* SPDX-License-Identifier: MIT */
/*
 * memcg_spec.h - rules for memory groups as KMM_MEMCG and files hold them:
 *
 *	plug:max=64M,oom=enomem,lib=libplug.so;workers:high=1G,max=1200M,comm=worker*;batch/low:max=10%,comm=batch*
 *
 * A rule is PATH:KEY=VALUE,... ; rules are separated by ';' or newline. Blanks around anything are skipped, and so is what
 * follows '#' up to the end of a line. A '/' in PATH makes a child; parents that no rule names are made without limits.
 * A rule with the path of another one adds to it.
 *
 *	max high low min	a limit (base/param.h)
 *	oom			enomem, report, abort, exit
 *	lib			name of a shared object: what code in it allocates
 *	comm			name of a thread, with * and ?
 */
#ifndef KMM_BASE_MEMCG_SPEC_H
#define KMM_BASE_MEMCG_SPEC_H

#include "base/types.h"

#define MEMCG_PATH_MAX	  128
#define MEMCG_PATTERN_MAX 48

enum memcg_limit { MEMCG_LIMIT_MAX, MEMCG_LIMIT_HIGH, MEMCG_LIMIT_LOW, MEMCG_LIMIT_MIN, NR_MEMCG_LIMITS };
extern const char *const memcg_limit_names[NR_MEMCG_LIMITS];
/* The policies that a rule can name, in the order of enum memcg_oom_policy; "callback" it cannot. */
extern const char *const memcg_oom_names[5];

struct memcg_rule {
	char path[MEMCG_PATH_MAX];
	u32 limits_set;			/* a bit each */
	u64 limit[NR_MEMCG_LIMITS];
	int oom;			/* -1: not said */
	char lib[MEMCG_PATTERN_MAX], comm[MEMCG_PATTERN_MAX];	/* "" not said */
};

/* The next rule of *s, which moves on: 1, 0 at the end, -EINVAL: *s is where it is wrong. */
int parse_memcg_rule(const char **s, struct memcg_rule *rule);
/* Are they all right, and is there one? */
bool memcg_rules_are_valid(const char *s);
/* '*' any characters, '?' any one. */
bool memcg_pattern_matches(const char *pattern, const char *name);

#endif
