/* SPDX-License-Identifier: MIT */
/*
 * spawn.c - see spawn.h. posix_spawn() is vfork and exec in glibc: the parent's page tables are not copied, so the
 * time is the program's own. The clock runs from just before posix_spawn() to the return of wait4().
 */
#define _GNU_SOURCE
#include "spawn.h"
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000u + (uint64_t)t.tv_nsec;
}

static uint64_t to_us(struct timeval t)
{
	return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_usec;
}

int spawn_and_wait(const struct spawn *s, struct usage *u)
{
	posix_spawn_file_actions_t actions;
	struct rusage ru;
	uint64_t start;
	pid_t pid;
	int err;

	posix_spawn_file_actions_init(&actions);
	if (s->input)
		posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, s->input, O_RDONLY, 0);
	if (s->output)
		posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, s->output, O_WRONLY | O_CREAT | O_TRUNC, 0666);
	start = now_ns();
	err = posix_spawnp(&pid, s->argv[0], &actions, NULL, s->argv, s->envp);
	if (!err) {
		while (wait4(pid, &u->status, 0, &ru) < 0 && errno == EINTR)
			;
		u->wall_ns = now_ns() - start;
		u->user_us = to_us(ru.ru_utime);
		u->sys_us = to_us(ru.ru_stime);
		u->maxrss_kib = ru.ru_maxrss;
		u->minor_faults = ru.ru_minflt;
	}
	posix_spawn_file_actions_destroy(&actions);
	return err;
}

char **make_environment(const char *preload, char *const *extra, int nr_extra)
{
	int nr = 0, n = 0;
	char **envp, *assignment;

	while (environ[nr])
		nr++;
	envp = malloc((size_t)(nr + nr_extra + 2) * sizeof(*envp));
	if (!envp)
		return NULL;
	for (int i = 0; i < nr; i++)
		if (strncmp(environ[i], "LD_PRELOAD=", 11))
			envp[n++] = environ[i];
	for (int i = 0; i < nr_extra; i++)
		envp[n++] = extra[i];
	if (preload) {
		if (asprintf(&assignment, "LD_PRELOAD=%s", preload) < 0)
			return NULL;
		envp[n++] = assignment;
	}
	envp[n] = NULL;
	return envp;
}
