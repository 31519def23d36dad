// SPDX-License-Identifier: MIT
/* seq_file_test.c - the text is aligned, the JSON is valid (jansson parses it) whatever goes in. */
#include "base/seq_file.h"
#include <criterion/criterion.h>
#include <jansson.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static char out[4 << 20];
static size_t out_len;

static void collect(void *arg, const char *buf, size_t len)
{
	cr_assert_eq(arg, out);
	cr_assert_leq(len, sizeof(out) - 1 - out_len);
	memcpy(out + out_len, buf, len);
	out_len += len;
	out[out_len] = '\0';
}

static struct seq_file m;

static void start(bool json)
{
	memset(&m, 0xa5, sizeof(m));	/* what was there before must not matter */
	out_len = 0;
	out[0] = '\0';
	seq_init(&m, json, collect, out);
}

static void put_example(void)
{
	seq_section(&m, "meminfo");
	seq_u64(&m, "MemTotal", 3508, "kB");
	seq_u64(&m, "MemFree", 12, "kB");
	seq_str(&m, "Percpu", "rseq");
	seq_section_end(&m);
	seq_section(&m, "slabinfo");
	seq_comment(&m, "# %d classes", 2);
	seq_table(&m, "slabinfo");
	seq_row(&m);
	seq_str(&m, "name", "kmm-16");
	seq_u64(&m, "objs", 120, NULL);
	seq_hex(&m, "addr", 0x1000);
	seq_row_end(&m);
	seq_row(&m);
	seq_str(&m, "name", "kmm-32768");
	seq_u64(&m, "objs", 1234567, NULL);
	seq_hex(&m, "addr", 0);
	seq_row_end(&m);
	seq_table_end(&m);
	seq_table(&m, "sheaves");
	seq_row(&m);
	seq_u64(&m, "cpu", 0, NULL);
	seq_u64(&m, "size", 8, "kB");
	seq_row_end(&m);
	seq_table_end(&m);
	seq_section_end(&m);
	seq_end(&m);
}

static json_t *parse_output(void)
{
	json_error_t error;
	json_t *root = json_loads(out, JSON_REJECT_DUPLICATES, &error);

	cr_assert_not_null(root, "line %d: %s\n%s", error.line, error.text, out_len < 4096 ? out : "");
	return root;
}

Test(seq_file, text_example)
{
	start(false);
	put_example();
	cr_expect_str_eq(out, "[meminfo]\n"
			      "MemTotal:                       3508 kB\n"
			      "MemFree:                          12 kB\n"
			      "Percpu:                 rseq\n"
			      "\n"
			      "[slabinfo]\n"
			      "# 2 classes\n"
			      "name          objs    addr\n"
			      "kmm-16         120  0x1000\n"
			      "kmm-32768  1234567     0x0\n"
			      "sheaves:\n"
			      "cpu  size(kB)\n"
			      "  0         8\n");
}

Test(seq_file, json_example)
{
	json_t *root, *rows;

	start(true);
	put_example();
	root = parse_output();
	cr_expect_eq(json_object_size(root), 2);
	cr_expect_eq(json_integer_value(json_object_get(json_object_get(root, "meminfo"), "MemTotal")), 3508);
	rows = json_object_get(json_object_get(root, "slabinfo"), "slabinfo");
	cr_assert_eq(json_array_size(rows), 2);
	cr_expect_str_eq(json_string_value(json_object_get(json_array_get(rows, 1), "name")), "kmm-32768");
	cr_expect_eq(json_integer_value(json_object_get(json_array_get(rows, 1), "objs")), 1234567);
	cr_expect_str_eq(json_string_value(json_object_get(json_array_get(rows, 0), "addr")), "0x1000");
	cr_expect_eq(json_array_size(json_object_get(json_object_get(root, "slabinfo"), "sheaves")), 1);
	json_decref(root);
}

Test(seq_file, nothing_at_all)
{
	json_t *root;

	start(true);
	seq_end(&m);
	root = parse_output();
	cr_expect_eq(json_object_size(root), 0);
	json_decref(root);
	start(false);
	seq_end(&m);
	cr_expect_str_eq(out, "");
}

Test(seq_file, empty_section_table_and_row)
{
	bool json;

	for (json = false;; json = true) {
		start(json);
		seq_section(&m, "empty");
		seq_section_end(&m);
		seq_section(&m, "other");
		seq_table(&m, "none");
		seq_table_end(&m);
		seq_table(&m, "blank");
		seq_row(&m);
		seq_row_end(&m);
		seq_table_end(&m);
		seq_section_end(&m);
		seq_end(&m);
		if (json)
			break;
		cr_expect_str_eq(out, "[empty]\n\n[other]\nblank:\n\n\n");
	}
	json_decref(parse_output());
}

/* Columns: every cell of a number column ends where its header ends, in a table that fits the hold. */
Test(seq_file, numbers_are_right_aligned)
{
	char *line, *save = NULL;
	size_t width = 0;
	int i, lines = 0;

	start(false);
	seq_section(&m, "t");
	seq_table(&m, "t");
	for (i = 0; i < 20; i++) {
		seq_row(&m);
		seq_str(&m, "s", i % 3 ? "x" : "longer");
		seq_u64(&m, "n", 1ul << (3 * i), NULL);
		seq_row_end(&m);
	}
	seq_table_end(&m);
	seq_section_end(&m);
	seq_end(&m);
	for (line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (lines++ == 0)
			continue;		/* [t] */
		if (!width)
			width = strlen(line);
		cr_expect_eq(strlen(line), width, "%s", line);
		cr_expect_neq(line[strlen(line) - 1], ' ');
	}
	cr_expect_eq(lines, 22);
}

