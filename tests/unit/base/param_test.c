// SPDX-License-Identifier: MIT
/* param_test.c - what the table accepts and refuses, and what is said about it. */
#include "base/param.h"
#include "base/compiler.h"
#include "base/printk.h"
#include "kmm/kmm.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char captured[8 * PRINTK_MAX];
static size_t captured_len;
static int nr_lines;

static ssize_t capture(const char *buf, size_t len)
{
	cr_assert_leq(len, sizeof(captured) - 1 - captured_len);
	memcpy(captured + captured_len, buf, len);
	captured_len += len;
	captured[captured_len] = '\0';
	nr_lines++;
	return (ssize_t)len;
}

static void start_capture(void)
{
	console_write = capture;
}

TestSuite(param, .init = start_capture);

static int parse(struct kmm_params *p, const char *name, const char *value)
{
	return parse_one_param(p, name, strlen(name), value);
}

static void parse_env(const char *const *envp)
{
	parse_params((char *const *)envp, false);
}

static bool params_are_default(const struct kmm_params *p)
{
	char want[256], have[256];
	unsigned i;

	for (i = 0; i < nr_kmm_params; i++) {
		format_param(&kmm_param_table[i], &kmm_param_defaults, want, sizeof(want));
		format_param(&kmm_param_table[i], p, have, sizeof(have));
		if (strcmp(want, have))
			return false;
	}
	return true;
}

/* ---- the table ---- */

