// SPDX-License-Identifier: MIT
/*
 * kmm.c - the program kmm: one binary, a table of sub-commands, each in its file cmd_<name>.c.
 *
 * The tool compiles lib/base in (settings and their grammar, the statistics' two formats), so what it accepts is
 * what the library accepts. It is an ordinary program otherwise: stdio and malloc are the system's.
 */
#ifdef HAVE_CONFIG_H
#include "config.h"
#endif
#include "kmm.h"
#include "base/printk.h"
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const struct command commands[] = {
	{ "run", cmd_run, "[-o NAME=VALUE]... [--library=PATH] [--] PROGRAM [ARGUMENT]...",
	  "start PROGRAM with libkmm.so as its allocator" },
	{ "params", cmd_params, "[--format=text|markdown|man|json]",
	  "list the settings (KMM_* in the environment, -o of kmm run)" },
	{ "memcg", cmd_memcg, "[--bytes] [FILE]",
	  "show the tree of memory groups of a statistics dump (KMM_STATS, text or JSON), by default of standard input" },
};

/* Where lib/base/printk.c writes to: in the library this is lib/os. */
static ssize_t console_to_stderr(const char *buf, size_t len)
{
	ssize_t n = write(STDERR_FILENO, buf, len);

	return n < 0 ? -errno : n;
}

ssize_t (*console_write)(const char *buf, size_t len) = console_to_stderr;

void die(enum kmm_exit status, const char *fmt, ...)
{
	va_list ap;

	fputs("kmm: ", stderr);
	va_start(ap, fmt);
	vfprintf(stderr, fmt, ap);
	va_end(ap);
	fputc('\n', stderr);
	exit(status);
}

static int usage(void)
{
	unsigned i;

	puts("Usage: kmm COMMAND [ARGUMENT]...\n"
	     "Runs programs on libkmm, a malloc organised like the Linux kernel's memory management.\n\n"
	     "Commands:");
	for (i = 0; i < ARRAY_SIZE(commands); i++)
		printf("  %s %s\n        %s\n", commands[i].name, commands[i].usage, commands[i].summary);
	puts("\nOptions: --help, --version\n\n"
	     "Exit status: 2 for an unknown command, option, setting or value; from kmm run 125 when libkmm.so is\n"
	     "not found, 126 when PROGRAM cannot run on libkmm (static, set-user-ID, another machine's), 127 when\n"
	     "PROGRAM is not found; otherwise the exit status of PROGRAM.");
	return 0;
}

static bool is_help(const char *s)
{
	return !strcmp(s, "--help") || !strcmp(s, "-h");
}

int main(int argc, char **argv)
{
	unsigned i;

	if (argc < 2)
		die(EXIT_USAGE, "no command; kmm --help lists them");
	if (is_help(argv[1]) || !strcmp(argv[1], "help"))
		return usage();
	if (!strcmp(argv[1], "--version")) {
		puts("kmm (libkmm) " PACKAGE_VERSION);
		return 0;
	}
	for (i = 0; i < ARRAY_SIZE(commands); i++) {
		if (strcmp(argv[1], commands[i].name))
			continue;
		if (argc > 2 && is_help(argv[2])) {
			printf("Usage: kmm %s %s\n%s\n", commands[i].name, commands[i].usage, commands[i].summary);
			return 0;
		}
		return commands[i].run(argc - 1, argv + 1);
	}
	die(EXIT_USAGE, "unknown command '%s'; kmm --help lists them", argv[1]);
}
