/* SPDX-License-Identifier: MIT */
/*
 * cxx_dlopen.c - a C program that opens a C++ plugin with RTLD_LOCAL, so that libstdc++ arrives after libkmm and
 * outside the global scope. operator new must throw std::bad_alloc all the same, also when memory is really out.
 *
 * usage: cxx_dlopen PLUGIN
 * args: $here/cxx_plugin.so
 */
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

static size_t address_space_bytes(void)
{
	FILE *f = fopen("/proc/self/statm", "r");
	size_t pages = 0;

	if (f == NULL)
		return 0;
	if (fscanf(f, "%zu", &pages) != 1)
		pages = 0;
	fclose(f);
	return pages * (size_t)sysconf(_SC_PAGESIZE);
}

static int check_exhaustion(long (*plugin_exhaust)(size_t))
{
	static const size_t sizes[] = { 64, 3000, 100000, 4 << 20 };
	struct rlimit lim;
	int failures = 0;

	if (getrlimit(RLIMIT_AS, &lim) != 0)
		return 1;
	lim.rlim_cur = address_space_bytes() + (64u << 20);
	if (setrlimit(RLIMIT_AS, &lim) != 0)
		return 1;
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
		long n = plugin_exhaust(sizes[i]);

		if (n <= 0) {
			fprintf(stderr, "cxx_dlopen: exhausting memory by %zu bytes: %ld\n", sizes[i], n);
			failures++;
		}
	}
	return failures;
}

int main(int argc, char **argv)
{
	if (argc != 2) {
		fprintf(stderr, "usage: cxx_dlopen PLUGIN\n");
		return 2;
	}
	if (dlsym(RTLD_DEFAULT, "_ZSt15get_new_handlerv") != NULL) {
		fprintf(stderr, "cxx_dlopen: libstdc++ is there before the plugin: the test tests nothing\n");
		return 1;
	}

	void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);

	if (plugin == NULL) {
		fprintf(stderr, "cxx_dlopen: %s\n", dlerror());
		return 1;
	}
	if (dlsym(RTLD_DEFAULT, "_ZSt15get_new_handlerv") != NULL) {
		fprintf(stderr, "cxx_dlopen: libstdc++ came into the global scope: the test tests nothing\n");
		return 1;
	}

	int (*plugin_run)(void) = (int (*)(void))dlsym(plugin, "plugin_run");
	long (*plugin_exhaust)(size_t) = (long (*)(size_t))dlsym(plugin, "plugin_exhaust");

	if (plugin_run == NULL || plugin_exhaust == NULL) {
		fprintf(stderr, "cxx_dlopen: the plugin lacks its functions\n");
		return 1;
	}

	int failures = plugin_run();

	if (failures != 0)
		fprintf(stderr, "cxx_dlopen: plugin_run: %d checks failed\n", failures);
	failures += check_exhaustion(plugin_exhaust);
	dlclose(plugin);
	if (failures == 0)
		puts("cxx_dlopen: ok");
	return failures != 0;
}
