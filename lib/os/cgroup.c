/* SPDX-License-Identifier: MIT */
/*
 * cgroup.c - which control group the kernel has put the process into, and how much memory it may use there.
 *
 * Purpose. Two files of /proc say it together:
 *
 *	/proc/self/cgroup	"0::/user.slice/app"		version 2
 *				"4:memory:/docker/0123"		version 1
 *	/proc/self/mountinfo	"31 23 0:28 ROOT MOUNTPOINT rw - cgroup2 cgroup2 rw"
 *
 * ROOT is the part of the hierarchy that the mount shows: a container sees its own group as the mount point, and its
 * path may still be the whole one (no cgroup namespace) or "/". Where the path does not begin with ROOT the group is
 * taken for the mount point itself. The memory controller is where version 1 has it mounted, else in version 2.
 *
 * Invariants. dir is below the mount point or equal to it; walking up ends at the mount point, since what is above
 * cannot be seen.
 *
 * Kernel counterpart. fs/proc/base.c (proc_cgroup_show), mm/memcontrol.c.
 */
#include "os/cgroup.h"

#include "base/compiler.h"
#include "base/printk.h"
#include "os/os.h"
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#define V1_UNLIMITED (1ull << 62)	/* version 1 shows "none" as the largest multiple of the page size */

const char *cgroup_proc_dir = "/proc/self";

/* --- lines of a file that may be long ------------------------------------------------------------------------ */

/* Calls fn for each line that fits into 1 KiB, until it returns other than 0, and returns that. */
static int for_each_line(const char *path, int (*fn)(char *line, void *arg), void *arg)
{
	char buf[1024];
	size_t used = 0;
	bool skip = false;
	int fd = os_open(path, O_RDONLY, 0), ret = 0;
	ssize_t n;

	if (fd < 0)
		return fd;
	while (ret == 0 && (n = os_read(fd, buf + used, sizeof(buf) - 1 - used)) > 0) {
		char *line = buf, *end;

		used += (size_t)n;
		buf[used] = '\0';
		while (ret == 0 && (end = strchr(line, '\n')) != NULL) {
			*end = '\0';
			if (!skip)
				ret = fn(line, arg);
			skip = false;
			line = end + 1;
		}
		used = strlen(line);
		memmove(buf, line, used);
		if (used == sizeof(buf) - 1) {		/* longer than anything that is looked for */
			skip = true;
			used = 0;
		}
	}
	os_close(fd);
	return ret;
}

/* The next field, cut off at c; NULL at the end of the line. */
static char *next_field(char **s, char c)
{
	char *field = *s, *end;

	if (field == NULL || *field == '\0')
		return NULL;
	end = strchr(field, c);
	if (end != NULL)
		*end++ = '\0';
	*s = end;
	return field;
}

/* Is word one of a list separated by commas? */
static bool list_has(const char *list, const char *word)
{
	size_t len = strlen(word);

	for (const char *s = list; s != NULL; s = strchr(s, ',')) {
		if (*s == ',')
			s++;
		if (strncmp(s, word, len) == 0 && (s[len] == ',' || s[len] == '\0'))
			return true;
	}
	return false;
}

/* --- finding --------------------------------------------------------------------------------------------------- */

struct cgroup_search {
	u32 version;
	char path[CGROUP_PATH_MAX];	/* in the hierarchy */
	char root[CGROUP_PATH_MAX], mount[CGROUP_PATH_MAX];
};

static bool copy_string(char *to, const char *from)
{
	size_t len = strlen(from);

	if (len >= CGROUP_PATH_MAX)
		return false;
	memcpy(to, from, len + 1);
	return true;
}

/* "hierarchy:controllers:path" */
static int match_cgroup_line(char *line, void *arg)
{
	struct cgroup_search *search = arg;
	char *s = line, *id = next_field(&s, ':'), *controllers = s, *path;

	path = s != NULL ? strchr(s, ':') : NULL;
	if (id == NULL || path == NULL)
		return 0;
	*path++ = '\0';
	if (search->version == 1 ? !list_has(controllers, "memory") : strcmp(id, "0") != 0 || *controllers != '\0')
		return 0;
	return copy_string(search->path, path) ? 1 : -ENAMETOOLONG;
}

