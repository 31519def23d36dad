// SPDX-License-Identifier: MIT
/*
 * cmd_memcg.c - kmm memcg: the tree of memory groups in a statistics dump, one line a group.
 *
 * Purpose. What KMM_STATS writes of groups has some thirty columns; this shows those that one looks at first, children
 * below their parents: what a group holds, has held, may hold, what its limits have done, and how much of the
 * last ten seconds its threads waited.
 *
 * Kernel counterpart: systemd-cgtop(1), and a look into the files of a cgroup.
 */
#include "kmm.h"
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define GROUPS_MAX 1024

static const struct column {
	const char *key, *title;
	bool bytes;
} columns[] = {
	{ "current", "CURRENT", true }, { "peak", "PEAK", true }, { "low", "LOW", true }, { "high", "HIGH", true }, { "max", "MAX", true },
	{ "ev_low", "low", false }, { "ev_high", "high", false }, { "ev_max", "max", false }, { "ev_oom", "oom", false },
	{ "ev_oom_kill", "kill", false }, { "some_avg10", "some10", false }, { "full_avg10", "full10", false }, { "oom", "POLICY", false },
};

struct group {
	char path[512];
	char text[ARRAY_SIZE(columns)][24];
};

struct tree {
	struct group group[GROUPS_MAX];
	unsigned nr;
	bool bytes;		/* exact, not in K, M, G */
};

/* 17.3M; what is no number stays as it is. */
static void format_size(char *buf, size_t size, const char *value, bool exact)
{
	static const char units[] = "\0KMGTP";
	char *end;
	double n = strtod(value, &end);
	unsigned unit = 0;

	if (exact || end == value || *end) {
		snprintf(buf, size, "%s", value);
		return;
	}
	for (; n >= 1024 && unit < sizeof(units) - 2; unit++)
		n /= 1024;
	snprintf(buf, size, unit && n < 99.95 ? "%.1f%c" : "%.0f%c", n, units[unit]);
}

static void add_group(const struct dump_cell *cell, unsigned nr, void *arg)
{
	struct tree *tree = arg;
	struct group *g = &tree->group[tree->nr];

	if (tree->nr == GROUPS_MAX)
		return;
	tree->nr++;
	snprintf(g->path, sizeof(g->path), "%s", dump_value(cell, nr, "path"));
	for (unsigned c = 0; c < ARRAY_SIZE(columns); c++)
		format_size(g->text[c], sizeof(g->text[c]), dump_value(cell, nr, columns[c].key), !columns[c].bytes || tree->bytes);
}

/* A child directly below its parent: '/' comes before everything else; removed groups, which have no path, come last. */
static int by_path(const void *a, const void *b)
{
	const char *p = ((const struct group *)a)->path, *q = ((const struct group *)b)->path;

	if ((*p == '/') != (*q == '/'))
		return *p == '/' ? -1 : 1;
	while (*p && *p == *q) {
		p++;
		q++;
	}
	return (*p == '/' ? 1 : (unsigned char)*p) - (*q == '/' ? 1 : (unsigned char)*q);
}

static unsigned depth_of(const char *path)
{
	unsigned depth = 0;

	for (; *path; path++)
		depth += path[0] == '/' && path[1] != '\0';
	return depth;
}

/* The root is "/", others are shown by their last part. */
static const char *name_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash && slash[1] ? slash + 1 : path;
}

static void print_tree(const struct tree *tree)
{
	int width[ARRAY_SIZE(columns)], names = (int)strlen("GROUP");

	for (unsigned c = 0; c < ARRAY_SIZE(columns); c++) {
		width[c] = (int)strlen(columns[c].title);
		for (unsigned i = 0; i < tree->nr; i++)
			width[c] = max(width[c], (int)strlen(tree->group[i].text[c]));
	}
	for (unsigned i = 0; i < tree->nr; i++)
		names = max(names, (int)(2 * depth_of(tree->group[i].path) + strlen(name_of(tree->group[i].path))));
	printf("%-*s", names, "GROUP");
	for (unsigned c = 0; c < ARRAY_SIZE(columns); c++)
		printf("  %*s", width[c], columns[c].title);
	putchar('\n');
	for (unsigned i = 0; i < tree->nr; i++) {
		int indent = 2 * (int)depth_of(tree->group[i].path);

		printf("%*s%-*s", indent, "", names - indent, name_of(tree->group[i].path));
		for (unsigned c = 0; c < ARRAY_SIZE(columns); c++)
			printf("  %*s", width[c], tree->group[i].text[c]);
		putchar('\n');
	}
}

static char *read_all(FILE *file)
{
	size_t size = 1 << 16, used = 0, n;
	char *text = malloc(size);

	while (text && (n = fread(text + used, 1, size - used - 1, file)) > 0) {
		used += n;
		if (used == size - 1)
			text = realloc(text, size *= 2);
	}
	if (!text)
		die(EXIT_KMM, "no memory for the statistics");
	text[used] = '\0';
	return text;
}

static void show_file(const char *path, bool bytes)
{
	FILE *file = strcmp(path, "-") ? fopen(path, "r") : stdin;
	static struct tree tree;
	char *text;
	int nr;

	if (!file)
		die(EXIT_NOTFOUND, "%s: %s", path, strerror(errno));
	tree.bytes = bytes;
	text = read_all(file);
	nr = for_each_dump_row(text, "memcg", "groups", add_group, &tree);
	if (nr <= 0)
		die(EXIT_USAGE, "%s: %s", path,
		    nr == -EINVAL ? "the statistics are damaged" : "there is no table of memory groups in it (KMM_STATS writes one)");
	qsort(tree.group, tree.nr, sizeof(tree.group[0]), by_path);
	print_tree(&tree);
	free(text);
	if (file != stdin)
		fclose(file);
}

int cmd_memcg(int argc, char **argv)
{
	const char *path = "-";
	bool bytes = false;
	int i = 1;

	if (i < argc && !strcmp(argv[i], "--bytes")) {
		bytes = true;
		i++;
	}
	if (i < argc && argv[i][0] == '-' && argv[i][1] != '\0')
		die(EXIT_USAGE, "unknown argument %s; kmm memcg --help", argv[i]);
	if (i < argc)
		path = argv[i++];
	if (i < argc)
		die(EXIT_USAGE, "one file at a time; kmm memcg --help");
	show_file(path, bytes);
	if (fflush(stdout) || ferror(stdout))
		die(EXIT_KMM, "cannot write to standard output");
	return 0;
}
