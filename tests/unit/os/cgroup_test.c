/* SPDX-License-Identifier: MIT */
/* cgroup_test.c - the real control group, read from a made-up /proc and hierarchy, and from the machine's. */
#include "os/cgroup.h"

#include "../made_up.h"
#include <sys/stat.h>
#include <unistd.h>

static void make_dir(const char *path)
{
	char name[256];

	snprintf(name, sizeof(name), "%s/%s", top, path);
	cr_assert_eq(mkdir(name, 0700), 0, "%s", name);
}

static void setup(void)
{
	strcpy(top, "/tmp/kmm-cgroup-XXXXXX");
	cr_assert_not_null(mkdtemp(top));
	make_dir("cg");
	make_dir("cg/a");
	make_dir("cg/a/b");
	cgroup_proc_dir = top;
}

static void teardown(void)
{
	char command[128];

	snprintf(command, sizeof(command), "rm -rf %s", top);
	cr_assert_eq(system(command), 0);
}

TestSuite(cgroup, .init = setup, .fini = teardown, .timeout = 30);

static struct os_cgroup found(void)
{
	struct os_cgroup cg;

	cr_assert_eq(os_cgroup_find(&cg), 0);
	return cg;
}

static struct os_cgroup_memory memory_of(const struct os_cgroup *cg)
{
	struct os_cgroup_memory mem;

	cr_assert_eq(os_cgroup_read_memory(cg, &mem), 0);
	return mem;
}

Test(cgroup, version_2_takes_the_least_on_the_way_up)
{
	struct os_cgroup_memory mem;
	struct os_cgroup cg;
	char path[256], want[256];

	write_file("cgroup", "0::/a/b\n");
	write_file("mountinfo", "31 23 0:28 / %s/cg rw,relatime shared:4 - cgroup2 cgroup2 rw\n", top);
	write_file("cg/a/memory.max", "1000000\n");
	write_file("cg/a/memory.high", "max\n");
	write_file("cg/a/memory.current", "900000\n");
	write_file("cg/a/b/memory.max", "5000000\n");
	write_file("cg/a/b/memory.high", "800000\n");
	write_file("cg/a/b/memory.current", "4096\n");
	cg = found();
	snprintf(want, sizeof(want), "%s/cg/a/b", top);
	cr_assert_str_eq(cg.dir, want);
	cr_assert_eq(cg.version, 2u);
	mem = memory_of(&cg);
	cr_assert_eq(mem.limit, 1000000u);
	cr_assert_eq(mem.high, 800000u);
	cr_assert_eq(mem.current, 4096u);
	cr_assert_eq(mem.room, 100000u);
	cr_assert_eq(os_cgroup_file(&cg, "memory.pressure", path, sizeof(path)), 0);
	snprintf(want, sizeof(want), "%s/cg/a/b/memory.pressure", top);
	cr_assert_str_eq(path, want);
	cr_assert_eq(os_cgroup_file(&cg, "memory.pressure", path, 8), -ENAMETOOLONG);
}

Test(cgroup, version_1_where_the_controller_is_mounted)
{
	struct os_cgroup_memory mem;
	struct os_cgroup cg;

	write_file("cgroup", "9:name=systemd:/\n5:cpu,cpuacct:/x\n4:memory:/a\n0::/\n");
	write_file("mountinfo",
		   "30 23 0:27 / /nowhere rw - cgroup cgroup rw,cpu,cpuacct\n"
		   "31 23 0:28 / %s/cg rw - cgroup cgroup rw,memory\n41 31 0:38 / /unified rw - cgroup2 cgroup2 rw\n", top);
	write_file("cg/memory.limit_in_bytes", "9223372036854771712\n");
	write_file("cg/memory.usage_in_bytes", "70000\n");
	write_file("cg/a/memory.limit_in_bytes", "65536\n");
	write_file("cg/a/memory.usage_in_bytes", "69632\n");
	cg = found();
	cr_assert_eq(cg.version, 1u);
	mem = memory_of(&cg);
	cr_assert_eq(mem.limit, 65536u);
	cr_assert_eq(mem.high, CGROUP_NONE);
	cr_assert_eq(mem.current, 69632u);
	cr_assert_eq(mem.room, 0u, "over its limit");
}

/* The container's mount shows the group as its root, whether the path is the host's or the namespace's. */
Test(cgroup, a_container_sees_its_own_group_as_the_root)
{
	static const char *const paths[] = { "/docker/0123", "/", "/../../other", "/elsewhere" };
	char want[256];

	snprintf(want, sizeof(want), "%s/cg", top);
	write_file("mountinfo", "31 23 0:28 /docker/0123 %s/cg ro - cgroup2 cgroup2 rw\n", top);
	write_file("cg/memory.max", "123456789\n");
	for (unsigned i = 0; i < ARRAY_SIZE(paths); i++) {
		struct os_cgroup cg;

		write_file("cgroup", "0::%s\n", paths[i]);
		cg = found();
		cr_assert_str_eq(cg.dir, want, "%s", paths[i]);
		cr_assert_eq(memory_of(&cg).limit, 123456789u);
	}
	write_file("cgroup", "0::/docker/0123/a\n");
	strcat(want, "/a");
	cr_assert_str_eq(found().dir, want);
}

Test(cgroup, odd_mounts_and_long_lines)
{
	char line[5000], command[128];

	make_dir("a b");
	write_file("cgroup", "0::/\n");
	memset(line, 'x', sizeof(line) - 1);
	line[sizeof(line) - 1] = '\0';
	write_file("mountinfo", "1 1 0:1 / /%s rw - overlay overlay rw\n31 23 0:28 / %s/a\\040b rw - cgroup2 none rw\n", line, top);
	snprintf(command, sizeof(command), "%s/a b", top);
	cr_assert_str_eq(found().dir, command);
}

Test(cgroup, nothing_there)
{
	struct os_cgroup_memory mem;
	struct os_cgroup cg;

	cr_assert_eq(os_cgroup_find(&cg), -ENOENT, "no files");
	write_file("cgroup", "5:cpu:/x\n");
	write_file("mountinfo", "rubbish\n\n - \n1 2\n");
	cr_assert_eq(os_cgroup_find(&cg), -ENOENT);
	write_file("cgroup", "0::/\n::\n:\n");
	write_file("mountinfo", "31 23 0:28 / %s/cg rw - cgroup2 none rw\n", top);
	cr_assert_eq(os_cgroup_find(&cg), 0);
	cr_assert_neq(os_cgroup_read_memory(&cg, &mem), 0, "the root group has no memory.max");
	cr_assert_eq(mem.limit, CGROUP_NONE);
	write_file("cg/memory.max", "rubbish\n");
	cr_assert_neq(os_cgroup_read_memory(&cg, &mem), 0);
	cr_assert_eq(mem.limit, CGROUP_NONE);
}

/* What this machine has, whatever it is: found and readable, or an error. */
Test(cgroup, of_this_machine)
{
	struct os_cgroup_memory mem;
	struct os_cgroup cg;

	cgroup_proc_dir = "/proc/self";
	if (os_cgroup_find(&cg) != 0 || os_cgroup_read_memory(&cg, &mem) != 0)
		return;
	cr_assert_eq(cg.dir[0], '/');
	cr_assert_gt(mem.limit, 0u);
	cr_assert(mem.limit == CGROUP_NONE || mem.room <= mem.limit);
}
