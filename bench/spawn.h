/* SPDX-License-Identifier: MIT */
/*
 * spawn.h - start a program, wait for it, and say what it used.
 *
 * The parent must be small: the kernel keeps ru_maxrss across exec, so a child of a big process (a Python harness)
 * seems to have used at least what its parent had. That is why these are C programs, and not part of bench/compare.
 */
#ifndef KMM_BENCH_SPAWN_H
#define KMM_BENCH_SPAWN_H

#include <stdint.h>

struct spawn {
	char *const *argv;
	char *const *envp;
	const char *input, *output;	/* files for stdin and stdout, NULL to leave them as they are */
};

/* With its waited-for children, as wait4(2) counts them. */
struct usage {
	uint64_t wall_ns;
	uint64_t user_us, sys_us;
	long maxrss_kib;
	long minor_faults;
	int status;			/* as waitpid(2) gives it */
};

/* Returns 0, or an errno value when the program could not be started. */
int spawn_and_wait(const struct spawn *s, struct usage *u);

/* environ without LD_PRELOAD, with preload as LD_PRELOAD (unless NULL), and with nr_extra "NAME=VALUE" strings. */
char **make_environment(const char *preload, char *const *extra, int nr_extra);

#endif
