// SPDX-License-Identifier: MIT
/* exec_file_test.c - programs and scripts are told apart; broken files are refused or read within their bounds. */
#include "../../../tools/kmm.h"
#include <criterion/criterion.h>
#include <dlfcn.h>
#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char path[] = "/tmp/exec_file_test.XXXXXX";

static void make_file(void)
{
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	close(fd);
}

static void remove_file(void)
{
	unlink(path);
}

TestSuite(exec_file, .init = make_file, .fini = remove_file);

static void put(const void *content, size_t size)
{
	FILE *file = fopen(path, "w");

	cr_assert_not_null(file);
	cr_assert_eq(fwrite(content, 1, size, file), size);
	cr_assert_eq(fclose(file), 0);
}

static int read_text(const char *text, struct exec_file *f)
{
	put(text, strlen(text));
	return read_exec_file(path, f);
}

/* This very program, to be damaged. */
static char *own_image(size_t *size)
{
	int fd = open("/proc/self/exe", O_RDONLY);
	struct stat st;
	char *image;

	cr_assert_eq(fstat(fd, &st), 0);
	*size = (size_t)st.st_size;
	image = malloc(*size);
	cr_assert_eq(read(fd, image, *size), (ssize_t)*size);
	close(fd);
	return image;
}

Test(exec_file, a_program)
{
	struct exec_file f;

	cr_assert_eq(read_exec_file("/proc/self/exe", &f), 0);
	cr_expect_eq(f.kind, EXEC_ELF);
	cr_expect_eq(f.elf_class, sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32);
	cr_expect_neq(f.machine, EM_NONE);
	cr_expect_eq(access(f.interp, X_OK), 0, "loader '%s'", f.interp);
	cr_expect_not(f.own_malloc);
}

Test(exec_file, a_library_that_defines_malloc)
{
	struct exec_file f;
	Dl_info info;

	cr_assert(dladdr(dlsym(RTLD_DEFAULT, "malloc"), &info));
	cr_assert_eq(read_exec_file(info.dli_fname, &f), 0);
	cr_expect(f.own_malloc, "%s", info.dli_fname);
}

Test(exec_file, scripts)
{
	static const struct {
		const char *text, *interp;
	} cases[] = {
		{ "#!/bin/sh\n", "/bin/sh" },
		{ "#! /usr/bin/perl -w\n", "/usr/bin/perl" },
		{ "#!\t/bin/x\targ\n", "/bin/x" },
		{ "#!/bin/sh", "/bin/sh" },
		{ "#!relative\nmore", "relative" },
	};
	struct exec_file f;
	char text[400];
	unsigned i;

	for (i = 0; i < ARRAY_SIZE(cases); i++) {
		cr_assert_eq(read_text(cases[i].text, &f), 0);
		cr_expect_eq(f.kind, EXEC_SCRIPT);
		cr_expect_str_eq(f.interp, cases[i].interp);
	}
	cr_expect_eq(read_text("#!\n/bin/sh", &f), -ENOEXEC);
	cr_expect_eq(read_text("#!  ", &f), -ENOEXEC);

	memset(text, 'x', sizeof(text));	/* as long as the kernel reads, and no further */
	memcpy(text, "#!/", 3);
	put(text, sizeof(text));
	cr_assert_eq(read_exec_file(path, &f), 0);
	cr_expect_eq(strlen(f.interp), 254);
}

Test(exec_file, other_files)
{
	struct exec_file f;

	cr_expect_eq(read_text("", &f), 0);
	cr_expect_eq(f.kind, EXEC_OTHER);
	cr_expect_eq(read_text("echo hello\n", &f), 0);
	cr_expect_eq(f.kind, EXEC_OTHER);
	cr_expect_eq(read_text("\177ELF", &f), -ENOEXEC);
	cr_expect_eq(read_exec_file("/nonexistent", &f), -ENOENT);
}

/* A loader's name and symbols at the very end, or beyond it. */
Test(exec_file, cut_programs)
{
	size_t size, cut;
	char *image = own_image(&size);
	struct exec_file f;

	for (cut = 1; cut < size; cut += 1 + cut / 40) {
		int err;

		put(image, cut);
		err = read_exec_file(path, &f);
		cr_expect(err == 0 || err == -ENOEXEC, "cut at %zu: %d", cut, err);
	}
	free(image);
}

/* Seeded: headers full of lies. A failure names its seed. */
Test(exec_file, damaged_programs)
{
	size_t size;
	char *image = own_image(&size), *copy = malloc(size);
	struct exec_file f;
	unsigned seed, i;

	for (seed = 0; seed < 300; seed++) {
		ElfW(Ehdr) ehdr;
		int err;

		srandom(seed);
		memcpy(copy, image, size);
		memcpy(&ehdr, copy, sizeof(ehdr));
		for (i = 0; i < 4; i++) {
			size_t where = random() % 3 ? (size_t)random() % 1024 : ehdr.e_shoff + (size_t)random() % 1024;

			copy[min(where, size - 1)] = (char)random();
		}
		put(copy, size);
		err = read_exec_file(path, &f);
		cr_assert(err == 0 || err == -ENOEXEC, "seed %u: %d", seed, err);
		cr_assert_lt(strnlen(f.interp, sizeof(f.interp)), sizeof(f.interp), "seed %u", seed);
	}
	free(copy);
	free(image);
}

Test(exec_file, privileges)
{
	cr_expect_null(secure_exec_reason(path));
	cr_expect_null(secure_exec_reason("/nonexistent"));
	cr_assert_eq(chmod(path, 04755), 0);
	cr_expect_null(secure_exec_reason(path), "one's own set-user-ID program gains nothing");
}
