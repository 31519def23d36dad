// SPDX-License-Identifier: MIT
/*
 * cmd_run.c - kmm run: start a program on libkmm, or say why it cannot be.
 *
 * Purpose. Sets KMM_* from -o, puts the absolute path of libkmm.so behind what LD_PRELOAD has, and becomes PROGRAM.
 * A relative path would be lost when the program changes directory.
 *
 * Everything that can be known beforehand is checked beforehand, by the same table that the library reads its
 * settings with, and by looking at the file as execve(2) and the loader would (exec_file.c). A script is followed
 * to its interpreter; what that program then starts is its own affair.
 */
#include "kmm.h"
#include "base/param.h"
#include <ctype.h>
#include <elf.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define LIBRARY_NAME	   "libkmm.so"
#define SCRIPT_DEPTH_MAX   5	/* the kernel gives up there, too */

/* ---- settings ---- */

/* "decay_ms", "decay-ms" and "KMM_DECAY_MS" are the same setting. */
static void canonical_name(const char *arg, size_t len, char *name, size_t size)
{
	size_t i;

	if (len >= size)
		len = size - 1;
	for (i = 0; i < len; i++)
		name[i] = arg[i] == '-' ? '_' : (char)toupper((unsigned char)arg[i]);
	name[len] = '\0';
	if (!strncmp(name, PARAM_PREFIX, PARAM_PREFIX_LEN))
		memmove(name, name + PARAM_PREFIX_LEN, len - PARAM_PREFIX_LEN + 1);
}

static void set_option(const char *arg)
{
	const char *equals = strchr(arg, '=');
	char name[64], variable[80];
	const struct kernel_param *near;
	struct kmm_params scratch;

	if (!equals)
		die(EXIT_USAGE, "-o %s: NAME=VALUE is expected", arg);
	canonical_name(arg, (size_t)(equals - arg), name, sizeof(name));
	switch (parse_one_param(&scratch, name, strlen(name), equals + 1)) {
	case -ENOENT:
		near = find_nearest_param(name, strlen(name));
		die(EXIT_USAGE, "-o %s: unknown setting %s%s%s; kmm params lists them", arg, name,
		    near ? ", did you mean " : "", near ? near->name : "");
	case -EINVAL:
		die(EXIT_USAGE, "-o %s: accepted is %s", arg, find_param(name, strlen(name))->accepted);
	}
	snprintf(variable, sizeof(variable), PARAM_PREFIX "%s", name);
	if (setenv(variable, equals + 1, 1))
		die(EXIT_KMM, "no memory");
}

/* ---- the library ---- */

static bool try_library(char *path, const char *dir, const char *below)
{
	char name[PATH_MAX + 64];

	snprintf(name, sizeof(name), "%s/%s" LIBRARY_NAME, dir, below);
	return realpath(name, path) != NULL;
}

/* In the build tree, then where it is installed, then beside an installation that was moved as a whole. */
static void find_library(char *path)
{
	char dir[PATH_MAX] = "";
	ssize_t len = readlink("/proc/self/exe", dir, sizeof(dir) - 1);
	char *slash;

	if (len > 0) {
		dir[len] = '\0';
		slash = strrchr(dir, '/');
		*slash = '\0';
		if (try_library(path, dir, "../lib/.libs/"))
			return;
	}
	if (try_library(path, KMM_LIBDIR, ""))
		return;
	if (len > 0 && try_library(path, dir, "../lib/"))
		return;
	die(EXIT_KMM, LIBRARY_NAME " not found: not in %s%s" KMM_LIBDIR, dir, len > 0 ? "/../lib/.libs, not in " : "");
}

static void preload(const char *library)
{
	const char *old = getenv("LD_PRELOAD");
	size_t size = strlen(library) + (old ? strlen(old) : 0) + 2;
	char *value;

	if (library[strcspn(library, " :$")])
		die(EXIT_KMM, "%s: LD_PRELOAD cannot name a path with a space, a colon or a dollar sign", library);
	value = malloc(size);
	if (!value)
		die(EXIT_KMM, "no memory");
	if (old && *old)
		snprintf(value, size, "%s:%s", old, library);
	else
		snprintf(value, size, "%s", library);
	if (setenv("LD_PRELOAD", value, 1))
		die(EXIT_KMM, "no memory");
	free(value);
}

/* ---- the program ---- */

static bool is_executable(const char *path)
{
	struct stat st;

	return !stat(path, &st) && S_ISREG(st.st_mode) && !access(path, X_OK);
}

/* The file that execvp(3) would start. */
static void find_program(const char *name, char *path, size_t size)
{
	const char *dirs = getenv("PATH");
	bool exists = false;

	if (strchr(name, '/')) {
		snprintf(path, size, "%s", name);
		if (access(path, F_OK))
			die(EXIT_NOTFOUND, "%s: %s", name, strerror(errno));
		if (!is_executable(path))
			die(EXIT_CANNOT, "%s: not an executable file", name);
		return;
	}
	if (!dirs)
		dirs = "/bin:/usr/bin";
	for (;; dirs++) {
		int len = (int)strcspn(dirs, ":");

		snprintf(path, size, "%.*s%s%s", len, dirs, len ? "/" : "./", name);
		if (is_executable(path))
			return;
		exists |= !access(path, F_OK);
		dirs += len;
		if (!*dirs)
			break;
	}
	if (exists)
		die(EXIT_CANNOT, "%s: found in PATH, but not as an executable file", name);
	die(EXIT_NOTFOUND, "%s: not found in PATH", name);
}

