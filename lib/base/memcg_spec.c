/* SPDX-License-Identifier: MIT */
/*
 * memcg_spec.c - the grammar of rules for memory groups.
 *
 * Purpose. Reads rules one by one without storing more than one, so that the tool, the library and files use the same
 * few lines. Nothing is guessed: an unknown key, a key given twice, an empty value, a character that no name has, a limit
 * that is no limit make the rule wrong, and *s tells where.
 */
#include "base/memcg_spec.h"

#include "base/compiler.h"
#include "base/param.h"
#include <errno.h>
#include <string.h>

const char *const memcg_limit_names[NR_MEMCG_LIMITS] = { "max", "high", "low", "min" };
const char *const memcg_oom_names[5] = { "enomem", "callback", "report", "abort", "exit" };
#define OOM_CALLBACK_NAME 1

static bool is_separator(char c)
{
	return c == ';' || c == '\n';
}

/* Blanks; with lines, also empty rules and comments. */
static const char *skip_blanks(const char *s, bool lines)
{
	for (;; s++) {
		if (lines && *s == '#')
			s += strcspn(s, "\n");
		if (*s == '\0' || !(*s == ' ' || *s == '\t' || *s == '\r' || (lines && is_separator(*s))))
			return s;
	}
}

/* The length of a word that ends at one of the characters, without the blanks behind it. */
static size_t word_length(const char *s, const char *ends)
{
	size_t len = strcspn(s, ends);

	while (len > 0 && (s[len - 1] == ' ' || s[len - 1] == '\t' || s[len - 1] == '\r'))
		len--;
	return len;
}

static bool is_name_char(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-' || c == '.';
}

/* Names of up to 31 characters with a '/' between them; none begins with a dot. */
static bool path_is_valid(const char *s, size_t len)
{
	size_t name = 0;

	for (size_t i = 0; i < len; i++) {
		if (s[i] == '/') {
			if (name == 0)
				return false;
			name = 0;
		} else if (!is_name_char(s[i]) || (s[i] == '.' && name == 0) || ++name > 31) {
			return false;
		}
	}
	return name > 0 && len < MEMCG_PATH_MAX;
}

static bool is_word(const char *s, size_t len, const char *word)
{
	return strlen(word) == len && memcmp(s, word, len) == 0;
}

static int set_pattern(char *to, const char *value, size_t len)
{
	if (to[0] != '\0' || len == 0 || len >= MEMCG_PATTERN_MAX || memchr(value, '/', len))
		return -EINVAL;
	memcpy(to, value, len);
	to[len] = '\0';
	return 0;
}

static int set_oom(struct memcg_rule *rule, const char *value, size_t len)
{
	for (int i = 0; rule->oom < 0 && i < (int)ARRAY_SIZE(memcg_oom_names); i++) {
		if (i != OOM_CALLBACK_NAME && is_word(value, len, memcg_oom_names[i])) {
			rule->oom = i;
			return 0;
		}
	}
	return -EINVAL;
}

static int set_key(struct memcg_rule *rule, const char *key, size_t key_len, const char *value, size_t len)
{
	for (unsigned i = 0; i < NR_MEMCG_LIMITS; i++) {
		if (!is_word(key, key_len, memcg_limit_names[i]))
			continue;
		if (rule->limits_set & 1u << i)
			return -EINVAL;
		rule->limits_set |= 1u << i;
		return parse_limit(value, len, &rule->limit[i]);
	}
	if (is_word(key, key_len, "oom"))
		return set_oom(rule, value, len);
	if (is_word(key, key_len, "lib"))
		return set_pattern(rule->lib, value, len);
	if (is_word(key, key_len, "comm"))
		return set_pattern(rule->comm, value, len);
	return -EINVAL;
}

/* KEY=VALUE; *s moves behind it and the comma that follows. */
static int parse_key(const char **s, struct memcg_rule *rule)
{
	const char *key = skip_blanks(*s, false), *value;
	size_t key_len = word_length(key, "=,;\n"), len;

	*s = key;
	value = skip_blanks(key + key_len, false);
	if (*value != '=')
		return -EINVAL;
	value = skip_blanks(value + 1, false);
	len = word_length(value, ",;\n#");
	if (set_key(rule, key, key_len, value, len))
		return -EINVAL;
	*s = skip_blanks(value + len, false);
	if (**s == '#')
		*s += strcspn(*s, "\n");
	return 0;
}

int parse_memcg_rule(const char **s, struct memcg_rule *rule)
{
	size_t len;

	memset(rule, 0, sizeof(*rule));
	rule->oom = -1;
	*s = skip_blanks(*s, true);
	if (**s == '\0')
		return 0;
	len = word_length(*s, ":;\n");
	if (!path_is_valid(*s, len))
		return -EINVAL;
	memcpy(rule->path, *s, len);
	*s = skip_blanks(*s + len, false);
	if (**s != ':')
		return -EINVAL;
	do {
		++*s;
		if (parse_key(s, rule))
			return -EINVAL;
	} while (**s == ',');
	return **s == '\0' || is_separator(**s) ? 1 : -EINVAL;
}

bool memcg_rules_are_valid(const char *s)
{
	struct memcg_rule rule;
	int ret, nr = 0;

	while ((ret = parse_memcg_rule(&s, &rule)) > 0)
		nr++;
	return ret == 0 && nr > 0;
}

bool memcg_pattern_matches(const char *pattern, const char *name)
{
	const char *star = NULL, *again = NULL;

	while (*name != '\0') {
		if (*pattern == '*') {
			star = ++pattern;
			again = name;
		} else if (*pattern == '?' || *pattern == *name) {
			pattern++;
			name++;
		} else if (star) {	/* the last star takes one character more */
			pattern = star;
			name = ++again;
		} else {
			return false;
		}
	}
	while (*pattern == '*')
		pattern++;
	return *pattern == '\0';
}
