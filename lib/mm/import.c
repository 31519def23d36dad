/* SPDX-License-Identifier: MIT */
/*
 * import.c - the mappings that are not ours, read from the process.
 *
 * Purpose
 *	To fill the registry with code, data, bss, heap, libraries, stacks, vdso, arguments and environment. The
 *	program maps and unmaps behind our back, so an import is a snapshot, made when somebody asks for one.
 *
 * Fast and slow path
 *	With /proc: two passes over maps. The first finds the file of the program itself (it contains the program
 *	headers that auxv names); the second enters every line, minus the parts that are ours. A line that is as it
 *	was the last time costs a search and changes nothing.
 *	Without /proc: dl_iterate_phdr() for the program and its libraries, auxv for the rest. Other anonymous memory
 *	and the heap's start cannot be known then.
 *
 * What a line is
 *	a file: the program's is code, or data from start_data on; others are libraries if they are called *.so* or
 *	have code. Anonymous writable memory that touches the last data of a file is its bss. Memory in which the
 *	thread pointer of a task lies is that thread's stack (glibc puts both together). Memory in libkmm's regions
 *	is its sections and metadata.
 *
 * Locks
 *	None held; the registry locks for each range. dl_iterate_phdr() takes a lock of ld.so, therefore best
 *	outside the gate. Two imports at a time are one too many: the second waits.
 *
 * Kernel counterpart and what differs
 *	fs/binfmt_elf.c knows all this, since it made it.
 */
#include "mm/mm_struct.h"

#include "base/align.h"
#include "base/printk.h"
#include "os/membarrier.h"
#include "os/os.h"
#include "os/procfs.h"
#include "os/vm.h"
#include "page/sparse.h"
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <string.h>

struct import {
	u32 generation;
	struct proc_mm mm;
	u64 exe_device, exe_inode;
	struct vm_area_struct last;	/* the line before */
};

static void set_name(struct vm_area_struct *vma, const char *name)
{
	kmm_snprintf(vma->name, sizeof(vma->name), "%s", name);
}

/* --- with /proc --------------------------------------------------------------------------------------- */

static int find_exe(const struct proc_map *map, void *arg)
{
	struct import *im = arg;
	uintptr_t phdr = os_auxval(AT_PHDR);

	if (phdr < map->start || phdr >= map->end)
		return 0;
	im->exe_device = map->device;
	im->exe_inode = map->inode;
	return 1;
}

static unsigned long map_flags(const struct proc_map *map)
{
	return (map->read ? VM_READ : 0ul) | (map->write ? VM_WRITE : 0ul) | (map->exec ? VM_EXEC : 0ul) |
	       (map->shared ? VM_SHARED : 0ul) | (map->inode != 0 ? VM_FILE : 0ul);
}

static void classify_file(const struct import *im, const struct proc_map *map, struct vm_area_struct *vma)
{
	set_name(vma, map->name);
	if (map->inode == im->exe_inode && map->device == im->exe_device) {
		uintptr_t data = ALIGN_DOWN(im->mm.start_data, os_page_size);

		vma->kind = map->write || (data != 0 && map->start >= data && !map->exec) ? VMA_DATA : VMA_CODE;
	} else if (map->exec || strstr(map->name, ".so") != NULL) {
		vma->kind = VMA_LIBRARY;
	}
}

static void classify_anonymous(const struct import *im, const struct proc_map *map, struct vm_area_struct *vma)
{
	bool behind_data = im->last.vm_end == map->start && (im->last.vm_flags & VM_WRITE) && map->write;
	int tid;

	if (behind_data && im->last.kind == VMA_DATA) {
		vma->kind = VMA_BSS;
		set_name(vma, im->last.name);
	} else if (behind_data && im->last.kind == VMA_LIBRARY) {
		vma->kind = VMA_LIBRARY;
		set_name(vma, im->last.name);
	} else if ((tid = task_in_range(map->start, map->end)) != 0 && tid != os_getpid()) {
		vma->kind = VMA_STACK;
		vma->vm_flags |= VM_STACK;
		kmm_snprintf(vma->name, sizeof(vma->name), "[stack:%d]", tid);
	}
}

static void classify_special(const struct proc_map *map, struct vm_area_struct *vma)
{
	set_name(vma, map->name);
	if (strcmp(map->name, "[heap]") == 0) {
		vma->kind = VMA_HEAP;
		init_mm.brk = map->end;
	} else if (strncmp(map->name, "[stack", 6) == 0) {
		vma->kind = VMA_STACK;
		vma->vm_flags |= VM_STACK;
	} else if (strncmp(map->name, "[v", 2) == 0) {
		vma->kind = VMA_VDSO;
	}
}

