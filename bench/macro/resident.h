/* SPDX-License-Identifier: MIT */
/* resident.h - what the memory programs share: their own resident memory, read without an allocation, and to sleep. */
#ifndef KMM_BENCH_RESIDENT_H
#define KMM_BENCH_RESIDENT_H

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static inline long proc_kib(const char *file, const char *key)
{
	char text[4096], *line;
	int fd = open(file, O_RDONLY);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);

	if (fd >= 0)
		close(fd);
	if (n <= 0)
		exit(1);
	text[n] = '\0';
	line = strstr(text, key);
	return line ? atol(line + strlen(key)) : 0;
}

/* Proportional set size and page tables: pages that mappings share are counted once (after meshing Rss would lie). */
static inline long resident_bytes(void)
{
	return (proc_kib("/proc/self/smaps_rollup", "\nPss:") + proc_kib("/proc/self/status", "\nVmPTE:")) * 1024;
}

static inline void pause_ms(long ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000 };

	while (nanosleep(&ts, &ts) != 0 && errno == EINTR)
		;
}

#endif
