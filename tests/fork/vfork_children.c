/* SPDX-License-Identifier: MIT */
/*
 * vfork_children.c - vfork children allocate in the memory of their parent.
 *
 * Purpose: a vfork child shares memory and thread pointer with the parent, whose thread sleeps, while the parent's
 * other threads run on. The kernel takes rseq away from such a child, so per-CPU caches that trust a CPU number in
 * the thread's area would be used on the wrong CPU: the same object comes out twice. Children move from CPU to
 * CPU while they allocate, all on two CPUs that the parent's threads use as well, to make that likely.
 *
 * Objects: stamped; the stamp is in memory that everybody shares, so the second owner sees the first. Children
 * leave some objects behind, which the parent checks and frees.
 *
 * posix_spawn, system and popen are mixed in: glibc makes their children in the same way without calling vfork.
 *
 * modes: auto lock norseq debug
 */
#include "../common/torture.h"

#include <spawn.h>
#include <sys/prctl.h>

#define NR_ALLOCATORS 3
#define NR_VFORKERS   3
#define NR_HELD	      48
#define CHILD_OWNER   0xc0000000u

extern char **environ;

static bool stop;
static uint64_t nr_vforks, nr_ops, nr_spawns, next_serial;

static const size_t sizes[] = {48, 64, 256, 1024};

static void *claim_new(struct rng *r, uint32_t owner)
{
	size_t size = sizes[rng_below(r, NR_OF(sizes))];
	void *p = rng_one_in(r, 8) ? calloc(1, size) : malloc(size);

	T_CHECK(p, "malloc(%zu): %s", size, strerror(errno));
	obj_claim(p, owner);
	return p;
}

static void release_free(void *p, uint32_t owner)
{
	obj_release(p, owner);
	free(p);
}

static void *allocator(void *arg)
{
	struct rng r = rng_of(100 + (uintptr_t)arg);
	void *held[NR_HELD];
	uint64_t ops = 0;
	uint32_t me = 1 + (uint32_t)(uintptr_t)arg;

	for (; !__atomic_load_n(&stop, __ATOMIC_RELAXED); ops++) {
		unsigned n = 1 + rng_below(&r, NR_HELD);

		for (unsigned i = 0; i < n; i++)
			held[i] = claim_new(&r, me);
		if (rng_one_in(&r, 2))
			for (unsigned i = 0; i < n; i++)
				release_free(held[i], me);
		else
			for (unsigned i = n; i-- > 0;)
				release_free(held[i], me);
		if (rng_one_in(&r, 64))
			t_pin(rng_below(&r, 2));
	}
	__atomic_add_fetch(&nr_ops, ops, __ATOMIC_RELAXED);
	return NULL;
}

/* What one child is to do, and what it left behind: memory of the parent. */
struct errand {
	struct rng r;
	uint32_t owner;
	unsigned nr_kept;
	void *kept[NR_HELD];
};

__attribute__((noinline, noreturn)) static void vfork_child(struct errand *e)
{
	unsigned n = 1 + rng_below(&e->r, NR_HELD);

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (unsigned i = 0; i < n; i++) {
		if (rng_one_in(&e->r, 4))
			t_pin(rng_below(&e->r, 2));
		e->kept[e->nr_kept++] = claim_new(&e->r, e->owner);
		if (rng_one_in(&e->r, 2))
			release_free(e->kept[--e->nr_kept], e->owner);
		if (rng_one_in(&e->r, 16))
			sched_yield();
	}
	while (e->nr_kept && rng_one_in(&e->r, 3) == 0)
		release_free(e->kept[--e->nr_kept], e->owner);
	if (rng_one_in(&e->r, 8))
		execl("/bin/true", "true", (char *)NULL);
	_exit(0);
}

static void must_return_0(int status, const char *who)
{
	T_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0, "%s ended with status %x", who, (unsigned)status);
}

static void run_vfork(struct errand *e)
{
	int status;
	pid_t pid = vfork();

	if (pid == 0)
		vfork_child(e);
	T_CHECK(pid > 0, "vfork: %s", strerror(errno));
	/* the child is gone, or has become another program: what it kept is ours now */
	for (unsigned i = 0; i < e->nr_kept; i++)
		release_free(e->kept[i], e->owner);
	e->nr_kept = 0;
	while (waitpid(pid, &status, 0) < 0)
		T_CHECK(errno == EINTR, "waitpid: %s", strerror(errno));
	must_return_0(status, "a vfork child");
}

static void run_posix_spawn(void)
{
	char *argv[] = {(char *)"true", NULL};
	posix_spawn_file_actions_t fa;
	int status, err;
	pid_t pid;

	posix_spawn_file_actions_init(&fa);
	posix_spawn_file_actions_addopen(&fa, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	err = posix_spawn(&pid, "/bin/true", &fa, NULL, argv, environ);
	T_CHECK(err == 0, "posix_spawn: %s", strerror(err));
	posix_spawn_file_actions_destroy(&fa);
	T_CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	must_return_0(status, "posix_spawn's child");
}

static void run_popen(void)
{
	char line[64] = "";
	FILE *f = popen("echo hello from a pipe", "r");

	T_CHECK(f, "popen: %s", strerror(errno));
	T_CHECK(fgets(line, sizeof(line), f) && !strcmp(line, "hello from a pipe\n"), "popen read '%s'", line);
	must_return_0(pclose(f), "popen's child");
}

static void *vforker(void *arg)
{
	struct errand e = {.r = rng_of(500 + (uintptr_t)arg)};
	struct rng r = rng_of(700 + (uintptr_t)arg);

	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		t_pin(rng_below(&r, 2));
		e.owner = CHILD_OWNER | (uint32_t)__atomic_fetch_add(&next_serial, 1, __ATOMIC_RELAXED);
		run_vfork(&e);
		__atomic_add_fetch(&nr_vforks, 1, __ATOMIC_RELAXED);
		/* the thread's own side must be right again */
		for (unsigned i = 0; i < 32; i++)
			release_free(claim_new(&r, e.owner), e.owner);
		if (!rng_one_in(&r, 40))
			continue;
		__atomic_add_fetch(&nr_spawns, 1, __ATOMIC_RELAXED);
		switch (rng_below(&r, 3)) {
		case 0:
			run_posix_spawn();
			break;
		case 1:
			must_return_0(system("exit 0"), "system's child");
			break;
		default:
			run_popen();
		}
	}
	return NULL;
}

int main(void)
{
	pthread_t threads[NR_ALLOCATORS + NR_VFORKERS];
	unsigned n = 0;
	uint64_t end;

	t_start("vfork_children");
	t_watchdog(t_torture ? 900 : 90);
	t_nth_cpu(0);
	t_pin_pair();
	for (uintptr_t i = 0; i < NR_ALLOCATORS; i++)
		threads[n++] = t_thread(allocator, (void *)i);
	for (uintptr_t i = 0; i < NR_VFORKERS; i++)
		threads[n++] = t_thread(vforker, (void *)i);
	for (end = t_deadline(4000); t_now_ms() < end;)
		usleep(50000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	while (n)
		pthread_join(threads[--n], NULL);
	T_CHECK(nr_vforks > 100, "only %llu vforks", (unsigned long long)nr_vforks);
	printf("vfork_children: %llu vforks, %llu other children, %llu rounds beside them\n", (unsigned long long)nr_vforks,
	       (unsigned long long)nr_spawns, (unsigned long long)nr_ops);
	return 0;
}
