/* SPDX-License-Identifier: MIT */
/*
 * launch.c - runs one program and writes what it used, for bench/compare.
 *
 * usage: launch [-p LIBRARY] [-e NAME=VALUE]... [-i FILE] [-o FILE] [-r FILE] [-n TIMES] [--] PROGRAM [ARGS]
 *   -p  preload LIBRARY into the program (not into launch)      -e  set a variable for it
 *   -i, -o  its stdin and stdout                                 -n  run it so often; the medians are written
 *   -r  where the result goes (stderr by default), one line:
 *       wall_ns user_us sys_us maxrss_kib minor_faults status
 * status is the exit status, or 128 plus the signal. launch itself fails (2) only when it could not start PROGRAM.
 */
#define _GNU_SOURCE
#include "spawn.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define MAX_TIMES 10000
#define MAX_EXTRA 64

struct options {
	const char *preload, *result;
	char *extra[MAX_EXTRA];
	int nr_extra;
	long times;
	struct spawn spawn;
};

static void usage(void)
{
	fprintf(stderr, "usage: launch [-p LIBRARY] [-e NAME=VALUE]... [-i FILE] [-o FILE] [-r FILE] [-n TIMES]"
			" [--] PROGRAM [ARGS]\n");
	exit(2);
}

static void parse(int argc, char **argv, struct options *o)
{
	int c;

	while ((c = getopt(argc, argv, "+p:e:i:o:r:n:")) >= 0) {
		switch (c) {
		case 'p': o->preload = optarg; break;
		case 'i': o->spawn.input = optarg; break;
		case 'o': o->spawn.output = optarg; break;
		case 'r': o->result = optarg; break;
		case 'n': o->times = atol(optarg); break;
		case 'e':
			if (o->nr_extra == MAX_EXTRA || !strchr(optarg, '='))
				usage();
			o->extra[o->nr_extra++] = optarg;
			break;
		default: usage();
		}
	}
	if (optind == argc || o->times < 1 || o->times > MAX_TIMES)
		usage();
	o->spawn.argv = argv + optind;
}

static int compare(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

	return (x > y) - (x < y);
}

static uint64_t median(uint64_t *v, long n)
{
	qsort(v, (size_t)n, sizeof(*v), compare);
	return n % 2 ? v[n / 2] : (v[n / 2 - 1] + v[n / 2]) / 2;
}

int main(int argc, char **argv)
{
	static uint64_t wall[MAX_TIMES], user[MAX_TIMES], sys[MAX_TIMES], rss[MAX_TIMES], faults[MAX_TIMES];
	struct options o = { .times = 1 };
	struct usage u = { 0 };
	int err, status = 0;
	FILE *out = stderr;

	parse(argc, argv, &o);
	o.spawn.envp = make_environment(o.preload, o.extra, o.nr_extra);
	if (!o.spawn.envp)
		return 2;
	for (long i = 0; i < o.times; i++) {
		err = spawn_and_wait(&o.spawn, &u);
		if (err) {
			fprintf(stderr, "launch: cannot start %s: %s\n", o.spawn.argv[0], strerror(err));
			return 2;
		}
		wall[i] = u.wall_ns;
		user[i] = u.user_us;
		sys[i] = u.sys_us;
		rss[i] = (uint64_t)u.maxrss_kib;
		faults[i] = (uint64_t)u.minor_faults;
		if (u.status)
			status = WIFSIGNALED(u.status) ? 128 + WTERMSIG(u.status) : WEXITSTATUS(u.status);
	}
	if (o.result && !(out = fopen(o.result, "we"))) {
		perror(o.result);
		return 2;
	}
	fprintf(out, "%lu %lu %lu %lu %lu %d\n", median(wall, o.times), median(user, o.times), median(sys, o.times),
		median(rss, o.times), median(faults, o.times), status);
	return 0;
}
