/* SPDX-License-Identifier: MIT */
/* dso_test.c - addresses of code: the program's, libc's, of a library that is closed again, of nothing. */
#include "mm/dso.h"

#include "../boot.h"
#include <dlfcn.h>
#include <sys/mman.h>

TestSuite(dso, .init = boot_auto, .timeout = 30);

Test(dso, libc)
{
	void *addr = dlsym(RTLD_DEFAULT, "qsort");
	char buf[96], want[96];
	struct dso dso;
	Dl_info info;

	cr_assert(addr && dladdr(addr, &info));
	if (!find_dso(addr, &dso))
		cr_skip_test("this libc cannot tell");
	cr_assert_str_eq(dso.name, strrchr(info.dli_fname, '/') + 1);
	cr_assert_eq(dso.base, (uintptr_t)info.dli_fbase);
	cr_assert((uintptr_t)addr >= dso.start && (uintptr_t)addr < dso.end);
	format_code_address(buf, sizeof(buf), addr);
	snprintf(want, sizeof(want), "%s+0x%lx", dso.name, (uintptr_t)addr - (uintptr_t)info.dli_fbase);
	cr_assert_str_eq(buf, want);
}

Test(dso, the_program)
{
	char buf[96];

	format_code_address(buf, sizeof(buf), (const void *)(uintptr_t)rng_next);
	cr_assert(strstr(buf, "the program+0x") || strstr(buf, "dso_test"), "%s", buf);
}

/* Code of no object, a mapping of nobody's: what the registry knows, or the bare address. */
Test(dso, nothing)
{
	void *p = mmap(NULL, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char buf[96], want[32];
	struct dso dso;

	cr_assert_not(find_dso(p, &dso));
	snprintf(want, sizeof(want), "0x%lx", (uintptr_t)p);
	format_code_address(buf, sizeof(buf), p);
	cr_assert_eq(strncmp(buf, want, strlen(want)), 0, "%s", buf);
	format_code_address(buf, sizeof(buf), (const void *)0x1000);
	cr_assert_str_eq(buf, "0x1000");
	format_code_address(buf, 8, p);
	cr_assert_eq(strlen(buf), 7u, "cut");
}