/* Far more rows than the hold takes, and cells longer than it: all rows come, in order, one line each. */
Test(seq_file, long_tables)
{
	static char huge[2 * SEQ_HOLD_SIZE];
	char *line, *save = NULL;
	unsigned long n;
	int i, c, seen = 0;

	memset(huge, 'h', sizeof(huge) - 1);
	start(false);
	seq_section(&m, "t");
	seq_table(&m, "t");
	for (i = 0; i < 1000; i++) {
		seq_row(&m);
		seq_u64(&m, "nr", (u64)i, NULL);
		for (c = 0; c < SEQ_MAX_COLUMNS + 10; c++)
			seq_str(&m, "text", i == 500 ? huge : "-");
		seq_row_end(&m);
	}
	seq_table_end(&m);
	seq_section_end(&m);
	seq_end(&m);
	for (line = strtok_r(out, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		if (sscanf(line, "%lu ", &n) != 1)
			continue;
		cr_expect_eq(n, (unsigned long)seen, "%s", line);
		seen++;
	}
	cr_expect_eq(seen, 1000);
}

Test(seq_file, text_escapes_control_characters)
{
	start(false);
	seq_section(&m, "s");
	seq_str(&m, "path", "a\nb\tc\x7f");
	seq_str(&m, "none", NULL);
	seq_section_end(&m);
	seq_end(&m);
	cr_expect_str_eq(out, "[s]\npath:                   a\\012b\\011c\\177\nnone:                   -\n");
}

Test(seq_file, json_strings_survive)
{
	static const char *const strings[] = { "", "\"quoted\"", "back\\slash", "new\nline\x01\x1f\x7f", "\xc3\xa4\xe2\x82\xac",
					       "\xf0\x9f\x90\xa7", "/a b/c:d" };
	json_t *root, *rows;
	size_t i;

	start(true);
	seq_section(&m, "s");
	seq_table(&m, "rows");
	for (i = 0; i < ARRAY_SIZE(strings); i++) {
		seq_row(&m);
		seq_str(&m, "k", strings[i]);
		seq_row_end(&m);
	}
	seq_table_end(&m);
	seq_section_end(&m);
	seq_end(&m);
	root = parse_output();
	rows = json_object_get(json_object_get(root, "s"), "rows");
	for (i = 0; i < ARRAY_SIZE(strings); i++)
		cr_expect_str_eq(json_string_value(json_object_get(json_array_get(rows, i), "k")), strings[i]);
	json_decref(root);
}

Test(seq_file, bytes_that_are_not_utf8)
{
	static const char *const bad[] = { "\xff", "\x80", "\xc0\x80", "\xc3", "\xe2\x82", "\xed\xa0\x80", "\xf4\x90\x80\x80",
					   "\xe0\x80\x80", "\xf0\x80\x80\x80", "\xc1\xbf" };
	size_t i;

	for (i = 0; i < ARRAY_SIZE(bad); i++) {
		const char *got;
		json_t *root;

		start(true);
		seq_section(&m, "s");
		seq_str(&m, "k", bad[i]);
		seq_section_end(&m);
		seq_end(&m);
		root = parse_output();
		got = json_string_value(json_object_get(json_object_get(root, "s"), "k"));
		cr_expect(!strncmp(got, "\xef\xbf\xbd", 3), "case %zu: %s", i, got);
		json_decref(root);
	}
}

/* Seeded: any bytes as strings. A failure names its seed. */
Test(seq_file, random_bytes_stay_valid_json)
{
	unsigned seed, i;
	json_t *root;

	for (seed = 0; seed < 500; seed++) {
		char s[64];

		srandom(seed);
		for (i = 0; i < sizeof(s) - 1; i++)
			s[i] = (char)(1 + random() % 255);
		s[i] = '\0';
		start(true);
		seq_section(&m, "s");
		seq_str(&m, s, s);
		seq_section_end(&m);
		seq_end(&m);
		root = json_loads(out, 0, NULL);
		cr_assert_not_null(root, "seed %u", seed);
		json_decref(root);
	}
}

Test(seq_file, large_numbers_do_not_overflow_a_parser)
{
	json_t *root, *s;

	start(true);
	seq_section(&m, "s");
	seq_u64(&m, "max", UINT64_MAX, NULL);
	seq_u64(&m, "signed_max", INT64_MAX, NULL);
	seq_section_end(&m);
	seq_end(&m);
	root = parse_output();
	s = json_object_get(root, "s");
	cr_expect_eq(json_real_value(json_object_get(s, "max")), 18446744073709551616.0);
	cr_expect_eq(json_integer_value(json_object_get(s, "signed_max")), INT64_MAX);
	json_decref(root);
}

Test(seq_file, a_section_inside_a_section_is_a_bug, .signal = SIGABRT)
{
	start(false);
	seq_section(&m, "a");
	seq_section(&m, "b");
}

Test(seq_file, a_row_without_a_table_is_a_bug, .signal = SIGABRT)
{
	start(false);
	seq_section(&m, "a");
	seq_row(&m);
}
