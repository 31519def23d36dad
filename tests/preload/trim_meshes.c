/* SPDX-License-Identifier: MIT */
/*
 * trim_meshes.c - malloc_trim(0) has sparse slabs meshed, if KMM_COMPACT allows it; malloc_trim(1) does not. In a child made
 * behind libkmm's back, where there is no background thread although all variables say so, nobody waits for it.
 *
 * modes: auto lock
 */
#include "../common/torture.h"
#include <linux/userfaultfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

enum { NR = 60000, SIZE = 500, KEPT = 16 };
static unsigned char *object[NR];

static bool can_mesh(void)
{
	struct uffdio_api api = { .api = UFFD_API, .features = 1 << 16 | UFFD_FEATURE_EVENT_FORK };
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC);
	bool ok = fd >= 0 && ioctl(fd, UFFDIO_API, &api) == 0;

	close(fd);
	return ok;
}

/* Lines of a file in /proc/self with that text, or the number behind it. */
static long in_file(const char *path, const char *text, bool number)
{
	char line[512];
	FILE *f = fopen(path, "r");
	long n = 0;

	T_CHECK(f, "%s", path);
	while (fgets(line, sizeof(line), f)) {
		const char *at = strstr(line, text);

		if (at)
			n += number ? atol(at + strlen(text)) : 1;
	}
	fclose(f);
	return n;
}

static long nr_views(void)
{
	return in_file("/proc/self/maps", "kmm-mesh", false);
}

static long pss(void)
{
	return in_file("/proc/self/smaps_rollup", "Pss:", true);
}

static void make_sparse(void)
{
	struct rng r = rng_of(1);

	for (int i = 0; i < NR; i++) {
		object[i] = malloc(SIZE);
		T_CHECK(object[i], "no memory");
		memset(object[i], i, SIZE);
	}
	for (int i = 0; i < NR; i++) {
		if (rng_below(&r, KEPT) == 0)
			continue;
		free(object[i]);
		object[i] = NULL;
	}
}

static void check_objects(void)
{
	for (int i = 0; i < NR; i++)
		for (int k = 0; object[i] && k < SIZE; k++)
			T_CHECK(object[i][k] == (unsigned char)i, "byte %d of %d", k, i);
}

/* A thread that libkmm has seen. */
static void *sleeper(void *arg)
{
	free(malloc(200000));		/* no class shares with this one: the slow path */
	for (;;)
		pause();
	return arg;
}

/* Until the background thread is there. */
static void wait_for_thread(void)
{
	for (uint64_t end = t_now_ms() + 20000; in_file("/proc/self/status", "Threads:", true) < 3;) {
		T_CHECK(t_now_ms() < end, "there is no background thread");
		free(malloc(100000));
		usleep(10000);
	}
}

static void raw_child(void)
{
	pid_t pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
	int status;

	if (pid == 0) {
		uint64_t start = t_now_ms();

		malloc_trim(0);
		_exit(t_now_ms() - start > 5000);
	}
	T_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid, "raw clone");
	T_CHECK(status == 0, "the child waited for a thread that it does not have");
}

/* How many KiB malloc_trim(0) gets beyond malloc_trim(1). */
static long run(bool meshes)
{
	long before, after;

	pthread_detach(t_thread(sleeper, NULL));
	make_sparse();
	wait_for_thread();
	malloc_trim(1);
	T_CHECK(nr_views() == 0, "malloc_trim(1) has meshed");
	before = pss();
	T_CHECK(malloc_trim(0) == meshes || !meshes, "malloc_trim says that nothing went home");
	after = pss();
	check_objects();
	T_CHECK((nr_views() > 0) == meshes, "%ld views", nr_views());
	raw_child();
	check_objects();
	return before - after;
}

int main(int argc, char **argv)
{
	static const char *const modes[] = { "auto", "off" };
	int status;

	t_start("trim_meshes");
	t_watchdog(120);
	if (!t_on_kmm())
		return 77;
	if (argc > 1) {
		bool meshes = strcmp(argv[1], "off") != 0 && can_mesh();
		long gain = run(meshes);

		T_CHECK(!meshes || gain > 2000, "only %ld KiB went home", gain);
		return 0;
	}
	for (unsigned i = 0; i < NR_OF(modes); i++) {
		pid_t pid = fork();

		if (pid == 0) {
			setenv("KMM_COMPACT", modes[i], 1);
			setenv("KMM_KTHREAD", "1", 1);
			setenv("KMM_DECAY_MS", "86400000", 1);		/* nothing goes by itself */
			execl("/proc/self/exe", argv[0], modes[i], (char *)NULL);
			_exit(99);
		}
		T_CHECK(waitpid(pid, &status, 0) == pid && status == 0, "KMM_COMPACT=%s: %x", modes[i], status);
	}
	return 0;
}
