/* SPDX-License-Identifier: MIT */
/*
 * cgroup.h - the real control group that the process is in, and what its memory controller says. Versions 1 and 2. Same
 * rules as os/vm.h: nothing allocates, nothing touches errno.
 */
#ifndef KMM_OS_CGROUP_H
#define KMM_OS_CGROUP_H

#include "base/types.h"

#define CGROUP_PATH_MAX 512
#define CGROUP_NONE	UINT64_MAX	/* no limit */

struct os_cgroup {
	u32 version;			/* 1 or 2 */
	u32 root_len;			/* of dir: as far as the hierarchy's mount point */
	char dir[CGROUP_PATH_MAX];	/* the process's own group, absolute; no '/' at the end */
};

/* The limit on the way up that is nearest: its group's directory is the first dir_len bytes of dir. */
struct os_cgroup_room {
	u64 limit;	/* or CGROUP_NONE: there is none */
	u64 room;	/* bytes until it is reached */
	u32 dir_len;
};

/* Bytes. Limits of all groups from the own one up to the root of the hierarchy count, so far as the process can see it. */
struct os_cgroup_memory {
	u64 limit;	/* the smallest memory.max (v1: memory.limit_in_bytes), or CGROUP_NONE */
	u64 high;	/* the smallest memory.high, or CGROUP_NONE; v1 has none */
	u64 current;	/* of the own group */
	u64 room;	/* until some limit on the way up is reached, or CGROUP_NONE */
	struct os_cgroup_room hard;	/* memory.max (v1: memory.limit_in_bytes) */
	struct os_cgroup_room soft;	/* memory.high (v1: memory.soft_limit_in_bytes) */
};

/* Finds the group; a process may be moved to another later. 0 or -errno: no /proc, no memory controller, path too long. */
int os_cgroup_find(struct os_cgroup *cg);
/* 0 or -errno: the group has no such files (the root of a version 2 hierarchy) or they cannot be read. */
int os_cgroup_read_memory(const struct os_cgroup *cg, struct os_cgroup_memory *mem);
/* Page cache of the group at the first dir_len bytes of dir that nobody uses now: the kernel takes it back by itself. 0 or -errno. */
int os_cgroup_read_cache(const struct os_cgroup *cg, u32 dir_len, u64 *bytes);
/* Puts the path of a file of the group together, "memory.pressure"; 0 or -ENAMETOOLONG. */
int os_cgroup_file(const struct os_cgroup *cg, const char *file, char *path, size_t size);

/* Where mountinfo and cgroup are read. Test hook. */
extern const char *cgroup_proc_dir;

#endif