Test(param, rows_are_sound)
{
	unsigned i, j;

	cr_assert_gt(nr_kmm_params, 0);
	for (i = 0; i < nr_kmm_params; i++) {
		const struct kernel_param *kp = &kmm_param_table[i];

		cr_expect_eq(strspn(kp->name, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_"), strlen(kp->name), "%s", kp->name);
		cr_expect_leq(strlen(kp->name), 32, "%s: find_nearest_param() takes 32 characters", kp->name);
		cr_expect(*kp->help && kp->help[strlen(kp->help) - 1] != '.', "%s: help is one line, no stop", kp->name);
		cr_expect_null(strchr(kp->help, '\n'), "%s", kp->name);
		cr_expect_lt(kp->offset, sizeof(struct kmm_params));
		for (j = 0; j < i; j++)
			cr_expect_str_neq(kp->name, kmm_param_table[j].name);
	}
}

Test(param, every_default_is_accepted)
{
	struct kmm_params p = kmm_param_defaults;
	char text[256];
	unsigned i;

	for (i = 0; i < nr_kmm_params; i++) {
		const struct kernel_param *kp = &kmm_param_table[i];

		if (format_param(kp, &kmm_param_defaults, text, sizeof(text)))
			cr_expect_eq(parse(&p, kp->name, text), 0, "KMM_%s=%s", kp->name, text);
		else
			cr_expect(kp->type == PARAM_STRING || kp->type == PARAM_RULES, "%s", kp->name);
	}
	cr_expect(params_are_default(&p));
	cr_expect(params_are_default(&kmm_params), "values hold before parsing");
}

/* Whatever the type: empty, rubbish, a tail, a sign, an overflow. */
Test(param, every_row_refuses_rubbish)
{
	static const char *const rubbish[] = { "", " ", "~", "-1", "0x10", "1 ", "99999999999999999999999", "1.5", "auto|" };
	unsigned i, j;

	for (i = 0; i < nr_kmm_params; i++) {
		for (j = 0; j < ARRAY_SIZE(rubbish); j++) {
			struct kmm_params p = kmm_param_defaults;

			cr_expect_eq(parse(&p, kmm_param_table[i].name, rubbish[j]), -EINVAL, "KMM_%s='%s'",
				     kmm_param_table[i].name, rubbish[j]);
			cr_expect(params_are_default(&p), "KMM_%s='%s'", kmm_param_table[i].name, rubbish[j]);
		}
	}
}

/* ---- values by type ---- */

Test(param, bool_values)
{
	struct kmm_params p = kmm_param_defaults;

	cr_assert_eq(parse(&p, "VERBOSE", "1"), 0);
	cr_expect(p.verbose);
	cr_assert_eq(parse(&p, "VERBOSE", "0"), 0);
	cr_expect_not(p.verbose);
	cr_expect_eq(parse(&p, "VERBOSE", "2"), -EINVAL);
}

Test(param, enum_is_the_index_of_the_word)
{
	struct kmm_params p = kmm_param_defaults;

	cr_assert_eq(parse(&p, "PERCPU", "lock"), 0);
	cr_expect_eq(p.percpu, 2);
	cr_assert_eq(parse(&p, "PERCPU", "rseq"), 0);
	cr_expect_eq(p.percpu, 1);
	cr_expect_eq(parse(&p, "PERCPU", "rse"), -EINVAL);
	cr_expect_eq(parse(&p, "PERCPU", "rseqs"), -EINVAL);
	cr_expect_eq(parse(&p, "PERCPU", "RSEQ"), -EINVAL);
	cr_expect_eq(p.percpu, 1);
}

Test(param, ms_range_and_digits)
{
	struct kmm_params p = kmm_param_defaults;

	cr_assert_eq(parse(&p, "DECAY_MS", "0"), 0);
	cr_expect_eq(p.decay_ms, 0);
	cr_assert_eq(parse(&p, "DECAY_MS", "86400000"), 0);
	cr_expect_eq(p.decay_ms, 86400000);
	cr_expect_eq(parse(&p, "DECAY_MS", "86400001"), -EINVAL);
	cr_expect_eq(parse(&p, "DECAY_MS", "1K"), -EINVAL, "suffixes are for sizes");
	cr_expect_eq(parse(&p, "DECAY_MS", "18446744073709551616"), -EINVAL);
	cr_expect_eq(p.decay_ms, 86400000);
}

Test(param, limits)
{
	static const char *const bad[] = { "0%", "101%", "%", "1 %", "1K%", "1.5G", "-1", "1KB", "K", "Max", "maximum", "auto ",
					   "9223372036854775808", "18446744073709551616", "99999999999T", "1G1" };
	struct kmm_params p = kmm_param_defaults;
	char text[32];
	unsigned i;

	cr_assert_eq(p.memory_max, LIMIT_NONE);
	cr_assert_eq(parse(&p, "MEMORY_MAX", "2g"), 0);
	cr_expect_eq(p.memory_max, GIB(2));
	cr_assert_eq(parse(&p, "MEMORY_MAX", "0"), 0);
	cr_expect_eq(p.memory_max, 0u);
	cr_assert_eq(parse(&p, "MEMORY_MAX", "100%"), 0);
	cr_expect_eq(p.memory_max, LIMIT_PERCENT(100));
	cr_assert_eq(parse(&p, "MEMORY_MAX", "auto"), 0);
	cr_expect_eq(p.memory_max, LIMIT_AUTO);
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect_eq(parse(&p, "MEMORY_MAX", bad[i]), -EINVAL, "%s", bad[i]);
	cr_expect_eq(p.memory_max, LIMIT_AUTO);
	for (i = 1; i <= 100; i++) {
		u64 limit;

		format_limit(LIMIT_PERCENT(i), text, sizeof(text));
		cr_expect_eq(parse_limit(text, strlen(text), &limit), 0);
		cr_expect_eq(limit, LIMIT_PERCENT(i));
	}
}

Test(param, string_alternatives)
{
	static const char *const good[] = { "1", "text", "json", "text:/tmp/x", "json:/tmp/%p", "text: " };
	static const char *const bad[] = { "2", "11", "Text", "texts", "text:", "json:", "xml:/tmp/x", "PATH", ":/tmp/x" };
	struct kmm_params p = kmm_param_defaults;
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(good); i++) {
		cr_assert_eq(parse(&p, "STATS", good[i]), 0, "%s", good[i]);
		cr_expect_eq(p.stats, good[i]);
	}
	for (i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect_eq(parse(&p, "STATS", bad[i]), -EINVAL, "%s", bad[i]);
}

Test(param, names_are_exact)
{
	struct kmm_params p = kmm_param_defaults;

	cr_expect_eq(parse(&p, "DECAY_M", "1"), -ENOENT);
	cr_expect_eq(parse(&p, "DECAY_MSS", "1"), -ENOENT);
	cr_expect_eq(parse(&p, "decay_ms", "1"), -ENOENT);
	cr_expect_eq(parse(&p, "", "1"), -ENOENT);
	cr_expect_eq(parse_one_param(&p, "DECAY_MS=77", 8, "5"), 0, "the length counts");
	cr_expect_eq(p.decay_ms, 5);
}

/* ---- the environment ---- */

Test(param, environment_is_read)
{
	char stats[] = "KMM_STATS=text:/tmp/a";
	const char *const envp[] = { "PATH=/bin", "KMM_DECAY_MS=7", stats, "K", "KMM_PERCPU=lock", "XKMM_VERBOSE=1", NULL };

	parse_env(envp);
	memset(stats, 'X', sizeof(stats) - 1);		/* as setproctitle() does */
	cr_expect_eq(kmm_params.decay_ms, 7);
	cr_expect_eq(kmm_params.percpu, 2);
	cr_expect_not(kmm_params.verbose);
	cr_expect_str_eq(kmm_params.stats, "text:/tmp/a");
	cr_expect_eq(nr_lines, 0);
}

Test(param, secure_ignores_everything)
{
	const char *const envp[] = { "KMM_DECAY_MS=7", "KMM_NONSENSE=1", "KMM_PERCPU=x", NULL };

	parse_params((char *const *)envp, true);
	cr_expect(params_are_default(&kmm_params));
	cr_expect_eq(nr_lines, 0);
}

Test(param, no_environment)
{
	const char *const empty[] = { NULL };

	parse_params(NULL, false);
	parse_env(empty);
	cr_expect(params_are_default(&kmm_params));
}

Test(param, malformed_value_gives_one_line)
{
	const char *const envp[] = { "KMM_DECAY_MS=soon", "KMM_VERBOSE=1", NULL };

	parse_env(envp);
	cr_expect_str_eq(captured, "kmm: KMM_DECAY_MS=soon is malformed: accepted is 0..86400000 milliseconds; "
				   "the default 150 holds\n");
	cr_expect_eq(kmm_params.decay_ms, 150);
	cr_expect_eq(find_param("DECAY_MS", 8)->hi, KMM_DECAY_MAX_MS, "kmm_decay_set() has the same range");
	cr_expect(kmm_params.verbose, "the others are read nevertheless");
}

Test(param, hostile_values_stay_one_short_line)
{
	static char env[100000] = "KMM_PERCPU=\n\x1b";
	const char *const envp[] = { env, NULL };

	memset(env + strlen(env), '%', sizeof(env) - 1 - strlen(env));
	parse_env(envp);
	cr_expect_eq(nr_lines, 1);
	cr_expect_eq(strchr(captured, '\n'), captured + captured_len - 1);
	cr_expect_lt(captured_len, 300);
	cr_expect_not_null(strstr(captured, "accepted is auto|rseq|lock; the default auto holds"));
}

Test(param, a_string_that_is_too_long_is_refused)
{
	static char env[100000] = "KMM_STATS=text:";
	const char *const envp[] = { env, NULL };

	memset(env + strlen(env), 'x', sizeof(env) - 1 - strlen(env));
	parse_env(envp);
	cr_expect_null(kmm_params.stats);
	cr_expect_eq(nr_lines, 1);
}

Test(param, unknown_name_gives_one_line)
{
	const char *const envp[] = { "KMM_FOO=bar", "KMM_", "KMM_=", NULL };

	parse_env(envp);
	cr_expect_str_eq(captured, "kmm: unknown setting KMM_FOO=bar; see kmm params\n"
				   "kmm: unknown setting KMM_=; see kmm params\n");
	cr_expect(params_are_default(&kmm_params));
}

Test(param, a_slip_is_recognised)
{
	const char *const envp[] = { "KMM_DECY_MS=5", "KMM_STAT=1", NULL };

	parse_env(envp);
	cr_expect_str_eq(captured, "kmm: unknown setting KMM_DECY_MS=5, did you mean KMM_DECAY_MS? See kmm params\n"
				   "kmm: unknown setting KMM_STAT=1, did you mean KMM_STATS? See kmm params\n");
	cr_expect_null(find_nearest_param("SOMETHING_ELSE", 14));
	cr_expect_null(find_nearest_param(captured, 5000));
	cr_expect_str_eq(find_nearest_param("percpu", 0) ? "found" : "none", "none");
}

Test(param, errno_is_left_alone)
{
	const char *const envp[] = { "KMM_DECAY_MS=99999999999999999999", "KMM_X=1", NULL };

	errno = 42;
	parse_env(envp);
	cr_expect_eq(errno, 42);
}
