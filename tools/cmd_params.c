// SPDX-License-Identifier: MIT
/*
 * cmd_params.c - kmm params: the table of settings, for people, for the README, for the man page, for programs.
 *
 * All four come from include/base/tunables.def; tools/gen-doc puts the markdown and man forms between the markers
 * of README.md and man/libkmm.7, and a test fails when they drift.
 */
#include "kmm.h"
#include "base/param.h"
#include "base/seq_file.h"
#include <stdio.h>
#include <string.h>

static void default_text(const struct kernel_param *kp, const char *unset, char *buf, size_t size)
{
	if (!format_param(kp, &kmm_param_defaults, buf, size))
		snprintf(buf, size, "%s", unset);
}

static void print_text(void)
{
	char def[64];
	unsigned i;

	for (i = 0; i < nr_kmm_params; i++) {
		const struct kernel_param *kp = &kmm_param_table[i];

		default_text(kp, "unset", def, sizeof(def));
		printf(PARAM_PREFIX "%-16s %s\n    accepted: %s\n    default:  %s\n", kp->name, kp->help, kp->accepted,
		       def);
	}
}

static void put_escaped(const char *s, const char *special)
{
	for (; *s; s++) {
		if (strchr(special, *s))
			putchar('\\');
		putchar(*s);
	}
}

static void print_markdown(void)
{
	char def[64];
	unsigned i;

	puts("| setting | accepted | default | what it does |\n|---|---|---|---|");
	for (i = 0; i < nr_kmm_params; i++) {
		const struct kernel_param *kp = &kmm_param_table[i];

		default_text(kp, "unset", def, sizeof(def));
		printf("| `" PARAM_PREFIX "%s` | `", kp->name);
		put_escaped(kp->accepted, "|");
		printf("` | %s | ", def);
		put_escaped(kp->help, "|*_<>");
		puts(" |");
	}
}

static void print_man(void)
{
	char def[64];
	unsigned i;

	for (i = 0; i < nr_kmm_params; i++) {
		const struct kernel_param *kp = &kmm_param_table[i];

		default_text(kp, "unset", def, sizeof(def));
		printf(".TP\n.BR " PARAM_PREFIX "%s \" (", kp->name);
		put_escaped(kp->accepted, "-\\");
		printf("; default ");
		put_escaped(def, "-\\");
		puts(")\"");
		put_escaped(kp->help, "-\\");
		puts(".");
	}
}

static void write_stdout(void *arg, const char *buf, size_t len)
{
	fwrite(buf, 1, len, arg);
}

static void print_json(void)
{
	struct seq_file m;
	char name[64], def[64];
	unsigned i;

	seq_init(&m, true, write_stdout, stdout);
	for (i = 0; i < nr_kmm_params; i++) {
		const struct kernel_param *kp = &kmm_param_table[i];

		default_text(kp, "", def, sizeof(def));
		snprintf(name, sizeof(name), PARAM_PREFIX "%s", kp->name);
		seq_section(&m, name);
		seq_str(&m, "accepted", kp->accepted);
		seq_str(&m, "default", def);
		seq_str(&m, "help", kp->help);
		seq_section_end(&m);
	}
	seq_end(&m);
}

static const struct {
	const char *name;
	void (*print)(void);
} formats[] = {
	{ "text", print_text },
	{ "markdown", print_markdown },
	{ "man", print_man },
	{ "json", print_json },
};

int cmd_params(int argc, char **argv)
{
	const char *format = "text";
	unsigned i;

	if (argc > 2 || (argc == 2 && strncmp(argv[1], "--format=", 9)))
		die(EXIT_USAGE, "unknown argument %s; kmm params --help", argv[argc - 1]);
	if (argc == 2)
		format = argv[1] + 9;
	for (i = 0; i < ARRAY_SIZE(formats); i++) {
		if (strcmp(format, formats[i].name))
			continue;
		formats[i].print();
		if (fflush(stdout) || ferror(stdout))
			die(EXIT_KMM, "cannot write to standard output");
		return 0;
	}
	die(EXIT_USAGE, "unknown format %s: accepted is text|markdown|man|json", format);
}
