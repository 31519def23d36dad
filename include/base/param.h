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

enum param_type { PARAM_BOOL, PARAM_ENUM, PARAM_MS, PARAM_SIZE, PARAM_STRING };

struct kernel_param {
	const char *name;	/* "DECAY_MS", without the prefix */
	enum param_type type;
	const char *accepted;	/* for PARAM_ENUM: "auto|rseq|lock"; for others a description of what is right */
	const char *def;	/* the default, as text */
	const char *help;	/* one line */
};

extern const struct kernel_param kmm_param_table[];	/* generated from tunables.def, in its order */
extern const unsigned nr_kmm_params;

/*
 * Values after parsing, one field a tunable, named as in tunables.def in lower case:
 * bool -> bool, enum -> int (index in accepted), ms/size -> u64, string -> const char * (NULL when unset).
 */
#define TUNABLE_BOOL(name, field, def, help)		 bool field;
#define TUNABLE_ENUM(name, field, accepted, def, help)	 int field;
#define TUNABLE_MS(name, field, lo, hi, def, help)	 u64 field;
#define TUNABLE_SIZE(name, field, lo, hi, def, help)	 u64 field;
#define TUNABLE_STRING(name, field, accepted, help)	 const char *field;
struct kmm_params {
#include "base/tunables.def"
};
#undef TUNABLE_BOOL
#undef TUNABLE_ENUM
#undef TUNABLE_MS
#undef TUNABLE_SIZE
#undef TUNABLE_STRING

extern struct kmm_params kmm_params;

/* Parses environ once, at boot, before any thread exists. secure: ignore everything. */
void parse_params(char *const *envp, bool secure);

/* Parses one value; returns 0 or -EINVAL (nothing changed). Used by parse_params(), kmm run -o, and tests. */
int parse_one_param(struct kmm_params *p, const char *name, size_t name_len, const char *value);

#endif
