/* SPDX-License-Identifier: MIT */
/*
 * param.h - the tunables: KMM_<NAME>=value in the environment, each declared once in tunables.def.
 *
 * A malformed value or an unknown KMM_ name gives one warning line and the default holds; the program is never
 * stopped. The environment is ignored when AT_SECURE is set (setuid).
 */
#ifndef KMM_BASE_PARAM_H
#define KMM_BASE_PARAM_H

#include "base/types.h"

#define PARAM_PREFIX	 "KMM_"
#define PARAM_PREFIX_LEN 4

enum param_type { PARAM_BOOL, PARAM_ENUM, PARAM_MS, PARAM_SIZE, PARAM_LIMIT, PARAM_RULES, PARAM_STRING };

/*
 * A limit as it is written: bytes below LIMIT_SPECIAL, or one of these. What a per cent is of, and auto, is known at run
 * time (mm/memcg_rules.h).
 */
#define LIMIT_NONE	UINT64_MAX		/* "max" */
#define LIMIT_AUTO	(UINT64_MAX - 1)
#define LIMIT_SPECIAL	(1ul << 63)
#define LIMIT_PERCENT(p) (LIMIT_SPECIAL + (p))	/* 1 to 100 */
/* "max", "auto", "1%" to "100%", or bytes with suffix K, M, G, T. 0 or -EINVAL, and nothing is changed. */
int parse_limit(const char *s, size_t len, u64 *limit);
int format_limit(u64 limit, char *buf, size_t size);

struct kernel_param {
	const char *name;	/* "DECAY_MS", without the prefix */
	enum param_type type;
	u32 offset;		/* of the value in struct kmm_params */
	u64 lo, hi;		/* range of PARAM_MS and PARAM_SIZE */
	const char *accepted;	/* alternatives "auto|rseq|lock"; for numbers a description of what is right */
	const char *help;	/* one line */
};

extern const struct kernel_param kmm_param_table[];	/* generated from tunables.def, in its order */
extern const unsigned nr_kmm_params;

/*
 * Values after parsing, one field a tunable, named as in tunables.def in lower case:
 * bool -> bool, enum -> int (index in accepted), ms/size/limit -> u64, string -> const char * (NULL when unset).
 */
#define TUNABLE_BOOL(name, field, def, help)		 bool field;
#define TUNABLE_ENUM(name, field, accepted, def, help)	 int field;
#define TUNABLE_MS(name, field, lo, hi, def, help)	 u64 field;
#define TUNABLE_SIZE(name, field, lo, hi, def, help)	 u64 field;
#define TUNABLE_LIMIT(name, field, help)		 u64 field;
#define TUNABLE_RULES(name, field, accepted, help)	 const char *field;
#define TUNABLE_STRING(name, field, accepted, help)	 const char *field;
struct kmm_params {
#include "base/tunables.def"
};
#undef TUNABLE_BOOL
#undef TUNABLE_ENUM
#undef TUNABLE_MS
#undef TUNABLE_SIZE
#undef TUNABLE_LIMIT
#undef TUNABLE_RULES
#undef TUNABLE_STRING

extern struct kmm_params kmm_params;			/* holds the defaults before parse_params() */
extern const struct kmm_params kmm_param_defaults;

/*
 * Parses environ once, at boot, before any thread exists. secure: ignore everything. Strings are copied, as
 * programs overwrite their environment (setproctitle).
 */
void parse_params(char *const *envp, bool secure);

/*
 * Parses one value; returns 0, -ENOENT (no such name) or -EINVAL (bad value), both without a change. A string is
 * not copied. Used by parse_params(), kmm run -o, and tests.
 */
int parse_one_param(struct kmm_params *p, const char *name, size_t name_len, const char *value);

/* The table's row of a name, or NULL; and the row whose name is nearest to a mistyped one, or NULL. */
const struct kernel_param *find_param(const char *name, size_t name_len);
const struct kernel_param *find_nearest_param(const char *name, size_t name_len);

/* The value as text that parse_one_param() would accept ("" for an unset string), always terminated; its length. */
int format_param(const struct kernel_param *kp, const struct kmm_params *p, char *buf, size_t size);

#endif