static const char *base_name(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static void check_elf(const char *path, const struct exec_file *f, const struct exec_file *lib)
{
	const char *reason = secure_exec_reason(path);

	if (f->elf_class != lib->elf_class)
		die(EXIT_CANNOT, "%s is a %d-bit program, " LIBRARY_NAME " is for %d-bit ones", path,
		    f->elf_class == ELFCLASS64 ? 64 : 32, lib->elf_class == ELFCLASS64 ? 64 : 32);
	if (f->machine != lib->machine)
		die(EXIT_CANNOT, "%s is for another machine (ELF machine %u, " LIBRARY_NAME " has %u)", path,
		    f->machine, lib->machine);
	if (reason)
		die(EXIT_CANNOT, "%s is %s: the loader ignores LD_PRELOAD then", path, reason);
	/* The loader itself, started by hand ("ld-linux-x86-64.so.2 PROGRAM"), has no loader but does preload. */
	if (!*f->interp && strncmp(base_name(path), "ld-linux", 8) && strncmp(base_name(path), "ld.so", 5))
		die(EXIT_CANNOT, "%s is statically linked: its malloc cannot be replaced", path);
	if (strstr(f->interp, "ld-musl"))
		die(EXIT_CANNOT, "%s is linked to musl; libkmm needs glibc", path);
	if (*f->interp && access(f->interp, F_OK))
		die(EXIT_CANNOT, "%s: its loader %s is missing", path, f->interp);
	if (f->own_malloc)
		die(EXIT_CANNOT, "%s defines malloc itself: every call would go there, none to libkmm", path);
}

/* path: the file to start, overwritten with the interpreters that it leads to. */
static void check_program(char *path, size_t size, const char *library)
{
	struct exec_file f, lib;
	int depth, err;

	err = read_exec_file(library, &lib);
	if (err || lib.kind != EXEC_ELF)
		die(EXIT_KMM, "%s is not a shared library", library);

	for (depth = 0; depth < SCRIPT_DEPTH_MAX; depth++) {
		err = read_exec_file(path, &f);
		if (err)
			die(EXIT_CANNOT, "%s: %s", path, strerror(-err));
		if (f.kind == EXEC_ELF)
			check_elf(path, &f, &lib);
		if (f.kind == EXEC_UNREADABLE || f.kind == EXEC_ELF)
			return;
		if (f.kind == EXEC_OTHER)
			snprintf(f.interp, sizeof(f.interp), "/bin/sh");
		if (access(f.interp, F_OK))
			die(EXIT_NOTFOUND, "%s: its interpreter %s is not found", path, f.interp);
		if (!is_executable(f.interp))
			die(EXIT_CANNOT, "%s: its interpreter %s is not an executable file", path, f.interp);
		snprintf(path, size, "%s", f.interp);
	}
	die(EXIT_CANNOT, "%s: scripts lead to scripts too many times", path);
}

/* Value of an option in this argument ("-oX", "--library=X") or the next ("-o X", "--library X"), else NULL. */
static const char *option_value(const char *option, int *i, int argc, char **argv)
{
	size_t len = strlen(option);
	const char *rest = argv[*i] + len;

	if (strncmp(argv[*i], option, len))
		return NULL;
	if (option[1] == '-' && *rest == '=')
		return rest + 1;
	if (option[1] != '-' && *rest)
		return rest;
	if (*rest)
		return NULL;
	if (++*i >= argc)
		die(EXIT_USAGE, "%s needs a value; kmm run --help", option);
	return argv[*i];
}

int cmd_run(int argc, char **argv)
{
	char library[PATH_MAX] = "", program[PATH_MAX];
	const char *value;
	int i;

	for (i = 1; i < argc && argv[i][0] == '-'; i++) {
		if (!strcmp(argv[i], "--")) {
			i++;
			break;
		}
		if ((value = option_value("-o", &i, argc, argv)))
			set_option(value);
		else if (!(value = option_value("--library", &i, argc, argv)))
			die(EXIT_USAGE, "unknown option %s; kmm run --help", argv[i]);
		else if (!realpath(value, library))
			die(EXIT_KMM, "%s: %s", value, strerror(errno));
	}
	if (i == argc)
		die(EXIT_USAGE, "no program to run; kmm run --help");

	if (!*library)
		find_library(library);
	find_program(argv[i], program, sizeof(program));
	check_program(program, sizeof(program), library);
	preload(library);
	execvp(argv[i], argv + i);
	die(errno == ENOENT ? EXIT_NOTFOUND : EXIT_CANNOT, "%s: %s", argv[i], strerror(errno));
}
