/* SPDX-License-Identifier: MIT */
/* pressure_test.c - what is written to ask the kernel for signals, on made-up files; and that the real ones can be asked. */
#include "os/pressure.h"

#include "../boot.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

static char top[64], psi[96];
static struct os_cgroup cg;

static void make_file(const char *path)
{
	int fd = open(path, O_CREAT | O_RDWR, 0600);

	cr_assert_geq(fd, 0, "%s", path);
	close(fd);
}

static void setup(void)
{
	strcpy(top, "/tmp/kmm-pressure-XXXXXX");
	cr_assert_not_null(mkdtemp(top));
	snprintf(psi, sizeof(psi), "%s/psi", top);
	pressure_psi_path = psi;
	snprintf(cg.dir, sizeof(cg.dir), "%s/cg", top);
	cr_assert_eq(mkdir(cg.dir, 0700), 0);
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", top);
	cr_assert_eq(system(command), 0);
}

TestSuite(pressure, .init = setup, .fini = teardown, .timeout = 30);

static const char *contents(const char *path)
{
	static char text[128];
	FILE *f = fopen(path, "r");

	cr_assert_not_null(f, "%s", path);
	text[fread(text, 1, sizeof(text) - 1, f)] = '\0';
	fclose(f);
	return text;
}

Test(pressure, nothing_to_open)
{
	cg.version = 2;
	cr_assert_eq(os_pressure_open(&cg), 0u);
	cr_assert_eq(os_pressure_poll(), 0u);
	cg.version = 1;
	cr_assert_eq(os_pressure_open(&cg), 0u);
	cr_assert_eq(os_pressure_open(NULL), 0u);
	cr_assert_eq(os_pressure_poll(), 0u);
}

/* Two triggers each, of a window that everybody may ask for. */
Test(pressure, psi_of_the_machine_and_of_the_group)
{
	char path[CGROUP_PATH_MAX + 32];

	make_file(psi);
	cr_assert_eq(os_pressure_open(NULL), 2u);
	os_pressure_forget();
	cg.version = 2;
	snprintf(path, sizeof(path), "%s/memory.pressure", cg.dir);
	make_file(path);
	cr_assert_eq(os_pressure_open(&cg), 4u);
	cr_assert_eq(os_pressure_poll(), 0u, "ordinary files never have urgent data");
	cr_assert_str_eq(contents(psi), "full 100000 2000000", "the last one written here");
	cr_assert_str_eq(contents(path), "full 100000 2000000");
	os_pressure_forget();
	cr_assert_eq(os_pressure_poll(), 0u);
}

/* Version 1: an eventfd is registered for a level; the file of the level need not stay open. */
Test(pressure, levels_of_version_1)
{
	char path[CGROUP_PATH_MAX + 32];
	int event, of;
	char level[16];
	u64 one = 1;

	cg.version = 1;
	snprintf(path, sizeof(path), "%s/memory.pressure_level", cg.dir);
	make_file(path);
	cr_assert_eq(os_pressure_open(&cg), 0u, "no cgroup.event_control");
	snprintf(path, sizeof(path), "%s/cgroup.event_control", cg.dir);
	make_file(path);
	cr_assert_eq(os_pressure_open(&cg), 2u);
	cr_assert_eq(sscanf(contents(path), "%d %d %15s", &event, &of, level), 3);
	cr_assert_str_eq(level, "critical", "the last one written here");
	cr_assert_eq(fcntl(of, F_GETFD), -1);
	cr_assert_eq(os_pressure_poll(), 0u);
	cr_assert_eq(write(event, &one, sizeof(one)), (ssize_t)sizeof(one));
	cr_assert_eq(os_pressure_poll(), OS_PRESSURE_FULL);
	cr_assert_eq(os_pressure_poll(), 0u, "each signal once");
}

/* Of the machine, whatever it grants. */
Test(pressure, real_sources)
{
	unsigned nr;

	pressure_psi_path = "/proc/pressure/memory";
	cgroup_proc_dir = "/proc/self";
	nr = os_pressure_open(os_cgroup_find(&cg) == 0 ? &cg : NULL);
	cr_assert_leq(nr, 6u);
	if (access(pressure_psi_path, W_OK) == 0)
		cr_assert_geq(nr, 2u);
	cr_assert_leq(os_pressure_poll(), OS_PRESSURE_SOME | OS_PRESSURE_FULL);
}
