/* SPDX-License-Identifier: MIT */
/*
 * huge.c - what huge pages bring, and what they cost.
 *
 * Purpose. The gain: a heap of 64-byte objects is filled, left alone for a while, and then walked along pointers that lead
 * from one object to the next in random order: nearly every step misses the TLB, unless the pages are huge. All is
 * freed. The loss: half as much is filled with objects of 512 to 4096 bytes, of which all but one in ten, at random, are
 * freed, and left alone: a huge page stays resident as long as one object in it lives. To be run with
 * /sys/kernel/mm/transparent_hugepage/enabled at always, madvise and never, and with KMM_THP.
 *
 * What is printed. Time of an allocation and of a step (best of five walks), how much of the process is huge pages at the
 * end of the first fill and after the rest, and what is resident over what is live in the end; on the way both in MiB over the
 * seconds. The table of the objects is mapped, not allocated, and taken off.
 *
 * usage: huge [MIB [SECONDS [SEED]]]
 */
#include "resident.h"

#include <malloc.h>

#define SIZE  64
#define WALKS 5
#define STEPS 4000000

struct node {
	struct node *next;
	char rest[SIZE - sizeof(struct node *)];
};

static struct node **nodes;
static size_t nr_nodes, table;
static uint64_t state;

static double huge_mib(void)
{
	return (double)proc_kib("/proc/self/smaps_rollup", "\nAnonHugePages:") / 1024;
}

static void fill(void)
{
	double start = seconds();

	for (size_t i = 0; i < nr_nodes; i++) {
		nodes[i] = malloc(SIZE);
		if (nodes[i] == NULL)
			exit(1);
		memset(nodes[i], 1, SIZE);
	}
	printf("huge-fill %.1f ns/object\n", (seconds() - start) * 1e9 / (double)nr_nodes);
}

/* One cycle through all of them. */
static void link_nodes(void)
{
	for (size_t i = nr_nodes - 1; i > 0; i--) {
		size_t j = below(&state, (uint32_t)(i + 1));
		struct node *n = nodes[i];

		nodes[i] = nodes[j];
		nodes[j] = n;
	}
	for (size_t i = 0; i < nr_nodes; i++)
		nodes[i]->next = nodes[i + 1 < nr_nodes ? i + 1 : 0];
}

static double walk(void)
{
	struct node *n = nodes[0];
	double start = seconds();

	for (size_t i = 0; i < STEPS; i++)
		n = n->next;
	if (n == NULL)
		exit(1);
	return (seconds() - start) * 1e9 / STEPS;
}

static void free_all(void)
{
	for (size_t i = 0; i < nr_nodes; i++)
		free(nodes[i]);
}

/* Bytes that are live in the end. */
static size_t make_sparse(size_t size)
{
	size_t live = 0, nr = 0;

	while (live < size) {
		uint32_t n = 512 + below(&state, 4096 - 512 + 1);
		char *p = malloc(n);

		if (p == NULL)
			exit(1);
		memset(p, 1, n);
		nodes[nr++] = (struct node *)p;
		live += n;
	}
	live = 0;
	for (size_t i = 0; i < nr; i++) {
		if (below(&state, 10) == 0)
			live += malloc_usable_size(nodes[i]);
		else
			free(nodes[i]);
	}
	return live;
}

int main(int argc, char **argv)
{
	static const char usage[] = "huge [MIB [SECONDS [SEED]]]";
	unsigned wait_seconds;
	size_t size, live;
	double best = 1e9;

	size = number(argc, argv, 1, 512, usage) << 20;
	wait_seconds = (unsigned)number(argc, argv, 2, 20, usage);
	state = number(argc, argv, 3, 1, usage);
	nr_nodes = size / SIZE;
	table = nr_nodes * sizeof(*nodes);
	nodes = map_table(table);
	fill();
	link_nodes();
	printf("huge-before %.1f MiB\n", huge_mib());
	idle(wait_seconds, size, table);
	printf("huge-after %.1f MiB\n", huge_mib());
	for (int i = 0; i < WALKS; i++) {
		double ns = walk();

		best = ns < best ? ns : best;
	}
	printf("huge-step %.2f ns\n", best);
	free_all();
	live = make_sparse(size / 2);
	printf("huge-sparse %.3f resident/live\n", (double)idle(wait_seconds, live, table) / (double)live);
	printf("huge-left %.1f MiB\n", huge_mib());
	return 0;
}