/* mountinfo writes blanks and backslashes as "\040". */
static void unescape(char *s)
{
	char *to = s;

	for (; *s != '\0'; s++, to++) {
		if (s[0] == '\\' && s[1] >= '0' && s[1] <= '3' && s[2] != '\0' && s[3] != '\0') {
			*to = (char)((s[1] - '0') << 6 | (s[2] - '0') << 3 | (s[3] - '0'));
			s += 3;
		} else {
			*to = *s;
		}
	}
	*to = '\0';
}

/* "id parent major:minor root mount options [optional...] - type source superoptions" */
static int match_mount_line(char *line, void *arg)
{
	struct cgroup_search *search = arg;
	char *tail = strstr(line, " - "), *s = line, *root, *mount, *type;

	if (tail == NULL)
		return 0;
	*tail = '\0';
	tail += 3;
	type = next_field(&tail, ' ');
	next_field(&tail, ' ');
	if (type == NULL || tail == NULL || strcmp(type, search->version == 1 ? "cgroup" : "cgroup2") != 0 ||
	    (search->version == 1 && !list_has(tail, "memory")))
		return 0;
	for (int i = 0; i < 3; i++)
		next_field(&s, ' ');
	root = next_field(&s, ' ');
	mount = next_field(&s, ' ');
	if (root == NULL || mount == NULL)
		return 0;
	unescape(root);
	unescape(mount);
	return copy_string(search->root, root) && copy_string(search->mount, mount) ? 1 : -ENAMETOOLONG;
}

/* What of the path lies below the mount's root; "" when it is not there. */
static const char *path_below(const char *path, const char *root)
{
	size_t len = strcmp(root, "/") == 0 ? 0 : strlen(root);

	if (strncmp(path, root, len) != 0 || (path[len] != '/' && path[len] != '\0'))
		return "";
	path += len;
	return strcmp(path, "/") == 0 || strncmp(path, "/..", 3) == 0 ? "" : path;
}

static int find_version(struct os_cgroup *cg, u32 version)
{
	struct cgroup_search search = { .version = version };
	char path[CGROUP_PATH_MAX];
	const char *below;
	int ret;

	kmm_snprintf(path, sizeof(path), "%s/cgroup", cgroup_proc_dir);
	ret = for_each_line(path, match_cgroup_line, &search);
	if (ret <= 0)
		return ret < 0 ? ret : -ENOENT;
	kmm_snprintf(path, sizeof(path), "%s/mountinfo", cgroup_proc_dir);
	ret = for_each_line(path, match_mount_line, &search);
	if (ret <= 0)
		return ret < 0 ? ret : -ENOENT;
	below = path_below(search.path, search.root);
	cg->version = version;
	cg->root_len = (u32)strlen(search.mount);
	if ((size_t)kmm_snprintf(cg->dir, sizeof(cg->dir), "%s%s", search.mount, below) >= sizeof(cg->dir))
		return -ENAMETOOLONG;
	return 0;
}

int os_cgroup_find(struct os_cgroup *cg)
{
	int ret = find_version(cg, 1);

	return ret == -ENOENT ? find_version(cg, 2) : ret;
}

/* --- reading ----------------------------------------------------------------------------------------------------- */

int os_cgroup_file(const struct os_cgroup *cg, const char *file, char *path, size_t size)
{
	return (size_t)kmm_snprintf(path, size, "%s/%s", cg->dir, file) < size ? 0 : -ENAMETOOLONG;
}