/* Enters the part of vma below end as kind, and takes it off. */
static int import_head(const struct import *im, struct vm_area_struct *vma, uintptr_t end, enum vma_kind kind,
		       const char *name)
{
	struct vm_area_struct head = *vma;

	if (end <= vma->vm_start || end > vma->vm_end)
		return 0;
	head.vm_end = end;
	head.kind = kind;
	set_name(&head, name);
	vma->vm_start = end;
	return mm_import_range(im->generation, &head);
}

/* The stack of the main thread ends with the strings of the arguments and of the environment. */
static int import_main_stack(const struct import *im, struct vm_area_struct *vma)
{
	int ret = import_head(im, vma, im->mm.arg_start, VMA_STACK, vma->name);

	if (ret == 0)
		ret = import_head(im, vma, im->mm.arg_end, VMA_ARGS, "[args]");
	if (ret == 0)
		ret = import_head(im, vma, im->mm.env_start, VMA_STACK, "[stack]");
	if (ret == 0)
		ret = import_head(im, vma, im->mm.env_end, VMA_ENV, "[env]");
	if (ret == 0 && vma->vm_start < vma->vm_end)
		ret = mm_import_range(im->generation, vma);
	return ret;
}

/* The region of libkmm's own that addr lies in, or NULL and in *end where the next one above begins. */
static const struct region *region_at(uintptr_t addr, uintptr_t *end)
{
	*end = UINTPTR_MAX;
	for (unsigned i = 0; i < NR_REGIONS; i++) {
		const struct region *r = &regions[i];

		if (addr >= r->start && addr < r->end) {
			*end = r->end;
			return r;
		}
		if (r->start > addr && r->start < r->end)
			*end = min(*end, r->start);
	}
	return NULL;
}

/* Sections and metadata are mapped under locks that come after ours, so they are recognised here. */
static void classify_region(const struct region *r, struct vm_area_struct *vma)
{
	const void *p = (const void *)vma->vm_start;

	if (r == &regions[REGION_NORMAL] && virt_addr_valid(p) && virt_to_page(p)->flags != 0)
		vma->kind = VMA_KMM_NORMAL;
	else if (r == &regions[REGION_MAP] || r == &regions[REGION_VMEMMAP] || r == &regions[REGION_PERCPU])
		vma->kind = VMA_KMM_METADATA;
	else
		return;
	vma->vm_flags |= VM_KMM;
	set_name(vma, r->name);
}

/* A line of anonymous memory may reach over several regions: the kernel merges what looks alike. */
static int import_anonymous(struct import *im, const struct proc_map *map, struct vm_area_struct *vma)
{
	int ret = 0;

	while (ret == 0 && vma->vm_start < map->end) {
		struct vm_area_struct piece = *vma;
		uintptr_t end;
		const struct region *r = region_at(vma->vm_start, &end);

		piece.vm_end = min(map->end, end);
		if (r != NULL)
			classify_region(r, &piece);
		ret = mm_import_range(im->generation, &piece);
		vma->vm_start = piece.vm_end;
	}
	return ret;
}

static int import_map(const struct proc_map *map, void *arg)
{
	struct import *im = arg;
	struct vm_area_struct vma = { .vm_start = map->start, .vm_end = map->end, .vm_flags = map_flags(map) };

	if (map->inode != 0)
		classify_file(im, map, &vma);
	else if (map->name[0] == '[')
		classify_special(map, &vma);
	else
		classify_anonymous(im, map, &vma);
	im->last = vma;
	if (vma.kind == VMA_OTHER && map->inode == 0)
		return import_anonymous(im, map, &vma);
	if (im->mm.arg_start >= map->start && im->mm.arg_start < map->end && im->mm.env_end <= map->end)
		return import_main_stack(im, &vma);
	return mm_import_range(im->generation, &vma);
}

/* --- without /proc ------------------------------------------------------------------------------------ */

