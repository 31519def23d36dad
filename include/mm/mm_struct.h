/* SPDX-License-Identifier: MIT */
/*
 * mm_struct.h - registry of the whole address space of the process. Kernel: include/linux/mm_types.h, mm/mmap.c.
 *
 * What libkmm maps is entered as it is mapped (VM_KMM). Code, data, bss, heap, libraries, stack, vdso, arguments
 * and environment are imported from /proc/self/maps and auxv when somebody asks (mm_import); without /proc the
 * own mappings and what auxv and dl_iterate_phdr tell remain.
 *
 * Readers: RCU (liburcu-bp, once kmmd has loaded it) and a sequence count; before that, inside the gate, and when
 * a writer got in between, the mmap lock.
 */
#ifndef KMM_MM_MM_STRUCT_H
#define KMM_MM_MM_STRUCT_H

#include "base/rbtree.h"
#include "base/types.h"
#include "os/mutex.h"

enum vm_flags {
	VM_READ = 1, VM_WRITE = 2, VM_EXEC = 4, VM_SHARED = 8, VM_KMM = 16, VM_GUARD = 32, VM_STACK = 64, VM_FILE = 128
};

enum vma_kind { VMA_OTHER, VMA_CODE, VMA_DATA, VMA_BSS, VMA_HEAP, VMA_LIBRARY, VMA_STACK, VMA_VDSO, VMA_ARGS, VMA_ENV,
		VMA_KMM_NORMAL, VMA_KMM_VMALLOC, VMA_KMM_METADATA, NR_VMA_KINDS };
extern const char *const vma_kind_names[NR_VMA_KINDS];

struct vm_operations_struct;	/* fault dispatch, a later issue */

struct vm_area_struct {
	uintptr_t vm_start, vm_end;
	unsigned long vm_flags;
	enum vma_kind kind;
	u32 generation;		/* of the import that saw it last; 0: entered by libkmm as it was mapped */
	struct mm_struct *vm_mm;
	const struct vm_operations_struct *vm_ops;
	char name[32];		/* last part of the path, or [heap] */
	struct rb_node vm_rb;
	struct vm_area_struct *rcu_next;	/* erased, waiting for a grace period or for reuse */
};

struct mm_struct {
	u32 seq;		/* odd while the tree changes */
	u32 map_count;
	struct rb_root mm_rb;
	u64 total_vm;		/* bytes in the registry */
	u32 generation;		/* of the last import */
	uintptr_t start_code, end_code, start_data, end_data, start_brk, brk, start_stack;
	uintptr_t arg_start, arg_end, env_start, env_end;
	u32 mm_users;		/* tasks */
};
extern struct mm_struct init_mm;
extern struct mutex mmap_lock;	/* there is one mm, so its lock is where the fork handlers can name it */

int mm_init(void);		/* enters what the boot has mapped; 0 or -ENOMEM */
/*
 * Enters an own mapping; neighbours of equal kind, flags and name merge. Splits or replaces what it overlaps.
 * 0 or -ENOMEM.
 */
int mm_map(uintptr_t start, uintptr_t end, unsigned long flags, enum vma_kind kind, const char *name);
int mm_unmap(uintptr_t start, uintptr_t end);
/* Copies out the VMA that contains addr, or the next one above it. false: none. */
bool find_vma(uintptr_t addr, struct vm_area_struct *copy);
/*
 * Reads the process's other mappings again, from /proc/self/maps or else from auxv and the link maps. Without
 * locks, better outside the gate (dl_iterate_phdr). 0 or -errno (own mappings stay right).
 */
int mm_import(void);
void mm_validate(void);
/* In address order, under the mmap lock: fn must not allocate and not call back into the registry. */
void for_each_vma(void (*fn)(const struct vm_area_struct *, void *), void *arg);

/* The three steps of an import (import.c). Begin waits for another one to end; returns its number. */
u32 mm_import_begin(void);
/* One mapping that is not ours. Parts that libkmm has entered itself stay. 0 or -ENOMEM. */
int mm_import_range(u32 generation, const struct vm_area_struct *vma);
/* What a complete import did not see is gone. */
void mm_import_end(u32 generation, bool complete);

/* --- tasks ------------------------------------------------------------------------------------------- */
struct task_struct {
	int pid;		/* tid */
	char comm[16];		/* as of the last look */
	struct mm_struct *mm;
	u32 memcg;		/* colour of its memory group, 0: the root; as of its last slow path */
	u32 memcg_home;		/* where it was created */
	u32 memcg_wanted;	/* word of the group that somebody has moved it to, 0: none (page/memcontrol.h) */
	bool memcg_known;	/* the fields above are its own */
	bool memcg_pinned;	/* attached: its name does not count */
	u32 comm_due_ms, comm_step_ms;	/* when its name is looked at again */
	bool rcu_registered;	/* liburcu-bp knows the thread */
	uintptr_t thread_pointer;	/* identity: a dead thread's struct is reused by the next at its place */
	struct rb_node node;	/* by thread_pointer */
};
extern struct mutex task_lock;

/* The caller's task, made at first use. NULL only when memory is out. Thread exit needs no destructor. */
struct task_struct *current_task(void);
u32 nr_tasks(void);		/* threads that have met a slow path and are not known to be dead */
/* Forgets dead ones first. Under the task lock: fn must not allocate. */
void for_each_task(void (*fn)(struct task_struct *, void *), void *arg);
/* Thread id of a living task whose thread pointer lies in [start, end), 0: none. */
int task_in_range(uintptr_t start, uintptr_t end);
bool task_want_memcg(int tid, u32 word);	/* false: no such task */
u32 nr_tasks_in_memcg(u32 colour);	/* living ones; forgets dead ones first */
void tasks_reset_child(void);	/* after fork: only the caller is left */

#endif
