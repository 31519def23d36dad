/* SPDX-License-Identifier: MIT */
/*
 * procfs.c - /proc/self/maps and /proc/self/stat.
 *
 * Purpose. Reads them in pieces into a buffer on the stack. A line can be longer than any buffer (paths have no limit
 * that holds), so the text goes character by character through a small machine that keeps only what is wanted.
 * /proc/thread-self is used: /proc/self shows nothing once the main thread has ended.
 */
#include "os/procfs.h"

#include "base/compiler.h"
#include "base/printk.h"
#include "os/os.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define READ_CHUNK 2048

const char *procfs_dir = "/proc/thread-self";

static int open_procfs(const char *file)
{
	char path[128];

	kmm_snprintf(path, sizeof(path), "%s/%s", procfs_dir, file);
	return os_open(path, O_RDONLY, 0);
}

/* "start-end rwxp offset major:minor inode   path\n" */
enum maps_field { MAPS_START, MAPS_END, MAPS_PERMS, MAPS_OFFSET, MAPS_MAJOR, MAPS_MINOR, MAPS_INODE, MAPS_PATH };

struct maps_parser {
	struct proc_map map;
	enum maps_field field;
	u64 number;
	u32 name_len;
};

static bool add_digit(u64 *number, char c, unsigned base)
{
	unsigned digit = c >= 'a' ? (unsigned)(c - 'a') + 10 : (unsigned)(c - '0');

	if ((c < '0' || c > '9') && (c < 'a' || c > 'f'))
		return false;
	*number = *number * base + digit;
	return true;
}

static void end_number(struct maps_parser *p)
{
	switch (p->field) {
	case MAPS_START: p->map.start = (uintptr_t)p->number; break;
	case MAPS_END: p->map.end = (uintptr_t)p->number; break;
	case MAPS_OFFSET: p->map.offset = p->number; break;
	case MAPS_MAJOR: p->map.device = p->number << 32; break;
	case MAPS_MINOR: p->map.device |= p->number; break;
	case MAPS_INODE: p->map.inode = p->number; break;
	default: break;
	}
	p->number = 0;
	p->field++;
}

static void add_perm(struct proc_map *map, char c)
{
	map->read |= c == 'r';
	map->write |= c == 'w';
	map->exec |= c == 'x';
	map->shared |= c == 's';
}

/* Keeps what comes after the last '/', without the blanks in front. */
static void add_name(struct maps_parser *p, char c)
{
	if (c == '/')
		p->name_len = 0;
	else if ((c != ' ' || p->name_len != 0) && p->name_len < sizeof(p->map.name) - 1)
		p->map.name[p->name_len++] = c;
}

static void end_line(struct maps_parser *p)
{
	static const char deleted[] = " (deleted)";
	size_t len = sizeof(deleted) - 1;

	if (p->name_len > len && memcmp(p->map.name + p->name_len - len, deleted, len) == 0)
		p->name_len -= (u32)len;
	p->map.name[p->name_len] = '\0';
}

/* true: a line is complete in p->map. */
static bool feed(struct maps_parser *p, char c)
{
	if (c == '\n') {
		if (p->field == MAPS_INODE)
			end_number(p);
		end_line(p);
		return true;
	}
	if (p->field == MAPS_PATH)
		add_name(p, c);
	else if (p->field == MAPS_PERMS && c != ' ')
		add_perm(&p->map, c);
	else if (p->field == MAPS_PERMS || !add_digit(&p->number, c, p->field == MAPS_INODE ? 10 : 16))
		end_number(p);
	return false;
}

int for_each_proc_map(int (*fn)(const struct proc_map *, void *), void *arg)
{
	struct maps_parser p = { 0 };
	char buf[READ_CHUNK];
	int fd = open_procfs("maps"), ret = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	while (ret == 0 && (n = os_read(fd, buf, sizeof(buf))) != 0) {
		if (n < 0) {
			ret = (int)n;
			break;
		}
		for (ssize_t i = 0; i < n && ret == 0; i++) {
			if (!feed(&p, buf[i]))
				continue;
			ret = fn(&p.map, arg);
			p = (struct maps_parser){ 0 };
		}
	}
	os_close(fd);
	return ret;
}

u32 count_proc_maps(void)
{
	int fd = open_procfs("maps");
	char buf[READ_CHUNK];
	ssize_t n;
	u32 nr = 0;

	if (fd < 0)
		return 0;
	while ((n = os_read(fd, buf, sizeof(buf))) > 0)
		for (ssize_t i = 0; i < n; i++)
			nr += buf[i] == '\n';
	os_close(fd);
	return nr;
}

/* Fields are counted from 1 in proc(5). The second, the name in parentheses, may itself hold both. */
int read_proc_mm(struct proc_mm *mm)
{
	static const struct {
		u32 field;
		size_t offset;
	} wanted[] = {
#define FIELD(nr, name) { nr, offsetof(struct proc_mm, name) }
		FIELD(26, start_code), FIELD(27, end_code), FIELD(28, start_stack), FIELD(45, start_data),
		FIELD(46, end_data), FIELD(47, start_brk), FIELD(48, arg_start), FIELD(49, arg_end),
		FIELD(50, env_start), FIELD(51, env_end),
#undef FIELD
	};
	char buf[READ_CHUNK], *s;
	int fd = open_procfs("stat");
	u32 field = 2, next = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	n = os_read(fd, buf, sizeof(buf) - 1);
	os_close(fd);
	if (n < 0)
		return (int)n;
	buf[n] = '\0';
	s = strrchr(buf, ')');
	for (; s != NULL && *s != '\0' && next < ARRAY_SIZE(wanted); s++) {
		u64 number = 0;

		if (*s != ' ' || ++field != wanted[next].field)
			continue;
		while (s[1] >= '0' && s[1] <= '9')
			number = number * 10 + (u64)(*++s - '0');
		*(uintptr_t *)((char *)mm + wanted[next++].offset) = (uintptr_t)number;
	}
	return next == ARRAY_SIZE(wanted) ? 0 : -EINVAL;
}
