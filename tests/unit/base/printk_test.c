// SPDX-License-Identifier: MIT
/* printk_test.c - the formats agree with libc's, a message is one write of one line, panic ends the process. */
#include "base/bug.h"
#include "base/printk.h"
#include <criterion/criterion.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>

static char captured[4 * PRINTK_MAX];
static size_t captured_len;
static int captured_writes;

static ssize_t capture(const char *buf, size_t len)
{
	cr_assert_leq(len, sizeof(captured) - 1 - captured_len);
	memcpy(captured + captured_len, buf, len);
	captured_len += len;
	captured[captured_len] = '\0';
	captured_writes++;
	return (ssize_t)len;
}

static void start_capture(void)
{
	console_write = capture;
}

TestSuite(printk, .init = start_capture);

/* Both formatters, same arguments: same text, same length, also into a buffer that is too small. */
#define same_as_libc(...)                                                                     \
	do {                                                                                  \
		char ours[256], theirs[256];                                                  \
		size_t size;                                                                  \
		for (size = 1; size <= sizeof(ours); size = size * 2 + 1) {                   \
			memset(ours, '#', sizeof(ours));                                      \
			int n = kmm_snprintf(ours, size, __VA_ARGS__);                        \
			int want = snprintf(theirs, size, __VA_ARGS__);                       \
			cr_expect_eq(n, want, "length %d, libc %d", n, want);                 \
			cr_expect_str_eq(ours, theirs, "'%s', libc '%s'", ours, theirs);      \
			cr_expect(size == sizeof(ours) || ours[size] == '#', "wrote beyond"); \
		}                                                                             \
	} while (0)

Test(printk, numbers_as_libc)
{
	static const long values[] = { 0, 1, -1, 9, 10, 255, -4096, INT_MAX, INT_MIN, LONG_MAX, LONG_MIN };
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(values); i++) {
		long v = values[i];

		same_as_libc("%d|%5d|%-5d|%05d|%i", (int)v, (int)v, (int)v, (int)v, (int)v);
		same_as_libc("%u|%12u|%-12u|%012u", (unsigned)v, (unsigned)v, (unsigned)v, (unsigned)v);
		same_as_libc("%x|%X|%10x|%-10x|%010x", (unsigned)v, (unsigned)v, (unsigned)v, (unsigned)v, (unsigned)v);
		same_as_libc("%ld|%lu|%lx|%zu|%zd", v, (unsigned long)v, (unsigned long)v, (size_t)v, (ssize_t)v);
		same_as_libc("%lld|%llu|%25ld|%-25ld|%025ld", (long long)v, (unsigned long long)v, v, v, v);
		same_as_libc("%*d|%-*d|%*d", 9, (int)v, 9, (int)v, -9, (int)v);
	}
}

Test(printk, strings_as_libc)
{
	char not_terminated[] = { 'a', 'b', 'c' };

	same_as_libc("%s|%8s|%-8s|%.2s|%8.2s|%-8.2s|%.0s|", "text", "text", "text", "text", "text", "text", "text");
	same_as_libc("%.*s|%.*s|%s", 2, "text", -1, "text", "");
	same_as_libc("%.3s", not_terminated);
	same_as_libc("%c|%3c|%-3c|%%|100%%", 'x', 'y', 'z');
	same_as_libc("%p %20p", (void *)0x1234abcd, (void *)&captured);
	same_as_libc("plain");
}

Test(printk, null_and_size_zero)
{
	char *volatile none = NULL;	/* volatile: the compiler would warn of it */
	char buf[16];

	cr_expect_eq(kmm_snprintf(buf, sizeof(buf), "%s", none), 6);
	cr_expect_str_eq(buf, "(null)");
	cr_expect_eq(kmm_snprintf(buf, sizeof(buf), "%p", (void *)none), 3);
	cr_expect_str_eq(buf, "0x0");
	cr_expect_eq(kmm_snprintf(NULL, 0, "%d", 12345), 5);
}

Test(printk, one_line_in_one_write)
{
	pr_warn("free of %p", (void *)0x10);
	pr_info("with a newline\n");
	cr_expect_eq(captured_writes, 2);
	cr_expect_str_eq(captured, "kmm: free of 0x10\nkmm: with a newline\n");
}

Test(printk, control_characters_stay_in_the_line)
{
	pr_warn("value '%s'", "a\nb\x1b[2Jc\x7f\xc3\xa4");
	cr_expect_str_eq(captured, "kmm: value 'a?b?[2Jc?\xc3\xa4'\n");
}

Test(printk, long_lines_are_cut)
{
	char text[2 * PRINTK_MAX];

	memset(text, 'x', sizeof(text) - 1);
	text[sizeof(text) - 1] = '\0';
	pr_warn("%s", text);
	cr_assert_eq(captured_len, PRINTK_MAX);
	cr_expect_str_eq(captured + PRINTK_MAX - 5, "x...\n");
}

Test(printk, the_longest_line_is_whole)
{
	char text[PRINTK_MAX];
	size_t room = PRINTK_MAX - strlen("kmm: ") - 1;

	memset(text, 'x', room);
	text[room] = '\0';
	pr_warn("%s", text);
	cr_assert_eq(captured_len, PRINTK_MAX);
	cr_expect_str_eq(captured + PRINTK_MAX - 3, "xx\n");
}

Test(printk, warn_once)
{
	int i;

	for (i = 0; i < 3; i++)
		pr_warn_once("only %d", i);
	cr_expect_str_eq(captured, "kmm: only 0\n");
}

Test(printk, errno_is_left_alone)
{
	errno = 42;
	pr_warn("%d %s", 1, "x");
	cr_expect_eq(errno, 42);
}

/* The handler sees the line that came before the abort; _exit makes it the test's result. */
static const char *expected_line;

static void check_line(int sig __maybe_unused)
{
	_exit(strcmp(captured, expected_line) ? 1 : 0);
}

Test(printk, panic_prints_and_aborts, .exit_code = 0)
{
	expected_line = "kmm: slab 7 is corrupted\n";
	signal(SIGABRT, check_line);
	panic("slab %d is corrupted", 7);
}

Test(printk, bug_on_names_the_place, .exit_code = 0)
{
	static char line[256];
	int bad = 1;

	expected_line = line;
	signal(SIGABRT, check_line);
	snprintf(line, sizeof(line), "kmm: BUG: %s:%d: bad == 1\n", __FILE__, __LINE__ + 1);
	BUG_ON(bad == 1);
}

Test(printk, bug_on_false_goes_on)
{
	int good = 1;

	BUG_ON(good != 1);
	VM_BUG_ON(good != 1);
	cr_expect_eq(captured_writes, 0);
}

Test(printk, unknown_format_is_a_bug, .signal = SIGABRT)
{
	const char *fmt = "%q";
	char buf[16];

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
	kmm_snprintf(buf, sizeof(buf), fmt);
#pragma GCC diagnostic pop
}
