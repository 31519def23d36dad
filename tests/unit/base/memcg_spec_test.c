/* SPDX-License-Identifier: MIT */
/* memcg_spec_test.c - the grammar of rules for memory groups: what is right is read, everything else is refused. */
#include "base/memcg_spec.h"

#include "base/param.h"
#include "base/printk.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static ssize_t to_stderr(const char *buf, size_t len)
{
	return write(2, buf, len);
}

ssize_t (*console_write)(const char *buf, size_t len) = to_stderr;

Test(memcg_spec, the_example)
{
	const char *s = "plug:max=64M,oom=enomem,lib=libplug.so;workers:high=1G,max=1200M,comm=worker*;batch/low:max=10%,comm=batch*";
	struct memcg_rule r;

	cr_assert(memcg_rules_are_valid(s));
	cr_assert_eq(parse_memcg_rule(&s, &r), 1);
	cr_expect_str_eq(r.path, "plug");
	cr_expect_str_eq(r.lib, "libplug.so");
	cr_expect_str_eq(r.comm, "");
	cr_expect_eq(r.oom, 0);
	cr_expect_eq(r.limits_set, 1u << MEMCG_LIMIT_MAX);
	cr_expect_eq(r.limit[MEMCG_LIMIT_MAX], MIB(64));
	cr_assert_eq(parse_memcg_rule(&s, &r), 1);
	cr_expect_str_eq(r.path, "workers");
	cr_expect_str_eq(r.comm, "worker*");
	cr_expect_eq(r.oom, -1);
	cr_expect_eq(r.limit[MEMCG_LIMIT_HIGH], GIB(1));
	cr_expect_eq(r.limit[MEMCG_LIMIT_MAX], MIB(1200));
	cr_assert_eq(parse_memcg_rule(&s, &r), 1);
	cr_expect_str_eq(r.path, "batch/low");
	cr_expect_eq(r.limit[MEMCG_LIMIT_MAX], LIMIT_PERCENT(10));
	cr_assert_eq(parse_memcg_rule(&s, &r), 0);
	cr_expect_eq(*s, '\0');
}

Test(memcg_spec, a_file)
{
	const char *s = "# groups\n\n  a : max = 1G , comm = x y \t# the workers\r\n;;\nb/c:oom=exit\n# end";
	struct memcg_rule r;

	cr_assert_eq(parse_memcg_rule(&s, &r), 1, "at %s", s);
	cr_expect_str_eq(r.path, "a");
	cr_expect_str_eq(r.comm, "x y");
	cr_expect_eq(r.limit[MEMCG_LIMIT_MAX], GIB(1));
	cr_assert_eq(parse_memcg_rule(&s, &r), 1, "at %s", s);
	cr_expect_str_eq(r.path, "b/c");
	cr_expect_eq(r.oom, 4);
	cr_assert_eq(parse_memcg_rule(&s, &r), 0, "at %s", s);
}

Test(memcg_spec, rubbish_is_refused)
{
	static const char *const bad[] = {
		"", " ", ";", "#", "a", "a:", "a:max", "a:max=", "a:max=x", "a:max=1x", "a:max=-1", "a:max=1 2", "a:max=101%",
		"a:max=1,", "a:,max=1", "a:max=1,max=2", "a:min=1,low=1,min=1", "a:size=1", "a:MAX=1", ":max=1", "/a:max=1",
		"a/:max=1", "a//b:max=1", ".a:max=1", "a/..:max=1", "a b:max=1", "a:oom=callback", "a:oom=kill", "a:oom=",
		"a:oom=exit,oom=exit", "a:lib=", "a:lib=/usr/lib/x.so", "a:lib=x,lib=y", "a:comm=", "a:max=1:b", "a:max=1;b",
		"a:max=1;b:max", "a=max:1", "a:max==1", "\xff:max=1", "a:\xff=1",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa:max=1",
		"a:comm=aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect_not(memcg_rules_are_valid(bad[i]), "'%s'", bad[i]);
}

/* Whatever the bytes are: it ends, stays inside the string, and stores nothing that is too long. */
Test(memcg_spec, any_bytes)
{
	static const char alphabet[] = "ab/:=,;*?#\n \t.1KM%max higlowcmbexport\\\xff";
	unsigned seed = 1;

	for (int round = 0; round < 200000; round++) {
		char text[64], *copy;
		const char *s;
		struct memcg_rule r;
		unsigned len = (unsigned)rand_r(&seed) % sizeof(text), nr = 0;

		for (unsigned i = 0; i < len; i++)
			text[i] = alphabet[(unsigned)rand_r(&seed) % (sizeof(alphabet) - 1)];
		copy = strndup(text, len);
		s = copy;
		while (parse_memcg_rule(&s, &r) > 0)
			cr_assert_lt(nr++, sizeof(text));
		cr_assert(s >= copy && s <= copy + len);
		free(copy);
	}
}

Test(memcg_spec, patterns)
{
	cr_expect(memcg_pattern_matches("worker*", "worker"));
	cr_expect(memcg_pattern_matches("worker*", "worker-17"));
	cr_expect_not(memcg_pattern_matches("worker*", "aworker"));
	cr_expect(memcg_pattern_matches("*", ""));
	cr_expect(memcg_pattern_matches("a?c", "abc"));
	cr_expect_not(memcg_pattern_matches("a?c", "ac"));
	cr_expect(memcg_pattern_matches("*a*b*", "xxaxxbxx"));
	cr_expect_not(memcg_pattern_matches("*a*b", "xxaxxbxx"));
	cr_expect(memcg_pattern_matches("", ""));
	cr_expect_not(memcg_pattern_matches("", "x"));
	cr_expect(memcg_pattern_matches("**a", "bca"));
}
