/* SPDX-License-Identifier: MIT */
/* kmm.h - what the sub-commands of the program kmm share. */
#ifndef KMM_TOOLS_KMM_H
#define KMM_TOOLS_KMM_H

#include "base/compiler.h"
#include "base/types.h"

/* As env(1) and the shell have them; documented in kmm(1). */
enum kmm_exit {
	EXIT_USAGE = 2,		/* unknown command, option or setting, bad value */
	EXIT_KMM = 125,		/* kmm itself failed: no libkmm.so, no memory */
	EXIT_CANNOT = 126,	/* the program is there, but cannot run on libkmm */
	EXIT_NOTFOUND = 127,	/* there is no such program */
};

struct command {
	const char *name;
	int (*run)(int argc, char **argv);	/* argv[0] is the name of the command */
	const char *usage;			/* arguments, one line */
	const char *summary;			/* one line */
};

/* One line on stderr, "kmm: ...", and the end. */
__noreturn void die(enum kmm_exit status, const char *fmt, ...) __printf(2, 3);

int cmd_run(int argc, char **argv);
int cmd_params(int argc, char **argv);
int cmd_memcg(int argc, char **argv);

/* ---- dump.c: tables of a statistics dump, text or JSON ---- */

#define DUMP_MAX_CELLS 64

struct dump_cell {
	const char *key, *value;
};
typedef void (*dump_row_fn)(const struct dump_cell *cell, unsigned nr, void *arg);

/*
 * Calls fn for each row of a section's table. text is cut up. How many; -ENOENT: there is no such table; -EINVAL: it is
 * damaged.
 */
int for_each_dump_row(char *text, const char *section, const char *table, dump_row_fn fn, void *arg);
/* "-": the row has no such cell. */
const char *dump_value(const struct dump_cell *cell, unsigned nr, const char *key);

/* ---- exec_file.c: what execve(2) would do with a file ---- */

enum exec_kind {
	EXEC_UNREADABLE,	/* may be executed, but not looked at */
	EXEC_ELF,
	EXEC_SCRIPT,		/* #! */
	EXEC_OTHER,		/* the shell will try it */
};

struct exec_file {
	enum exec_kind kind;
	unsigned elf_class;	/* ELFCLASS32 or ELFCLASS64 */
	unsigned machine;	/* EM_* */
	bool own_malloc;	/* defines the symbol malloc for everybody */
	char interp[4096];	/* dynamic loader or script interpreter; "" when there is none */
};

/* 0, or -errno when the file cannot be read as what it claims to be (-ENOEXEC). */
int read_exec_file(const char *path, struct exec_file *f);

/* Will the kernel set AT_SECURE, so that the loader ignores LD_PRELOAD? Returns the reason, or NULL. */
const char *secure_exec_reason(const char *path);

#endif
