/* SPDX-License-Identifier: MIT */
/*
 * vdso.c - the kernel's clock_gettime(), without libc between.
 *
 * Purpose. libc's own lies in a part of its text that small programs have no other use for, and the kernel maps that by
 * 64 KiB: 3 % of a program of 2 MiB. So the function is looked up in the vdso, an ELF image that the kernel
 * maps and names in the auxiliary vector, once. Where there is none (valgrind hides it) the system call serves.
 *
 * Fork and init. Looked up at the first call, by whoever comes first; all find the same.
 *
 * Source. The kernel's tools/testing/selftests/vDSO/parse_vdso.c; gABI, and DT_GNU_HASH, of which only the last chain
 * is walked, to know how many symbols there are.
 */
#include "os/vdso.h"

#include "base/align.h"
#include "os/syscall.h"
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

#if defined(__aarch64__)
#define VDSO_CLOCK_GETTIME "__kernel_clock_gettime"
#else
#define VDSO_CLOCK_GETTIME "__vdso_clock_gettime"
#endif

struct vdso {
	uintptr_t bias;			/* what must be added to its addresses */
	const ElfW(Sym) *symbols;
	const char *strings;
	const u32 *hash, *gnu_hash;
};

static int clock_by_syscall(clockid_t id, struct timespec *ts)
{
	return (int)raw_syscall2(SYS_clock_gettime, id, (long)ts);
}

static __init void read_dynamic(struct vdso *vdso, const ElfW(Dyn) *dyn)
{
	for (; dyn->d_tag != DT_NULL; dyn++) {
		const void *p = (const void *)(vdso->bias + dyn->d_un.d_ptr);

		switch (dyn->d_tag) {
		case DT_SYMTAB: vdso->symbols = p; break;
		case DT_STRTAB: vdso->strings = p; break;
		case DT_HASH: vdso->hash = p; break;
		case DT_GNU_HASH: vdso->gnu_hash = p; break;
		}
	}
}

static __init bool read_image(struct vdso *vdso, const ElfW(Ehdr) *image)
{
	const ElfW(Phdr) *ph = (const void *)((const char *)image + image->e_phoff);
	const ElfW(Phdr) *load = NULL, *dynamic = NULL;

	for (unsigned i = 0; i < image->e_phnum; i++) {
		if (ph[i].p_type == PT_LOAD && !load)
			load = &ph[i];
		if (ph[i].p_type == PT_DYNAMIC)
			dynamic = &ph[i];
	}
	if (!load || !dynamic)
		return false;
	vdso->bias = (uintptr_t)image + load->p_offset - load->p_vaddr;
	read_dynamic(vdso, (const void *)((const char *)image + dynamic->p_offset));
	return vdso->symbols && vdso->strings;
}

static __init u32 nr_symbols(const struct vdso *vdso)
{
	const u32 *buckets, *chain;
	u32 last = 0;

	if (vdso->hash)
		return vdso->hash[1];
	if (!vdso->gnu_hash)
		return 0;
	/* number of buckets, first symbol, words of the filter, its shift; filter, buckets, chains */
	buckets = vdso->gnu_hash + 4 + vdso->gnu_hash[2] * (sizeof(ElfW(Addr)) / sizeof(u32));
	chain = buckets + vdso->gnu_hash[0];
	for (u32 i = 0; i < vdso->gnu_hash[0]; i++)
		last = max(last, buckets[i]);
	if (last < vdso->gnu_hash[1])
		return 0;
	while (!(chain[last - vdso->gnu_hash[1]] & 1))
		last++;
	return last + 1;
}

static __init clock_gettime_fn find_clock(const ElfW(Ehdr) *image)
{
	struct vdso vdso = { 0 };

	if (!image || !read_image(&vdso, image))
		return NULL;
	for (u32 i = 0, nr = nr_symbols(&vdso); i < nr; i++)
		if (vdso.symbols[i].st_shndx != SHN_UNDEF &&
		    strcmp(vdso.strings + vdso.symbols[i].st_name, VDSO_CLOCK_GETTIME) == 0)
			return (clock_gettime_fn)(vdso.bias + vdso.symbols[i].st_value);
	return NULL;
}

__init clock_gettime_fn vdso_clock_gettime(unsigned long image)
{
	clock_gettime_fn fn = find_clock((const ElfW(Ehdr) *)image);

	return fn ? fn : clock_by_syscall;
}

static __init int first_clock(clockid_t id, struct timespec *ts)
{
	clock_gettime_fn fn = vdso_clock_gettime(getauxval(AT_SYSINFO_EHDR));

	WRITE_ONCE(os_clock_gettime, fn);
	return fn(id, ts);
}

clock_gettime_fn os_clock_gettime = first_clock;
