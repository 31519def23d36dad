/* SPDX-License-Identifier: MIT */
/*
 * drain.c - the caches of a CPU are emptied by another while threads use them.
 *
 * Purpose: the drainer takes a sheaf from under threads that may be in the middle of a push or pop on it. It may
 * touch the sheaf only after membarrier(2) has thrown them out. Four threads push and pop stamped objects on two
 * CPUs, one drains. A drainer that is too early meets a pop or push on the same sheaf: an object is handed out
 * twice, which the stamps show, or lost, which the count of live objects shows.
 *
 * A section lasts a few nanoseconds, and the drainer looks twice, a microsecond apart: what it may overlook is a
 * section that was held up without being thrown out, by an interrupt. So each thread arms timers that will interrupt
 * it in the midst of its pairs: many at once, so that the interrupt takes longer than the drainer.
 *
 * The test tests itself: `mutation` runs the same in a child for which a seccomp filter turns every membarrier
 * into a success that does nothing. If that child does not fail, the test is worth nothing and says so.
 *
 * malloc_trim() drains every CPU.
 *
 * timeout: 200
 * modes: auto lock debug
 */
#include "../common/torture.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

#define NR_THREADS 4
#define NR_HELD	   96
#define NR_TIMERS  32	/* that one interrupt has to serve */
#define NR_MUTANTS 5	/* tries until one must have been caught */

static bool stop;
static uint64_t nr_ops, nr_drains;

/* A long interrupt on this CPU in a moment. Nobody waits for the timers, so nobody is scheduled. */
static void interrupt_soon(const int *timers, struct rng *r)
{
	struct itimerspec its = {.it_value.tv_sec = 0};

	clock_gettime(CLOCK_MONOTONIC, &its.it_value);
	its.it_value.tv_nsec += 40000 + rng_below(r, 20000);
	if (its.it_value.tv_nsec >= 1000000000)
		return;
	for (unsigned i = 0; i < NR_TIMERS; i++)
		timerfd_settime(timers[i], TFD_TIMER_ABSTIME, &its, NULL);
}

/* The pairs keep the sheaf's top moving all the time, the bursts empty and fill sheaves. */
static void *user(void *arg)
{
	struct rng r = rng_of(100 + (uintptr_t)arg);
	static const size_t sizes[] = {64, 64, 48, 256};
	void *held[NR_HELD];
	uint64_t ops = 0;
	uint32_t me = 1 + (uint32_t)(uintptr_t)arg;
	int timers[NR_TIMERS];

	for (unsigned i = 0; i < NR_TIMERS; i++)
		timers[i] = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	t_pin((unsigned)(uintptr_t)arg);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		unsigned n = rng_one_in(&r, 8) ? 1 + rng_below(&r, NR_HELD) : 1 + rng_below(&r, 4);
		size_t size = sizes[rng_below(&r, NR_OF(sizes))];

		interrupt_soon(timers, &r);
		for (unsigned repeat = 0; repeat < 3000; repeat += n, ops += n) {
			for (unsigned i = 0; i < n; i++) {
				held[i] = malloc(size);
				T_CHECK(held[i], "malloc: %s", strerror(errno));
				obj_claim(held[i], me);
			}
			for (unsigned i = n; i-- > 0;) {
				obj_release(held[i], me);
				free(held[i]);
			}
		}
	}
	for (unsigned i = 0; i < NR_TIMERS; i++)
		close(timers[i]);
	__atomic_add_fetch(&nr_ops, ops, __ATOMIC_RELAXED);
	return NULL;
}

static void *drainer(void *arg)
{
	(void)arg;
	t_pin(1);
	while (!__atomic_load_n(&stop, __ATOMIC_RELAXED)) {
		malloc_trim(0);
		nr_drains++;
		if (nr_drains % 16 == 0)
			sched_yield();
	}
	return NULL;
}

static void drain_under_load(unsigned ms)
{
	pthread_t threads[NR_THREADS + 1];
	uint64_t end;

	for (uintptr_t i = 0; i < NR_THREADS; i++)
		threads[i] = t_thread(user, (void *)i);
	threads[NR_THREADS] = t_thread(drainer, NULL);
	for (end = t_deadline(ms); t_now_ms() < end;)
		usleep(20000);
	__atomic_store_n(&stop, true, __ATOMIC_RELAXED);
	for (unsigned i = 0; i < NR_OF(threads); i++)
		pthread_join(threads[i], NULL);
	malloc_trim(0);
	malloc_trim(0);
	T_CHECK(nr_drains > 10 && nr_ops > 1000, "only %llu drains, %llu operations", (unsigned long long)nr_drains,
		(unsigned long long)nr_ops);
	printf("drain: %llu drains, %llu operations beside them\n", (unsigned long long)nr_drains, (unsigned long long)nr_ops);
}

/* Lost objects are memory that never comes back: 1 % of them would be many MiB. */
static void check_nothing_lost(void)
{
	struct mallinfo2 before, after;

	free(malloc(64));
	malloc_trim(0);
	before = mallinfo2();
	drain_under_load(2500);
	after = mallinfo2();
	T_CHECK(after.uordblks < before.uordblks + 65536, "%zu bytes were live before, %zu after", before.uordblks,
		after.uordblks);
}

static bool forget_membarrier(void)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_membarrier, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO),	/* error 0: done, says the kernel */
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = {.len = NR_OF(code), .filter = code};

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

#define EXIT_NO_SECCOMP 42

/* In a child, quietly: its end is all that counts. */
static int run_mutant(unsigned n)
{
	int status, null;
	pid_t pid;

	fflush(stdout);
	pid = fork();
	T_CHECK(pid >= 0, "fork: %s", strerror(errno));
	if (pid == 0) {
		t_seed += n;
		t_watchdog(30);
		null = open("/dev/null", O_WRONLY);
		dup2(null, STDOUT_FILENO);
		dup2(null, STDERR_FILENO);
		if (!forget_membarrier())
			_exit(EXIT_NO_SECCOMP);
		check_nothing_lost();
		_exit(0);
	}
	T_CHECK(waitpid(pid, &status, 0) == pid, "waitpid: %s", strerror(errno));
	return status;
}

static int mutation(void)
{
	const char *mode = getenv("KMM_PERCPU");

	if (!t_on_kmm() || (mode && !strcmp(mode, "lock"))) {
		printf("drain: no membarrier to forget here\n");
		return 0;
	}
	for (unsigned n = 0; n < NR_MUTANTS; n++) {
		int status = run_mutant(n);

		if (WIFEXITED(status) && WEXITSTATUS(status) == EXIT_NO_SECCOMP) {
			printf("drain: seccomp is not allowed here, no mutation\n");
			return 0;
		}
		if (status) {
			printf("drain: a drain without membarrier was caught in try %u (status %x)\n", n + 1, (unsigned)status);
			return 0;
		}
	}
	t_fail("%u runs without any membarrier went unnoticed: this test is blind", NR_MUTANTS);
}

int main(void)
{
	t_start("drain");
	t_watchdog(t_torture ? 900 : 120);
	t_nth_cpu(0);
	if (mutation())
		return 1;
	check_nothing_lost();
	return 0;
}
