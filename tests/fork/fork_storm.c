/* SPDX-License-Identifier: MIT */
/*
 * fork_storm.c - eight threads fork without pause while eight others allocate.
 *
 * Purpose: fork copies a heap that other threads are in the middle of changing. Both sides must go on: no
 * deadlock, nothing lost, nothing handed out twice.
 *
 * Objects: each forker holds objects of its own across the fork, so both sides know what they must contain.
 * Allocators keep private objects and exchange others through a ring, so that objects are freed by threads (and
 * CPUs) that did not allocate them. A child empties the caches it inherited, by more allocations of one size than
 * any cache holds: an object that the copied heap had in two places comes out twice and is seen.
 *
 * Locks: none of its own in the loops. Deadlocks are found by alarm(2) on each side.
 *
 * modes: auto lock norseq debug
 */
#include "../common/torture.h"

#define NR_ALLOCATORS 8
#define NR_FORKERS    8
#define NR_HELD	      64
#define NR_RING	      256
#define NR_CHILD      400
#define CHILD_SECONDS 60

static struct tobj *ring[NR_RING];
static struct tobj *atfork_obj;
static bool stop;
static uint64_t nr_ops, nr_forks;

static void *allocator(void *arg)
{
	struct rng r = rng_of(100 + (uintptr_t)arg);
	struct tobj *held[NR_HELD] = {NULL};
	uint64_t ops = 0;

	for (; !__atomic_load_n(&stop, __ATOMIC_RELAXED); ops++) {
		struct tobj **slot = &held[rng_below(&r, NR_HELD)];

		if (*slot) {
			tobj_free(*slot);
			*slot = NULL;
		} else {
			*slot = tobj_new(rng_size(&r, rng_one_in(&r, 64) ? 20 : 11));
		}
		if (*slot && rng_one_in(&r, 4)) {
			slot = &held[rng_below(&r, NR_HELD)];
			*slot = __atomic_exchange_n(&ring[rng_below(&r, NR_RING)], *slot, __ATOMIC_ACQ_REL);
			if (*slot)
				tobj_check(*slot);
		}
		if (rng_one_in(&r, 50000))
			malloc_trim(0);
	}
	for (unsigned i = 0; i < NR_HELD; i++)
		if (held[i])
			tobj_free(held[i]);
	__atomic_add_fetch(&nr_ops, ops, __ATOMIC_RELAXED);
	return NULL;
}

static void *child_thread(void *arg)
{
	struct rng r = rng_of(900 + (uintptr_t)arg);

	for (unsigned i = 0; i < 200; i++)
		tobj_free(tobj_new(rng_size(&r, 12)));
	return NULL;
}

static void reap(pid_t pid, const char *who)
{
	int status;

	while (waitpid(pid, &status, 0) < 0)
		T_CHECK(errno == EINTR, "waitpid: %s", strerror(errno));
	T_CHECK(!WIFSIGNALED(status), "%s %d was killed by signal %d", who, (int)pid, WTERMSIG(status));
	T_CHECK(WEXITSTATUS(status) == 0, "%s %d returned %d", who, (int)pid, WEXITSTATUS(status));
}

static void allocate_all(struct tobj **mine, struct rng *r)
{
	size_t size = rng_one_in(r, 2) ? 16 + 16 * rng_below(r, 64) : 0;

	for (unsigned i = 0; i < NR_CHILD; i++)
		mine[i] = tobj_new(size ? size : rng_size(r, rng_one_in(r, 100) ? 22 : 12));
}

static void enter_child(struct tobj **held)
{
	t_watchdog(CHILD_SECONDS);
	t_epoch = (uint16_t)getpid();
	tobj_check(atfork_obj);
	for (unsigned i = 0; i < NR_HELD; i++)
		tobj_check(held[i]);
}

