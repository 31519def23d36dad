/* SPDX-License-Identifier: MIT */
/* vdso_test.c - the vdso's clock_gettime() is found, and where there is none the system call serves. */
#include "os/vdso.h"

#include "../boot.h"
#include <elf.h>
#include <link.h>
#include <string.h>
#include <sys/auxv.h>

TestSuite(vdso, .timeout = 30);

static u64 read_ns(clock_gettime_fn fn)
{
	struct timespec ts = { 0 };

	cr_assert_eq(fn(CLOCK_MONOTONIC, &ts), 0);
	return (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
}

/* Inside the vdso's own mapping, unless the kernel gave none. */
Test(vdso, function_of_the_kernel)
{
	unsigned long image = getauxval(AT_SYSINFO_EHDR);
	clock_gettime_fn fn = vdso_clock_gettime(image);

	if (!image)
		cr_skip("this process has no vdso");
	cr_assert_geq((uintptr_t)fn, image);
	cr_assert_lt((uintptr_t)fn, image + KIB(64));
	cr_assert_leq(read_ns(fn), read_ns(os_clock_gettime));
}

Test(vdso, system_call_without_image)
{
	clock_gettime_fn fn = vdso_clock_gettime(0);
	u64 before = read_ns(os_clock_gettime);

	cr_assert_neq((uintptr_t)fn, (uintptr_t)vdso_clock_gettime(getauxval(AT_SYSINFO_EHDR)));
	cr_assert_geq(read_ns(fn), before);
	cr_assert_lt(fn((clockid_t)4711, &(struct timespec){ 0 }), 0);
}

/* An image of one symbol, with either kind of hash table. */
static struct image {
	ElfW(Ehdr) head;
	ElfW(Phdr) ph[2];
	ElfW(Dyn) dyn[5];
	ElfW(Sym) symbols[2];
	char strings[64];
	u32 hash[4], gnu_hash[8];
} image;

static unsigned long make_image(const char *name, bool gnu)
{
#define AT(member) offsetof(struct image, member)
	image = (struct image){
		.head = { .e_phoff = AT(ph), .e_phnum = 2 },
		.ph = { { .p_type = PT_LOAD }, { .p_type = PT_DYNAMIC, .p_offset = AT(dyn) } },
		.dyn = { { DT_SYMTAB, { AT(symbols) } }, { DT_STRTAB, { AT(strings) } },
			 { gnu ? DT_GNU_HASH : DT_HASH, { gnu ? AT(gnu_hash) : AT(hash) } } },
		.symbols = { { 0 }, { .st_name = 1, .st_shndx = 1, .st_value = 0x123 } },
		.hash = { 1, 2, 0, 0 },
		.gnu_hash = { 1, 1, 1, 0, 0, 0, 1, 1 },	/* one bucket, which begins with symbol 1; the chain ends there */
	};
	strcpy(image.strings + 1, name);
	return (unsigned long)&image;
}

Test(vdso, both_hash_tables)
{
#if defined(__aarch64__)
	const char *name = "__kernel_clock_gettime";
#else
	const char *name = "__vdso_clock_gettime";
#endif
	for (int gnu = 0; gnu < 2; gnu++) {
		cr_assert_eq((uintptr_t)vdso_clock_gettime(make_image(name, gnu)), (uintptr_t)&image + 0x123);
		cr_assert_eq((uintptr_t)vdso_clock_gettime(make_image("clock_getres", gnu)), (uintptr_t)vdso_clock_gettime(0));
	}
}
