/* SPDX-License-Identifier: MIT */
/*
 * sleepers.c - threads that had their hour and now wait: what stays resident over what they still hold?
 * usage: sleepers [-t THREADS] [-k KIB] [-l KIB] [-b] [-w SECONDS]
 *
 * Each of THREADS (1,000) keeps KIB (-l, 8; may be 0) of blocks of 16 bytes to 4 KiB, allocated before any thread
 * goes on, like the state of a connection. Then each has its hour: it allocates and writes such blocks until it has
 * KIB (-k, 256) together, frees them, and sleeps. The kernel says who is when; with -b (burst) nobody frees before
 * all have allocated. When the last one sleeps and SECONDS (10) later the figures are taken.
 *
 * Resident is Pss and page tables, from the kernel. What is not the allocator's is taken off: the process as main()
 * found it, the threads' stacks (they are in one area of our own, where mincore(2) counts them; thread-local
 * storage is in it) with that area's page tables, and the live blocks. Output, in KiB:
 *   live    what the threads keep, as they asked for it
 *   stacks  their stacks
 *   freed   resident over the process as it was, the stacks and the live blocks, right after the last free
 *   over    the same after sleeping; at least one page
 */
#define _GNU_SOURCE
#include "bench.h"
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define PAGE	    4096ul
#define PMD_SIZE    (2ul << 20)
#define STACK_SIZE  (256ul << 10)
#define SIZE_POWERS 8u		/* 16 bytes to 4 KiB */

struct block {			/* the rest of it is filled with its thread's byte */
	struct block *next;
	size_t size;
};

struct options {
	size_t threads, used, kept;
	bool burst;
	unsigned seconds;
};

static struct options o = { .threads = 1000, .used = 256 << 10, .kept = 8 << 10, .seconds = 10 };
static pthread_barrier_t phase;
static atomic_size_t nr_live, nr_changed;

static size_t field_kib(const char *path, const char *key)
{
	static char text[16384];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n, len = 0;
	char *line;

	while (fd >= 0 && (n = read(fd, text + len, sizeof(text) - 1 - (size_t)len)) > 0)
		len += n;
	if (fd >= 0)
		close(fd);
	text[len] = '\0';
	line = strstr(text, key);
	if (!line) {
		fprintf(stderr, "sleepers: no %s in %s\n", key, path);
		exit(1);
	}
	return strtoul(line + strlen(key), NULL, 10);
}

static size_t resident_kib(void)
{
	return field_kib("/proc/self/smaps_rollup", "\nPss:") + field_kib("/proc/self/status", "\nVmPTE:");
}

static struct block *push(struct block *list, size_t *bytes, uint64_t *state, int fill)
{
	size_t size = random_size(state, SIZE_POWERS);
	struct block *b = must_malloc(size);

	memset(b, fill, size);
	*b = (struct block){ .next = list, .size = size };
	*bytes += size;
	return b;
}

/* Frees a list; the number of bytes in it that are not the fill. */
static size_t drop(struct block *list, int fill)
{
	size_t changed = 0;

	while (list) {
		struct block *b = list;

		for (size_t i = sizeof(*b); i < b->size; i++)
			changed += ((unsigned char *)b)[i] != (unsigned char)fill;
		list = b->next;
		bench_free(b);
	}
	return changed;
}

static void *sleeper(void *arg)
{
	size_t index = (size_t)arg, kept = 0, used = 0, changed;
	struct block *keep = NULL, *burst = NULL;
	uint64_t state = index + 1;
	int fill = (int)(index & 0xff);

	while (kept < o.kept)
		keep = push(keep, &kept, &state, fill);
	atomic_fetch_add(&nr_live, kept);
	pthread_barrier_wait(&phase);
	while (kept + used < o.used)
		burst = push(burst, &used, &state, fill);
	if (o.burst)
		pthread_barrier_wait(&phase);
	changed = drop(burst, fill);
	pthread_barrier_wait(&phase);	/* the last has freed; now sleep */
	pthread_barrier_wait(&phase);	/* everything is measured */
	atomic_fetch_add(&nr_changed, changed + drop(keep, fill));
	return NULL;
}

static void parse(int argc, char **argv)
{
	int c;

	while ((c = getopt(argc, argv, "t:k:l:bw:")) >= 0) {
		switch (c) {
		case 't': o.threads = strtoul(optarg, NULL, 10); break;
		case 'k': o.used = strtoul(optarg, NULL, 10) << 10; break;
		case 'l': o.kept = strtoul(optarg, NULL, 10) << 10; break;
		case 'b': o.burst = true; break;
		case 'w': o.seconds = (unsigned)strtoul(optarg, NULL, 10); break;
		default: optind = argc + 1;
		}
	}
	if (optind == argc && o.threads && o.kept < o.used)
		return;
	fprintf(stderr, "usage: sleepers [-t THREADS] [-k KIB] [-l KIB] [-b] [-w SECONDS]\n");
	exit(2);
}

/* Whole page tables of small pages, so that what the stacks and their tables take is known exactly. */
static char *make_stacks(size_t size)
{
	char *area = mmap(NULL, size + PMD_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);

	if (area == MAP_FAILED) {
		perror("sleepers: mmap");
		exit(1);
	}
	area = (char *)(((uintptr_t)area + PMD_SIZE - 1) & ~(PMD_SIZE - 1));
	madvise(area, size, MADV_NOHUGEPAGE);
	return area;
}

static size_t stacks_kib(char *area, size_t size)
{
	static unsigned char present[PMD_SIZE / PAGE];
	size_t pages = 0, tables = 0;

	for (size_t at = 0; at < size; at += PMD_SIZE) {
		size_t length = size - at < PMD_SIZE ? size - at : PMD_SIZE, before = pages;

		if (mincore(area + at, length, present))
			exit(1);
		for (size_t i = 0; i < length / PAGE; i++)
			pages += present[i] & 1;
		tables += pages > before;
	}
	return (pages + tables) * PAGE / 1024;
}

int main(int argc, char **argv)
{
	size_t before = resident_kib(), size, stacks, live, freed, over;
	pthread_attr_t attr;
	pthread_t *thread;
	char *area;

	parse(argc, argv);
	thread = must_malloc(o.threads * sizeof(*thread));
	size = o.threads * STACK_SIZE;
	area = make_stacks(size);
	pthread_attr_init(&attr);
	pthread_barrier_init(&phase, NULL, (unsigned)o.threads + 1);
	for (size_t i = 0; i < o.threads; i++) {
		pthread_attr_setstack(&attr, area + i * STACK_SIZE, STACK_SIZE);
		thread[i] = must_start(&attr, sleeper, (void *)i);
	}
	for (int i = 0; i < 2 + o.burst; i++)
		pthread_barrier_wait(&phase);
	live = nr_live / 1024;
	freed = resident_kib();
	sleep(o.seconds);
	over = resident_kib();
	stacks = stacks_kib(area, size);
	before += stacks;
	report("live", (double)live, "KiB");
	report("stacks", (double)stacks, "KiB");
	report("freed", (double)freed - (double)(before + live), "KiB");
	report("over", over > before + live ? (double)(over - before - live) : (double)(PAGE / 1024), "KiB");
	pthread_barrier_wait(&phase);
	for (size_t i = 0; i < o.threads; i++)
		pthread_join(thread[i], NULL);
	if (nr_changed) {
		fprintf(stderr, "sleepers: %zu bytes were changed\n", nr_changed);
		return 1;
	}
	return 0;
}
