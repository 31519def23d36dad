/* SPDX-License-Identifier: MIT */
/* resident.h - what the memory programs share: their own resident memory, read without an allocation, a trace of it, sleep. */
#ifndef KMM_BENCH_RESIDENT_H
#define KMM_BENCH_RESIDENT_H

#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
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

static inline double seconds(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return (double)ts.tv_sec + (double)ts.tv_nsec / 1e9;
}

/* A point of the plots over time, "at SECONDS RESIDENT LIVE" in MiB; own: what the program mapped. Returns resident bytes. */
static inline long trace(size_t live, size_t own)
{
	static double start;
	long resident = resident_bytes() - (long)own;

	if (start == 0)
		start = seconds();
	printf("at %.2f %.2f %.2f\n", seconds() - start, (double)resident / (1 << 20), (double)live / (1 << 20));
	return resident;
}

/* Sleeps and leaves a trace four times a second; resident bytes at the end. */
static inline long idle(unsigned wait_seconds, size_t live, size_t own)
{
	for (unsigned i = 0; i < 4 * wait_seconds; i++) {
		trace(live, own);
		pause_ms(250);
	}
	return trace(live, own);
}

static inline uint32_t below(uint64_t *state, uint32_t n)	/* splitmix64 */
{
	uint64_t z = (*state += 0x9e3779b97f4a7c15ull);

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ull;
	z = (z ^ z >> 27) * 0x94d049bb133111ebull;
	return (uint32_t)(((z ^ z >> 31) >> 32) * n >> 32);
}

/* A table that is not the allocator's. */
static inline void *map_table(size_t size)
{
	void *p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (p == MAP_FAILED)
		exit(1);
	madvise(p, size, MADV_NOHUGEPAGE);
	return p;
}

/* A number on the command line, from 1 on, or its default; anything else ends the program with its usage. */
static inline unsigned long number(int argc, char **argv, int n, unsigned long def, const char *usage)
{
	char *end;
	unsigned long value;

	if (n >= argc)
		return def;
	value = strtoul(argv[n], &end, 10);
	if (*end == '\0' && value > 0 && argv[n][0] != '-')
		return value;
	fprintf(stderr, "usage: %s\n", usage);
	exit(2);
}

#endif
