/* SPDX-License-Identifier: MIT */
/*
 * startup.c - what a preloaded library adds to the life of a program that does next to nothing.
 *
 * usage: startup [-n TIMES] [-c COMMAND] NAME=LIBRARY...
 * Runs COMMAND (/bin/true; its words are split at spaces) bare and under each library in turn, TIMES times round, and
 * prints the median of each in microseconds. The turns are interleaved, so that a disturbance of the machine hits all
 * alike, and this program itself is small and not preloaded.
 */
#define _GNU_SOURCE
#include "../spawn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define MAX_LIBRARIES 32
#define MAX_WORDS     16

struct candidate {
	const char *name;
	char **envp;
	uint64_t *ns;
};

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static void run(struct candidate *c, char **argv, long turn)
{
	struct spawn s = { .argv = argv, .envp = c->envp, .output = "/dev/null" };
	struct usage u;
	int err = spawn_and_wait(&s, &u);

	if (err || u.status) {
		fprintf(stderr, "startup: %s under %s: %s, status %#x\n", argv[0], c->name,
			err ? strerror(err) : "failed", err ? 0u : (unsigned)u.status);
		exit(1);
	}
	c->ns[turn] = u.wall_ns;
}

static void split(char *command, char **argv)
{
	int nr = 0;

	for (char *word = strtok(command, " "); word; word = strtok(NULL, " ")) {
		if (nr == MAX_WORDS) {
			fprintf(stderr, "startup: a command of more than %d words\n", MAX_WORDS);
			exit(2);
		}
		argv[nr++] = word;
	}
	argv[nr] = NULL;
	if (!nr) {
		fprintf(stderr, "startup: the command is empty\n");
		exit(2);
	}
}

/* One "NAME=LIBRARY", or no library at all for NULL. */
static struct candidate make_candidate(char *arg, long times)
{
	struct candidate c = { .name = "bare", .ns = calloc((size_t)times, sizeof(*c.ns)) };
	char *path = arg ? strchr(arg, '=') : NULL;

	if (arg && (!path || access(path + 1, R_OK))) {
		fprintf(stderr, "startup: \"%s\" is not NAME=LIBRARY with a readable library\n", arg);
		exit(2);
	}
	if (path) {
		*path++ = '\0';
		c.name = arg;
	}
	c.envp = make_environment(path, NULL, 0);
	if (!c.ns || !c.envp)
		exit(1);
	return c;
}

int main(int argc, char **argv)
{
	struct candidate candidate[MAX_LIBRARIES + 1];
	char bare[] = "/bin/true", *command = bare, *words[MAX_WORDS + 1];
	long times = 500;
	int c, nr = 0;

	while ((c = getopt(argc, argv, "+n:c:")) >= 0) {
		if (c == 'n' && atol(optarg) > 0)
			times = atol(optarg);
		else if (c == 'c')
			command = optarg;
		else {
			fprintf(stderr, "usage: startup [-n TIMES] [-c COMMAND] NAME=LIBRARY...\n");
			return 2;
		}
	}
	if (argc - optind > MAX_LIBRARIES) {
		fprintf(stderr, "startup: at most %d libraries\n", MAX_LIBRARIES);
		return 2;
	}
	split(command, words);
	candidate[nr++] = make_candidate(NULL, times);
	while (optind < argc)
		candidate[nr++] = make_candidate(argv[optind++], times);
	for (int i = 0; i < nr; i++)
		run(&candidate[i], words, 0);	/* warms the page cache; overwritten below */
	for (long turn = 0; turn < times; turn++)
		for (int i = 0; i < nr; i++)
			run(&candidate[i], words, turn);
	for (int i = 0; i < nr; i++) {
		qsort(candidate[i].ns, (size_t)times, sizeof(*candidate[i].ns), compare);
		printf("%s %.1f us\n", candidate[i].name, (double)candidate[i].ns[times / 2] / 1000);
	}
	return 0;
}
