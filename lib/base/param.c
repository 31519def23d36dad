// SPDX-License-Identifier: MIT
/*
 * param.c - the settings in the environment, KMM_<NAME>=value.
 *
 * Purpose. Turns the environment into struct kmm_params, once, at boot. Names, ranges, defaults and help stand in
 * tunables.def only; this file, `kmm params`, the README's table and the man page are made from it.
 *
 * Objects. kmm_param_table: one row a setting. kmm_params: the values, defaults from the start, so that code that
 * runs before parse_params() reads something sound. param_strings: copies of string values, since programs
 * overwrite their environment (setproctitle) long before the statistics are written at exit.
 *
 * Invariants. A value is stored only when it is right in whole. What is wrong gives exactly one line, which names
 * variable, value and what is accepted; the program goes on with the default.
 *
 * Locks. None: written once, before any thread exists, read-only afterwards.
 *
 * Fast and slow path. Without a KMM_ variable the cost is one look at the first bytes of each variable.
 *
 * Kernel counterpart and what differs. kernel/params.c (parse_args, module_param). The list of alternatives that
 * the help shows is itself the grammar: "auto|rseq|lock" for one of these words, "text:PATH" for a word with a
 * tail of the user's; whatever follows the first space is explanation.
 */
#include "base/param.h"
#include "base/bug.h"
#include "base/compiler.h"
#include "base/memcg_spec.h"
#include "base/printk.h"
#include <errno.h>
#include <string.h>

#define PARAM_MAX_SHOWN 80	/* bytes of a wrong value that a warning repeats */
#define PARAM_NAME_MAX	32	/* longer names are nobody's misspelling */

#define TUNABLE_BOOL(NAME, field, def, help)		 .field = def,
#define TUNABLE_ENUM(NAME, field, accepted, def, help)	 .field = def,
#define TUNABLE_MS(NAME, field, lo, hi, def, help)	 .field = def,
#define TUNABLE_SIZE(NAME, field, lo, hi, def, help)	 .field = def,
#define TUNABLE_LIMIT(NAME, field, help)		 .field = LIMIT_NONE,
#define TUNABLE_RULES(NAME, field, accepted, help)	 .field = NULL,
#define TUNABLE_STRING(NAME, field, accepted, help)	 .field = NULL,
struct kmm_params kmm_params = {
#include "base/tunables.def"
};
const struct kmm_params kmm_param_defaults = {
#include "base/tunables.def"
};
#undef TUNABLE_BOOL
#undef TUNABLE_ENUM
#undef TUNABLE_MS
#undef TUNABLE_SIZE
#undef TUNABLE_LIMIT
#undef TUNABLE_RULES
#undef TUNABLE_STRING

