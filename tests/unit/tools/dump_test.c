/* SPDX-License-Identifier: MIT */
/* dump_test.c - tables out of statistics, text and JSON, and that nothing else is taken for one. */
#include "../../../tools/kmm.h"

#include "../boot.h"
#include "base/seq_file.h"

static char text[65536], seen[4096];

static void note(const struct dump_cell *cell, unsigned nr, void *arg)
{
	size_t used = strlen(seen);

	(void)arg;
	for (unsigned i = 0; i < nr; i++)
		used += (size_t)snprintf(seen + used, sizeof(seen) - used, "%s=%s ", cell[i].key, cell[i].value);
	snprintf(seen + used, sizeof(seen) - used, "; ");
}

static int rows(const char *dump)
{
	seen[0] = '\0';
	snprintf(text, sizeof(text), "%s", dump);
	return for_each_dump_row(text, "memcg", "groups", note, NULL);
}

static void append(void *arg, const char *buf, size_t len)
{
	strncat(arg, buf, len);
}

/* What the library writes is read, whichever form. */
Test(dump, what_seq_file_writes)
{
	static char dump[8192];

	for (int json = 0; json < 2; json++) {
		struct seq_file m;

		dump[0] = '\0';
		seq_init(&m, json, append, dump);
		seq_section(&m, "other");
		seq_str(&m, "groups", "no table");
		seq_section_end(&m);
		seq_section(&m, "memcg");
		seq_str(&m, "Groups", "on");
		seq_table(&m, "groups");
		for (int i = 0; i < 3; i++) {
			seq_row(&m);
			seq_str(&m, "path", i ? "/a" : "/");
			seq_u64(&m, "current", 4096u * (unsigned)i, "bytes");
			seq_str(&m, "max", "max");
			seq_row_end(&m);
		}
		seq_table_end(&m);
		seq_section_end(&m);
		seq_section(&m, "last");
		seq_u64(&m, "x", 1, NULL);
		seq_section_end(&m);
		seq_end(&m);
		cr_assert_eq(rows(dump), 3, "%s", dump);
		cr_assert_str_eq(seen, "path=/ current=0 max=max ; path=/a current=4096 max=max ; path=/a current=8192 max=max ; ");
	}
}

Test(dump, json_as_others_write_it)
{
	cr_assert_eq(rows(" {\"x\":[1,{\"y\":null}],\"memcg\":{\"groups\":[{\"path\":\"a\\\"b\\u0041\",\"n\":-1.5e3,\"t\":true}]}}"), 1);
	cr_assert_str_eq(seen, "path=a\"b? n=-1.5e3 t=true ; ");
	cr_assert_eq(rows("{\n \"memcg\" : {\n  \"groups\" : [ ]\n }\n}\n"), 0);
}

Test(dump, values)
{
	struct dump_cell cells[] = { { "a", "1" }, { "b", "2" } };

	cr_assert_str_eq(dump_value(cells, 2, "b"), "2");
	cr_assert_str_eq(dump_value(cells, 2, "c"), "-");
}

Test(dump, what_is_none)
{
	static const char *const bad[] = {
		"", " ", "{", "{}", "[memcg]\n", "[memcg]\ngroups:\n", "[memc]\ngroups:\npath\n/\n", "groups:\npath\n/\n", "{\"memcg\":{}}",
		"{\"memcg\":{\"groups\":{}}}", "{\"memcg\":{\"groups\":[{\"path\":\"", "{\"memcg\":{\"groups\":[{\"path\"",
		"{\"memcg\":{\"groups\":[{\"path\":{}}]}}", "{\"memcg\":{\"groups\":[{\"a\":1,}]}}", "{\"memcg\":{\"groups\":[{\"a\":1}",
		"{\"memcg\":{\"groups\":[1]}}", "[memcg]\ngroups:\npath max\n/ 1\n/a 2 3\n", "{\"a\\",
	};

	for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
		cr_expect_leq(rows(bad[i]), 0, "'%s'", bad[i]);
	memset(text, '[', sizeof(text) - 1);
	memcpy(text, "{\"a\":", 5);
	cr_expect_lt(for_each_dump_row(text, "memcg", "groups", note, NULL), 0, "as deep as it is long");
}

/* Whatever the bytes are, it ends. */
Test(dump, any_bytes)
{
	static const char alphabet[] = "{}[]\":,\\ \n\tmemcggroups:path/u0019a";
	u64 r = rng_of(7);

	for (unsigned i = 0; i < 200000; i++) {
		static const char head[] = "{\"memcg\":{\"groups\":[{";
		unsigned len = rng_below(&r, 60), from = rng_below(&r, 3) ? sizeof(head) - 1 : 0;

		memcpy(text, head, sizeof(head));
		for (unsigned k = 0; k < len; k++)
			text[from + k] = alphabet[rng_below(&r, sizeof(alphabet) - 1)];
		text[from + len] = '\0';
		seen[0] = '\0';
		for_each_dump_row(text, "memcg", "groups", note, NULL);
	}
}
