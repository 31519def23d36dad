/* SPDX-License-Identifier: MIT */
/* memcg.h - what the preloaded tests of memory groups share: reading a group's files, filling it, and what fails. */
#ifndef KMM_TESTS_PRELOAD_MEMCG_H
#define KMM_TESTS_PRELOAD_MEMCG_H

#include "kmm/kmm.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#pragma weak kmm_memcg_create
#pragma weak kmm_memcg_find
#pragma weak kmm_memcg_remove
#pragma weak kmm_memcg_attach
#pragma weak kmm_memcg_current
#pragma weak kmm_memcg_read
#pragma weak kmm_memcg_set
#pragma weak kmm_memcg_set_oom
#pragma weak kmm_register_shrinker
#pragma weak kmm_unregister_shrinker
#pragma weak kmm_trim
#pragma weak kmm_alloc_pages
#pragma weak kmm_free_pages

#define MB (1ul << 20)
#define MAX_BLOCKS 400000

#define CHECK(c)                                                                                                       \
	do {                                                                                                           \
		if (!(c)) {                                                                                            \
			fprintf(stderr, "%s:%d: not true: %s (errno %d)\n", __FILE__, __LINE__, #c, errno);             \
			_exit(1);                                                                                      \
		}                                                                                                      \
	} while (0)

static void *block[MAX_BLOCKS];

static inline long number(int cg, const char *file)
{
	char buf[64];

	CHECK(kmm_memcg_read(cg, file, buf, sizeof(buf)) > 0);
	return strcmp(buf, "max\n") == 0 ? -1 : atol(buf);
}

/* The number behind a key of a file with lines "key number". */
static inline long value_of(int cg, const char *file, const char *key)
{
	char buf[1024], *line, *save;
	size_t len = strlen(key);

	CHECK(kmm_memcg_read(cg, file, buf, sizeof(buf)) > 0);
	for (line = strtok_r(buf, "\n", &save); line; line = strtok_r(NULL, "\n", &save))
		if (strncmp(line, key, len) == 0 && line[len] == ' ')
			return atol(line + len + 1);
	CHECK(!"key");
	return 0;
}

static inline long current_of(int cg)
{
	return number(cg, "memory.current");
}

/* What the group holds itself, by item: with those below it, that is what it is charged. */
static inline long own(int cg)
{
	return value_of(cg, "memory.stat", "slab") + value_of(cg, "memory.stat", "large") + value_of(cg, "memory.stat", "vmalloc") +
	       value_of(cg, "memory.stat", "pages") + value_of(cg, "memory.stat", "stock");
}

/* Blocks of size until there are nr, or no more; how many. */
static inline unsigned fill(size_t size, unsigned nr)
{
	unsigned i;

	for (i = 0; i < nr; i++) {
		block[i] = malloc(size);
		if (!block[i])
			break;
		memset(block[i], 1, size < 64 ? size : 64);
	}
	return i;
}

static inline void drop(unsigned nr)
{
	while (nr)
		free(block[--nr]);
}

static inline double now(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

static inline int limited(const char *path, const char *max)
{
	int cg = kmm_memcg_create(path);

	CHECK(cg > 0);
	CHECK(kmm_memcg_set(cg, "memory.max", max) == 0);
	return cg;
}

#endif
