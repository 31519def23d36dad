/* SPDX-License-Identifier: MIT */
/*
 * stats.c - where statistics go: KMM_STATS at the end of the program, and kmm_stats_print().
 *
 * Purpose: takes KMM_STATS apart, opens what it names and writes the sections of stats_show.c there in big pieces.
 *
 *	1, text		text to stderr			text:PATH	text into a file
 *	json		JSON to stderr			json:PATH	JSON into a file
 *
 * In PATH, %p is the pid and %% a percent sign; the path is taken relative to the directory at the end. Every process
 * prints for itself, children of fork too, so a PATH without %p keeps what ended last.
 *
 * Invariants: the host program is never harmed. No output goes to a descriptor that has become another file; a
 * reader that has gone away raises no signal; errno is kept. Nothing comes from the heap: the buffer is mapped from the kernel,
 * or lies on the stack when there is no address space left.
 *
 * Fork and init: kmm_stats_init() runs once at boot; the descriptor it holds is inherited by children.
 */
#include "api/stats.h"

#include "api/malloc.h"
#include "base/param.h"
#include "base/printk.h"
#include "kmm/kmm.h"
#include "os/os.h"
#include "os/outfile.h"
#include "os/vm.h"
#include <errno.h>
#include <limits.h>
#include <string.h>

#define STATS_BUF_SIZE	     KIB(256)
#define STATS_STACK_BUF_SIZE 2048

/* --- output ----------------------------------------------------------------------------------------------- */

struct stats_out {
	int fd;
	int error;		/* the first one, -errno; nothing is written after it */
	char *buf;
	size_t size, used;
};

static void stats_flush(struct stats_out *out)
{
	if (out->error == 0 && out->used != 0)
		out->error = outfile_write(out->fd, out->buf, out->used);
	out->used = 0;
}

static void stats_write(void *arg, const char *buf, size_t len)
{
	struct stats_out *out = arg;

	while (len > 0) {
		size_t n = min(len, out->size - out->used);

		memcpy(out->buf + out->used, buf, n);
		out->used += n;
		buf += n;
		len -= n;
		if (out->used == out->size)
			stats_flush(out);
	}
}

/* 0 or -errno. */
static int stats_to_fd(int fd, bool json)
{
	char small[STATS_STACK_BUF_SIZE];
	char *big = vm_map(STATS_BUF_SIZE);
	struct stats_out out = { .fd = fd, .buf = small, .size = sizeof(small) };
	struct seq_file m;

	if (big != NULL) {
		out.buf = big;
		out.size = STATS_BUF_SIZE;
	}
	seq_init(&m, json, stats_write, &out);
	show_stats(&m);
	seq_end(&m);
	stats_flush(&out);
	if (big != NULL)
		vm_unmap(big, STATS_BUF_SIZE);
	return out.error;
}

EXPORT_SYMBOL int kmm_stats_print(int fd, bool json)
{
	int ret;

	kmm_boot();
	ret = stats_to_fd(fd, json);
	if (ret < 0) {
		errno = -ret;
		return -1;
	}
	return 0;
}

/* --- KMM_STATS -------------------------------------------------------------------------------------------- */

static struct {
	bool on, json;
	const char *path;	/* NULL: stderr */
	struct held_fd fd;	/* of stderr */
} stats_config = { .fd = { .fd = -1 } };

/* true if the value is one of those that KMM_STATS accepts. */
static bool parse_stats(const char *value)
{
	const char *rest;

	if (strcmp(value, "1") == 0) {
		rest = "";
	} else if (strncmp(value, "text", 4) == 0) {
		rest = value + 4;
	} else if (strncmp(value, "json", 4) == 0) {
		stats_config.json = true;
		rest = value + 4;
	} else {
		return false;
	}
	if (*rest == ':' && rest[1] != '\0')
		stats_config.path = rest + 1;
	else if (*rest != '\0')
		return false;
	return true;
}

__init void kmm_stats_init(void)
{
	const char *value = kmm_params.stats;

	if (value == NULL || !parse_stats(value))	/* base/param.c has warned of a malformed one */
		return;
	stats_config.on = true;
	if (stats_config.path == NULL)
		outfile_hold(&stats_config.fd, 2);
}

/* Puts the pid for %p. false: the result does not fit. */
static bool expand_path(const char *path, char *buf, size_t size)
{
	size_t used = 0;

	for (; *path != '\0' && used < size; path++) {
		if (path[0] == '%' && path[1] == 'p') {
			used += (size_t)kmm_snprintf(buf + used, size - used, "%d", os_getpid());
			path++;
		} else {
			if (path[0] == '%' && path[1] == '%')
				path++;
			buf[used++] = *path;
		}
	}
	if (used >= size)
		return false;
	buf[used] = '\0';
	return true;
}

static void stats_to_path(const char *path, bool json)
{
	char name[PATH_MAX];
	int fd, ret;

	if (!expand_path(path, name, sizeof(name))) {
		pr_warn("KMM_STATS: the path is too long");
		return;
	}
	fd = outfile_create(name);
	ret = fd;
	if (fd >= 0) {
		ret = stats_to_fd(fd, json);
		os_close(fd);
	}
	if (ret < 0)
		pr_warn("KMM_STATS: cannot write %s: error %d", name, -ret);
}

__resident void kmm_stats_at_exit(void)
{
	int fd;

	if (!stats_config.on)
		return;
	if (stats_config.path != NULL) {
		stats_to_path(stats_config.path, stats_config.json);
		return;
	}
	fd = outfile_held(&stats_config.fd);
	if (fd >= 0)
		stats_to_fd(fd, stats_config.json);
}