#define PARAM_ROW(NAME, kind, field, lo, hi, accepted, help) \
	{ #NAME, kind, offsetof(struct kmm_params, field), lo, hi, accepted, help },
#define TUNABLE_BOOL(NAME, field, def, help) PARAM_ROW(NAME, PARAM_BOOL, field, 0, 1, "0|1", help)
#define TUNABLE_ENUM(NAME, field, accepted, def, help) PARAM_ROW(NAME, PARAM_ENUM, field, 0, 0, accepted, help)
#define TUNABLE_MS(NAME, field, lo, hi, def, help) \
	PARAM_ROW(NAME, PARAM_MS, field, lo, hi, #lo ".." #hi " milliseconds", help)
#define TUNABLE_SIZE(NAME, field, lo, hi, def, help) \
	PARAM_ROW(NAME, PARAM_SIZE, field, lo, hi, #lo ".." #hi " bytes, or with suffix K, M, G", help)
#define TUNABLE_LIMIT(NAME, field, help) \
	PARAM_ROW(NAME, PARAM_LIMIT, field, 0, 0, "max, auto, 1..100%, or bytes with suffix K, M, G, T", help)
#define TUNABLE_RULES(NAME, field, accepted, help) PARAM_ROW(NAME, PARAM_RULES, field, 0, 0, accepted, help)
#define TUNABLE_STRING(NAME, field, accepted, help) PARAM_ROW(NAME, PARAM_STRING, field, 0, 0, accepted, help)
const struct kernel_param kmm_param_table[] = {
#include "base/tunables.def"
};
const unsigned nr_kmm_params = ARRAY_SIZE(kmm_param_table);

static __rare_data char param_strings[4096];
static size_t param_strings_used;

const struct kernel_param *find_param(const char *name, size_t name_len)
{
	unsigned i;

	for (i = 0; i < nr_kmm_params; i++) {
		const struct kernel_param *kp = &kmm_param_table[i];

		if (strlen(kp->name) == name_len && !memcmp(kp->name, name, name_len))
			return kp;
	}
	return NULL;
}

/* Edits (insert, delete, replace) that turn one name into the other; both at most PARAM_NAME_MAX long. */
static unsigned name_distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
	unsigned row[PARAM_NAME_MAX + 1];
	size_t i, j;

	for (j = 0; j <= b_len; j++)
		row[j] = (unsigned)j;
	for (i = 1; i <= a_len; i++) {
		unsigned diagonal = row[0];

		row[0] = (unsigned)i;
		for (j = 1; j <= b_len; j++) {
			unsigned replace = diagonal + (a[i - 1] != b[j - 1]);

			diagonal = row[j];
			row[j] = min(replace, min(row[j], row[j - 1]) + 1);
		}
	}
	return row[b_len];
}

const struct kernel_param *find_nearest_param(const char *name, size_t name_len)
{
	const struct kernel_param *nearest = NULL;
	unsigned i, best = 4;

	if (name_len > PARAM_NAME_MAX)
		return NULL;
	for (i = 0; i < nr_kmm_params; i++) {
		const struct kernel_param *kp = &kmm_param_table[i];
		size_t len = strlen(kp->name);
		unsigned distance;

		BUG_ON(len > PARAM_NAME_MAX);
		distance = name_distance(name, name_len, kp->name, len);
		/* More than half of the name wrong is another name, not a slip. */
		if (distance < best && 2 * distance < len) {
			best = distance;
			nearest = kp;
		}
	}
	return nearest;
}

/* Decimal digits, and one of the suffixes when allowed. Nothing may follow. */
static int parse_u64(const char *s, size_t len, bool suffix, u64 *value)
{
	static const char suffixes[] = "KMGT";
	const char *end = s + len;
	u64 n = 0;
	unsigned i;

	if (s == end || *s < '0' || *s > '9')
		return -EINVAL;
	for (; s < end && *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(n, (u64)10, &n) || __builtin_add_overflow(n, (u64)(*s - '0'), &n))
			return -EINVAL;
	for (i = 0; suffix && s < end && suffixes[i]; i++) {
		if ((*s & ~0x20) != suffixes[i])
			continue;
		if (__builtin_mul_overflow(n, 1ULL << (10 * (i + 1)), &n))
			return -EINVAL;
		s++;
		break;
	}
	if (s != end)
		return -EINVAL;
	*value = n;
	return 0;
}

static bool is_word(const char *s, size_t len, const char *word)
{
	return len == strlen(word) && memcmp(s, word, len) == 0;
}

int parse_limit(const char *s, size_t len, u64 *limit)
{
	bool percent = len > 1 && s[len - 1] == '%';
	u64 n;

	if (is_word(s, len, "max")) {
		*limit = LIMIT_NONE;
		return 0;
	}
	if (is_word(s, len, "auto")) {
		*limit = LIMIT_AUTO;
		return 0;
	}
	if (parse_u64(s, len - percent, !percent, &n) || n >= LIMIT_SPECIAL || (percent && (n < 1 || n > 100)))
		return -EINVAL;
	*limit = percent ? LIMIT_PERCENT(n) : n;
	return 0;
}

static bool is_placeholder(const char *s, size_t len)
{
	return len && s[0] >= 'A' && s[0] <= 'Z';
}

/* Does value match the alternative [alt, alt + len)? "text:PATH" takes any tail that is not empty. */
static bool match_alternative(const char *alt, size_t len, const char *value)
{
	size_t word = 0;

	while (word < len && !is_placeholder(alt + word, len - word))
		word++;
	if (strncmp(alt, value, word))
		return false;
	return word == len ? !value[word] : value[word] != '\0';
}

/* Index of the alternative in accepted that value matches, or -EINVAL. */
static int match_accepted(const char *accepted, const char *value)
{
	int index;

	for (index = 0;; index++) {
		size_t len = strcspn(accepted, "| ");

		if (match_alternative(accepted, len, value))
			return index;
		if (accepted[len] != '|')
			return -EINVAL;
		accepted += len + 1;
	}
}

static int set_param(struct kmm_params *p, const struct kernel_param *kp, const char *value)
{
	void *field = (char *)p + kp->offset;
	int index, err;
	u64 n;

	switch (kp->type) {
	case PARAM_MS:
	case PARAM_SIZE:
		err = parse_u64(value, strlen(value), kp->type == PARAM_SIZE, &n);
		if (err || n < kp->lo || n > kp->hi)
			return -EINVAL;
		*(u64 *)field = n;
		return 0;
	case PARAM_LIMIT:
		return parse_limit(value, strlen(value), field);
	case PARAM_RULES:
		if (value[0] == '@' ? !value[1] : !memcg_rules_are_valid(value))
			return -EINVAL;
		*(const char **)field = value;
		return 0;
	case PARAM_BOOL:
	case PARAM_ENUM:
	case PARAM_STRING:
		index = match_accepted(kp->accepted, value);
		if (index < 0)
			return index;
		if (kp->type == PARAM_BOOL)
			*(bool *)field = index;
		else if (kp->type == PARAM_ENUM)
			*(int *)field = index;
		else
			*(const char **)field = value;
		return 0;
	}
	BUG();
}

int parse_one_param(struct kmm_params *p, const char *name, size_t name_len, const char *value)
{
	const struct kernel_param *kp = find_param(name, name_len);

	return kp ? set_param(p, kp, value) : -ENOENT;
}

static const char *nth_alternative(const char *accepted, int index, size_t *len)
{
	while (index--)
		accepted += strcspn(accepted, "|") + 1;
	*len = strcspn(accepted, "| ");
	return accepted;
}

static int format_size(u64 n, char *buf, size_t size)
{
	if (n && !(n & (GIB(1) - 1)))
		return kmm_snprintf(buf, size, "%luG", n >> 30);
	if (n && !(n & (MIB(1) - 1)))
		return kmm_snprintf(buf, size, "%luM", n >> 20);
	if (n && !(n & (KIB(1) - 1)))
		return kmm_snprintf(buf, size, "%luK", n >> 10);
	return kmm_snprintf(buf, size, "%lu", n);
}

int format_limit(u64 limit, char *buf, size_t size)
{
	if (limit == LIMIT_NONE || limit == LIMIT_AUTO)
		return kmm_snprintf(buf, size, limit == LIMIT_NONE ? "max" : "auto");
	if (limit >= LIMIT_SPECIAL)
		return kmm_snprintf(buf, size, "%lu%%", limit - LIMIT_SPECIAL);
	return format_size(limit, buf, size);
}

int format_param(const struct kernel_param *kp, const struct kmm_params *p, char *buf, size_t size)
{
	const void *field = (const char *)p + kp->offset;
	const char *word;
	size_t len;

	switch (kp->type) {
	case PARAM_BOOL:
		return kmm_snprintf(buf, size, "%d", *(const bool *)field);
	case PARAM_ENUM:
		word = nth_alternative(kp->accepted, *(const int *)field, &len);
		return kmm_snprintf(buf, size, "%.*s", (int)len, word);
	case PARAM_SIZE:
		return format_size(*(const u64 *)field, buf, size);
	case PARAM_LIMIT:
		return format_limit(*(const u64 *)field, buf, size);
	case PARAM_MS:
		return kmm_snprintf(buf, size, "%lu", *(const u64 *)field);
	case PARAM_RULES:
	case PARAM_STRING:
		word = *(const char *const *)field;
		return kmm_snprintf(buf, size, "%s", word ? word : "");
	}
	BUG();
}

static void warn_unknown(const char *name, size_t name_len, const char *value)
{
	const struct kernel_param *near = find_nearest_param(name, name_len);
	int len = (int)min(name_len, (size_t)PARAM_MAX_SHOWN);

	if (near)
		pr_warn("unknown setting KMM_%.*s=%.*s, did you mean KMM_%s? See kmm params", len, name,
			PARAM_MAX_SHOWN, value, near->name);
	else
		pr_warn("unknown setting KMM_%.*s=%.*s; see kmm params", len, name, PARAM_MAX_SHOWN, value);
}

static void warn_malformed(const struct kernel_param *kp, const char *value)
{
	char def[64];

	if (!format_param(kp, &kmm_param_defaults, def, sizeof(def)))
		kmm_snprintf(def, sizeof(def), "(unset)");
	pr_warn("KMM_%s=%.*s is malformed: accepted is %s; the default %s holds", kp->name, PARAM_MAX_SHOWN, value,
		kp->accepted, def);
}

/* A copy that the program cannot overwrite, or NULL when the strings are too long. */
static const char *keep_string(const char *s)
{
	size_t size = strlen(s) + 1;
	char *copy = param_strings + param_strings_used;

	if (size > sizeof(param_strings) - param_strings_used)
		return NULL;
	memcpy(copy, s, size);
	param_strings_used += size;
	return copy;
}

static __cold void parse_setting(const char *name)
{
	const char *equals = strchr(name, '=');
	const struct kernel_param *kp;
	const char *kept;

	if (!equals)
		return;		/* not a variable at all */
	kp = find_param(name, (size_t)(equals - name));
	if (!kp) {
		warn_unknown(name, (size_t)(equals - name), equals + 1);
		return;
	}
	kept = kp->type == PARAM_STRING || kp->type == PARAM_RULES ? keep_string(equals + 1) : equals + 1;
	if (!kept || set_param(&kmm_params, kp, kept))
		warn_malformed(kp, equals + 1);
}

/* By hand, since every program passes here: no page of libc's text for strncmp(), none of ours for its argument. */
static __init bool has_prefix(const char *var)
{
	_Static_assert(PARAM_PREFIX_LEN == 4, "four bytes are compared");
	return var[0] == PARAM_PREFIX[0] && var[1] == PARAM_PREFIX[1] && var[2] == PARAM_PREFIX[2] && var[3] == PARAM_PREFIX[3];
}

__init void parse_params(char *const *envp, bool secure)
{
	if (secure || !envp)
		return;
	for (; *envp; envp++)
		if (unlikely(has_prefix(*envp)))
			parse_setting(*envp + PARAM_PREFIX_LEN);
}