/* A number, or "max". 0 or -errno. */
static int read_bytes(const char *dir, size_t dir_len, const char *file, u64 *bytes)
{
	char path[CGROUP_PATH_MAX + 32], text[32];
	ssize_t n;

	kmm_snprintf(path, sizeof(path), "%.*s/%s", (int)dir_len, dir, file);
	n = os_read_file(path, text, sizeof(text));
	if (n < 0)
		return (int)n;
	if (strncmp(text, "max", 3) == 0) {
		*bytes = CGROUP_NONE;
		return 0;
	}
	if (*text < '0' || *text > '9')
		return -EINVAL;
	*bytes = 0;
	for (const char *s = text; *s >= '0' && *s <= '9'; s++)
		if (__builtin_mul_overflow(*bytes, (u64)10, bytes) || __builtin_add_overflow(*bytes, (u64)(*s - '0'), bytes))
			*bytes = CGROUP_NONE;
	return 0;
}

static void note_room(struct os_cgroup_room *r, u64 limit, u64 current, size_t len)
{
	u64 room = limit - min(limit, current);

	if (limit != CGROUP_NONE && (r->limit == CGROUP_NONE || room < r->room))
		*r = (struct os_cgroup_room){ .limit = limit, .room = room, .dir_len = (u32)len };
}

/* One group of the way up counts with what it says. 0 or -errno: it has no limit file. */
static int read_level(const struct os_cgroup *cg, size_t len, struct os_cgroup_memory *mem)
{
	bool v1 = cg->version == 1;
	u64 limit, soft, current;
	int ret = read_bytes(cg->dir, len, v1 ? "memory.limit_in_bytes" : "memory.max", &limit);

	if (ret != 0)
		return ret;
	if (v1 && limit >= V1_UNLIMITED)
		limit = CGROUP_NONE;
	mem->limit = min(mem->limit, limit);
	if (read_bytes(cg->dir, len, v1 ? "memory.soft_limit_in_bytes" : "memory.high", &soft) != 0 || (v1 && soft >= V1_UNLIMITED))
		soft = CGROUP_NONE;
	if (!v1)
		mem->high = min(mem->high, soft);
	if (read_bytes(cg->dir, len, v1 ? "memory.usage_in_bytes" : "memory.current", &current) != 0)
		return 0;
	if (len == strlen(cg->dir))
		mem->current = current;
	if (limit != CGROUP_NONE)
		mem->room = min(mem->room, limit - min(limit, current));
	note_room(&mem->hard, limit, current, len);
	note_room(&mem->soft, soft, current, len);
	return 0;
}

int os_cgroup_read_memory(const struct os_cgroup *cg, struct os_cgroup_memory *mem)
{
	size_t len = strlen(cg->dir);
	int ret;

	*mem = (struct os_cgroup_memory){ .limit = CGROUP_NONE, .high = CGROUP_NONE, .room = CGROUP_NONE,
					  .hard.limit = CGROUP_NONE, .soft.limit = CGROUP_NONE };
	ret = read_level(cg, len, mem);
	while (len > cg->root_len) {
		while (len > cg->root_len && cg->dir[len - 1] != '/')
			len--;
		if (len > cg->root_len)
			len--;		/* the slash */
		if (read_level(cg, len, mem) == 0)
			ret = 0;
	}
	return ret;
}

struct stat_search {
	const char *key;
	u64 bytes;
};

static int match_stat_line(char *line, void *arg)
{
	struct stat_search *search = arg;
	size_t len = strlen(search->key);

	if (strncmp(line, search->key, len) != 0 || line[len] != ' ')
		return 0;
	for (const char *s = line + len + 1; *s >= '0' && *s <= '9'; s++)
		search->bytes = search->bytes * 10 + (u64)(*s - '0');
	return 1;
}

int os_cgroup_read_cache(const struct os_cgroup *cg, u32 dir_len, u64 *bytes)
{
	struct stat_search search = { .key = cg->version == 1 ? "total_inactive_file" : "inactive_file" };
	char path[CGROUP_PATH_MAX + 32];
	int ret;

	kmm_snprintf(path, sizeof(path), "%.*s/memory.stat", (int)dir_len, cg->dir);
	ret = for_each_line(path, match_stat_line, &search);
	if (ret <= 0)
		return ret < 0 ? ret : -ENOENT;
	*bytes = search.bytes;
	return 0;
}
