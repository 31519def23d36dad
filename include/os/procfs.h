/* SPDX-License-Identifier: MIT */
/* procfs.h - what /proc tells about the process, read without allocation. Same rules as os/vm.h. */
#ifndef KMM_OS_PROCFS_H
#define KMM_OS_PROCFS_H

#include "base/types.h"

/* One line of /proc/self/maps. */
struct proc_map {
	uintptr_t start, end;
	bool read, write, exec, shared;
	u64 offset, device, inode;	/* device: major << 32 | minor */
	char name[64];			/* last part of the path, cut; or "[heap]"; "" for anonymous memory */
};

/* Calls fn for each line, in address order, until it returns other than 0, and returns that. -errno: no /proc. */
int for_each_proc_map(int (*fn)(const struct proc_map *, void *), void *arg);

/* Mappings of the process; 0: no /proc. */
u32 count_proc_maps(void);

/* The addresses in /proc/self/stat. */
struct proc_mm {
	uintptr_t start_code, end_code, start_stack, start_data, end_data, start_brk;
	uintptr_t arg_start, arg_end, env_start, env_end;
};
int read_proc_mm(struct proc_mm *mm);

/* Where procfs shows the calling thread. Test hook. */
extern const char *procfs_dir;

#endif