__attribute__((noreturn)) static void leave_child(struct tobj **mine, struct tobj **held, struct rng *r)
{
	for (unsigned i = 0; i < NR_CHILD; i++)
		tobj_free(mine[i]);
	for (unsigned i = 0; i < NR_HELD; i++)
		tobj_free(held[i]);
	if (rng_one_in(r, 32))
		execl("/bin/true", "true", (char *)NULL);
	_exit(0);
}

static void grandchild(struct tobj **mine, struct tobj **held, struct rng *r)
{
	pid_t pid = fork();

	T_CHECK(pid >= 0, "fork in a child: %s", strerror(errno));
	if (pid > 0) {
		reap(pid, "grandchild");
		return;
	}
	enter_child(held);
	for (unsigned i = 0; i < NR_CHILD; i++)
		tobj_free(mine[i]);
	rng_next(r);
	allocate_all(mine, r);
	leave_child(mine, held, r);
}

/* What a child does with the heap it got. */
__attribute__((noreturn)) static void child(struct tobj **held, struct rng r)
{
	struct tobj *mine[NR_CHILD];

	enter_child(held);
	allocate_all(mine, &r);
	if (rng_one_in(&r, 8))
		grandchild(mine, held, &r);
	if (rng_one_in(&r, 16))
		pthread_join(t_thread(child_thread, held), NULL);
	leave_child(mine, held, &r);
}

static void *forker(void *arg)
{
	struct rng r = rng_of(500 + (uintptr_t)arg);
	struct tobj *held[NR_HELD];

	for (unsigned i = 0; i < NR_HELD; i++)
		held[i] = tobj_new(rng_size(&r, 12));
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		pid_t pid = fork();

		T_CHECK(pid >= 0, "fork: %s", strerror(errno));
		if (pid == 0)
			child(held, r);
		for (unsigned n = 0; n < 200; n++) {	/* the parent side is used at once */
			unsigned i = rng_below(&r, NR_HELD);

			tobj_free(held[i]);
			held[i] = tobj_new(rng_size(&r, 12));
		}
		reap(pid, "child");
		__atomic_add_fetch(&nr_forks, 1, __ATOMIC_RELAXED);
	}
	for (unsigned i = 0; i < NR_HELD; i++)
		tobj_free(held[i]);
	return NULL;
}

/* A program's own at-fork handlers allocate too. */
static __thread void *prepare_obj;

static void atfork_prepare(void)
{
	prepare_obj = malloc(100);
	T_CHECK(prepare_obj, "malloc in an at-fork handler: %s", strerror(errno));
}

static void atfork_done(void)
{
	free(prepare_obj);
	prepare_obj = malloc(200);
	free(prepare_obj);
}

int main(void)
{
	pthread_t threads[NR_ALLOCATORS + NR_FORKERS];
	uint64_t end;
	unsigned n = 0;

	t_start("fork_storm");
	t_watchdog(t_torture ? 900 : 120);
	atfork_obj = tobj_new(3000);
	pthread_atfork(atfork_prepare, atfork_done, atfork_done);
	for (uintptr_t i = 0; i < NR_ALLOCATORS; i++)
		threads[n++] = t_thread(allocator, (void *)i);
	for (uintptr_t i = 0; i < NR_FORKERS; i++)
		threads[n++] = t_thread(forker, (void *)i);
	for (end = t_deadline(5000); t_now_ms() < end;)
		usleep(50000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	while (n)
		pthread_join(threads[--n], NULL);
	for (unsigned i = 0; i < NR_RING; i++)
		if (ring[i])
			tobj_free(ring[i]);
	tobj_free(atfork_obj);
	T_CHECK(nr_forks >= NR_FORKERS && nr_ops > 1000, "only %llu forks and %llu operations", (unsigned long long)nr_forks,
		(unsigned long long)nr_ops);
	printf("fork_storm: %llu forks, %llu operations beside them\n", (unsigned long long)nr_forks,
	       (unsigned long long)nr_ops);
	return 0;
}