static int import_segment(const struct import *im, const ElfW(Phdr) *ph, uintptr_t base, bool exe, const char *name)
{
	uintptr_t start = base + ph->p_vaddr, file_end = start + ph->p_filesz, end = start + ph->p_memsz;
	struct vm_area_struct vma = { .vm_flags = (ph->p_flags & PF_R ? VM_READ : 0ul) |
						  (ph->p_flags & PF_W ? VM_WRITE : 0ul) |
						  (ph->p_flags & PF_X ? VM_EXEC : 0ul) };
	int ret;

	set_name(&vma, name);
	vma.vm_start = ALIGN_DOWN(start, os_page_size);
	vma.vm_end = ALIGN(file_end, os_page_size);
	vma.kind = !exe ? VMA_LIBRARY : ph->p_flags & PF_W ? VMA_DATA : VMA_CODE;
	vma.vm_flags |= VM_FILE;
	ret = vma.vm_start < vma.vm_end ? mm_import_range(im->generation, &vma) : 0;
	if (ret != 0 || ALIGN(end, os_page_size) <= vma.vm_end)
		return ret;
	vma.vm_start = vma.vm_end;
	vma.vm_end = ALIGN(end, os_page_size);
	vma.kind = exe ? VMA_BSS : VMA_LIBRARY;
	vma.vm_flags &= ~(unsigned long)VM_FILE;
	return mm_import_range(im->generation, &vma);
}

static int import_object(struct dl_phdr_info *info, size_t size, void *arg)
{
	const struct import *im = arg;
	const char *base = strrchr(info->dlpi_name, '/');
	bool exe = (uintptr_t)info->dlpi_phdr == os_auxval(AT_PHDR);
	bool vdso = os_auxval(AT_SYSINFO_EHDR) != 0 && info->dlpi_addr == os_auxval(AT_SYSINFO_EHDR);
	int ret = 0;

	(void)size;
	if (vdso)
		return 0;
	base = exe ? "[exe]" : base != NULL ? base + 1 : info->dlpi_name;
	for (unsigned i = 0; i < info->dlpi_phnum && ret == 0; i++)
		if (info->dlpi_phdr[i].p_type == PT_LOAD)
			ret = import_segment(im, &info->dlpi_phdr[i], info->dlpi_addr, exe, base);
	return ret;
}

/* What of the main stack is in use: from here, if this is the main thread, up to the name that exec was given. */
static int import_stack_from_auxv(const struct import *im)
{
	const char *execfn = (const char *)os_auxval(AT_EXECFN);
	uintptr_t here = (uintptr_t)__builtin_frame_address(0);
	struct vm_area_struct vma = { .vm_flags = VM_READ | VM_WRITE | VM_STACK, .kind = VMA_STACK, .name = "[stack]" };

	if (execfn == NULL)
		return 0;
	vma.vm_end = ALIGN((uintptr_t)execfn + strlen(execfn) + 1, os_page_size);
	vma.vm_start = ALIGN_DOWN(os_gettid() == os_getpid() ? here : (uintptr_t)execfn, os_page_size);
	return mm_import_range(im->generation, &vma);
}

static int import_without_proc(struct import *im)
{
	uintptr_t vdso = os_auxval(AT_SYSINFO_EHDR);
	struct vm_area_struct vma = { .vm_start = vdso, .vm_end = vdso + os_page_size, .kind = VMA_VDSO,
				      .vm_flags = VM_READ | VM_EXEC, .name = "[vdso]" };
	int ret = dl_iterate_phdr(import_object, im);

	if (ret == 0)
		ret = import_stack_from_auxv(im);
	if (ret == 0 && vdso != 0)
		ret = mm_import_range(im->generation, &vma);
	return ret;
}

/* ------------------------------------------------------------------------------------------------------ */

static void store_proc_mm(const struct proc_mm *from)
{
	struct mm_struct *mm = &init_mm;

	mm->start_code = from->start_code;
	mm->end_code = from->end_code;
	mm->start_data = from->start_data;
	mm->end_data = from->end_data;
	mm->start_brk = from->start_brk;
	mm->start_stack = from->start_stack;
	mm->arg_start = from->arg_start;
	mm->arg_end = from->arg_end;
	mm->env_start = from->env_start;
	mm->env_end = from->env_end;
}

int mm_import(void)
{
	struct import im = { 0 };
	int ret;

	im.generation = mm_import_begin();
	if (read_proc_mm(&im.mm) == 0)
		store_proc_mm(&im.mm);
	ret = for_each_proc_map(find_exe, &im);
	if (ret >= 0)
		ret = for_each_proc_map(import_map, &im);
	else
		ret = import_without_proc(&im);
	mm_import_end(im.generation, ret == 0);
	return ret;
}
