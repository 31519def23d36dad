/* SPDX-License-Identifier: MIT */
/*
 * late_handlers.c - the ways into libc's fork, each as the first of its process.
 *
 * Purpose: at-fork handlers are registered when something that calls them is about to be called (lib/os/atfork.c). So for
 * fork(), forkpty(), daemon() and pthread_atfork() a process of its own is started, with threads that allocate all the
 * time, and forks in that way first. The child must find no lock held and no sheaf half changed: it checks and frees what it
 * inherited, allocates from all sizes, and forks again.
 *
 * modes: auto lock norseq
 */
#include "../common/torture.h"

#include <pty.h>
#include <spawn.h>
#include <sys/wait.h>

#define NR_ALLOCATORS 2
#define NR_HELD	      64

extern char **environ;

static bool stop;
static struct tobj *held[NR_HELD];

static void *allocator(void *arg)
{
	struct rng r = rng_of(100 + (uintptr_t)arg);

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		struct tobj *obj[NR_HELD];

		for (unsigned i = 0; i < NR_HELD; i++)
			obj[i] = tobj_new(rng_size(&r, 15));
		for (unsigned i = 0; i < NR_HELD; i++)
			tobj_free(obj[i]);
	}
	return NULL;
}

static void use_heap(void)
{
	struct rng r = rng_of(7);

	for (unsigned i = 0; i < NR_HELD; i++) {
		tobj_free(held[i]);
		held[i] = tobj_new(rng_size(&r, 17));
	}
}

/* What a child does; its status is 0 if it could. */
static __attribute__((noreturn)) void child(void)
{
	int status = -1;
	pid_t pid;

	use_heap();
	pid = fork();
	if (pid == 0) {
		use_heap();
		_exit(0);
	}
	T_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "the child's child: pid %d, status %x", (int)pid, status);
	_exit(0);
}

static void reap(const char *way, pid_t pid)
{
	int status = -1;

	T_CHECK(pid > 0 && waitpid(pid, &status, 0) == pid && status == 0, "%s: pid %d, status %x", way, (int)pid, status);
}

static unsigned nr_prepared;

static void count_prepare(void)
{
	free(malloc(100));
	nr_prepared++;
}

static void fork_by(const char *way)
{
	int master;
	pid_t pid;

	if (!strcmp(way, "daemon")) {
		T_CHECK(daemon(1, 1) == 0, "daemon: %s", strerror(errno));
		child();		/* whoever waits for the original sees how it went by the pipe */
	}
	if (!strcmp(way, "pthread_atfork"))
		T_CHECK(pthread_atfork(count_prepare, NULL, NULL) == 0, "pthread_atfork");
	if (strcmp(way, "forkpty")) {
		pid = fork();
		if (pid == 0)
			child();
		reap(way, pid);
		T_CHECK(nr_prepared == !strcmp(way, "pthread_atfork"), "%s: %u handlers ran", way, nr_prepared);
		return;
	}
	pid = forkpty(&master, NULL, NULL, NULL);
	if (pid < 0) {
		printf("forkpty: %s\n", strerror(errno));	/* no terminals here: left out */
		return;
	}
	if (pid == 0)
		child();
	reap(way, pid);
	close(master);
}

/* One process: threads, then a fork in one way. */
static int one_way(const char *way)
{
	pthread_t threads[NR_ALLOCATORS];

	for (unsigned i = 0; i < NR_HELD; i++)
		held[i] = tobj_new(16u << (i % 10));
	for (uintptr_t i = 0; i < NR_ALLOCATORS; i++)
		threads[i] = t_thread(allocator, (void *)i);
	usleep(2000);
	fork_by(way);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < NR_ALLOCATORS; i++)
		pthread_join(threads[i], NULL);
	use_heap();
	return 0;
}

/* The daemon holds the pipe's other end until it has ended; what it writes there says whether something was wrong. */
static void run(const char *self, const char *way)
{
	char *argv[] = { (char *)self, (char *)way, NULL }, buf[1024];
	posix_spawn_file_actions_t actions;
	int fds[2];
	size_t len = 0;
	ssize_t n;
	pid_t pid;

	T_CHECK(pipe(fds) == 0, "pipe: %s", strerror(errno));
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, fds[1], STDERR_FILENO);
	posix_spawn_file_actions_addclose(&actions, fds[0]);
	posix_spawn_file_actions_addclose(&actions, fds[1]);
	T_CHECK(posix_spawn(&pid, self, &actions, NULL, argv, environ) == 0, "posix_spawn: %s", strerror(errno));
	posix_spawn_file_actions_destroy(&actions);
	close(fds[1]);
	while (len < sizeof(buf) - 1 && (n = read(fds[0], buf + len, sizeof(buf) - 1 - len)) > 0)
		len += (size_t)n;
	buf[len] = '\0';
	T_CHECK(!strstr(buf, "FAILED"), "%s: %s", way, buf);
	close(fds[0]);
	reap(way, pid);
}

int main(int argc, char **argv)
{
	static const char *const ways[] = { "fork", "forkpty", "daemon", "pthread_atfork" };
	unsigned rounds;

	t_start("late_handlers");
	t_watchdog(t_torture ? 600 : 60);
	if (argc > 1)
		return one_way(argv[1]);
	rounds = t_torture ? 200 : 10;
	for (unsigned round = 0; round < rounds; round++)
		for (unsigned i = 0; i < NR_OF(ways); i++)
			run("/proc/self/exe", ways[i]);
	printf("late_handlers: %u rounds\n", rounds);
	return 0;
}
