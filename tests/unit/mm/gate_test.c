/* SPDX-License-Identifier: MIT */
/* gate_test.c - nobody is inside while a fork is under way, and nobody is left outside afterwards. */
#include "mm/gate.h"

#include "../boot.h"
#include "page/percpu.h"
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(gate, .init = boot_auto, .timeout = 120);

static u32 nr_in, nr_entries, forks_done;
static bool forking, stop;

static u32 gate_sum(void)
{
	u32 sum = 0;

	for (u32 cpu = 0; cpu < nr_percpu_areas(); cpu++)
		sum += pcpu_of(cpu)->gate;
	return sum;
}

Test(gate, nests)
{
	cr_assert_not(gate_is_inside());
	gate_enter();
	cr_assert(gate_is_inside());
	gate_enter();
	gate_enter();
	cr_assert_eq(gate_sum(), 1u, "counted once");
	gate_leave();
	gate_leave();
	cr_assert(gate_is_inside());
	gate_leave();
	cr_assert_not(gate_is_inside());
	cr_assert_eq(gate_sum(), 0u);
}

/* The forking thread itself may go in: handlers of other libraries call malloc. */
Test(gate, forking_thread_may_enter)
{
	gate_close();
	gate_enter();
	cr_assert(gate_is_inside());
	gate_leave();
	gate_open();
	gate_enter();		/* a fork in the middle of a slow path, from a signal handler */
	gate_close();
	gate_open();
	gate_leave();
	cr_assert_eq(gate_sum(), 0u);
}

/* Threads go in and out on all CPUs. */
static void walk_in_and_out(u64 *r)
{
	u32 before;

	gate_enter();
	before = __atomic_add_fetch(&nr_in, 1, __ATOMIC_SEQ_CST);
	CHECK(before <= MAX_THREADS);
	CHECK(!__atomic_load_n(&forking, __ATOMIC_SEQ_CST));
	if (rng_below(r, 50) == 0)
		pin_to(rng_below(r, 64));	/* leaves on another CPU than it entered on */
	if (rng_below(r, 100) == 0) {
		gate_enter();
		os_yield();
		gate_leave();
	}
	CHECK(!__atomic_load_n(&forking, __ATOMIC_SEQ_CST));
	__atomic_sub_fetch(&nr_in, 1, __ATOMIC_SEQ_CST);
	gate_leave();
	__atomic_add_fetch(&nr_entries, 1, __ATOMIC_RELAXED);
}

static void close_and_open(void)
{
	gate_close();
	__atomic_store_n(&forking, true, __ATOMIC_SEQ_CST);
	CHECK(__atomic_load_n(&nr_in, __ATOMIC_SEQ_CST) == 0);
	if (forks_done % 8 == 0)
		usleep(200);		/* long enough for the others to sleep on it */
	CHECK(__atomic_load_n(&nr_in, __ATOMIC_SEQ_CST) == 0);
	__atomic_store_n(&forking, false, __ATOMIC_SEQ_CST);
	forks_done++;
	gate_open();
}

static void *walker_or_forker(void *arg)
{
	u64 r = rng_of((uintptr_t)arg);

	if ((uintptr_t)arg < 2) {
		for (unsigned i = 0; i < rounds(300); i++) {
			close_and_open();
			usleep(20);
		}
		__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
		return NULL;
	}
	while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
		walk_in_and_out(&r);
	return NULL;
}

Test(gate, nobody_inside_while_closed)
{
	percpu_online(3);
	run_threads(8, walker_or_forker);
	cr_assert_eq(nr_in, 0u);
	cr_assert_eq(gate_sum(), 0u);
	cr_assert_gt(nr_entries, 1000u);
	cr_assert_geq(forks_done, rounds(300));
}

/* --- signals -------------------------------------------------------------------------------------------------- */

static u32 nr_handled;
static int walker_tid;

/* What a handler that calls malloc does. */
static void on_signal(int sig)
{
	(void)sig;
	gate_enter();
	CHECK(!__atomic_load_n(&forking, __ATOMIC_SEQ_CST));
	__atomic_add_fetch(&nr_handled, 1, __ATOMIC_RELAXED);
	gate_leave();
}

static void *walker_and_signaller(void *arg)
{
	u64 r = rng_of((uintptr_t)arg);

	switch ((uintptr_t)arg) {
	case 0:
		for (unsigned i = 0; i < rounds(300); i++) {
			close_and_open();
			usleep(i % 64);
		}
		__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
		break;
	case 1:
		__atomic_store_n(&walker_tid, os_gettid(), __ATOMIC_RELEASE);
		while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
			walk_in_and_out(&r);
		__atomic_store_n(&walker_tid, 0, __ATOMIC_RELEASE);
		break;
	default:
		while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE)) {
			int tid = __atomic_load_n(&walker_tid, __ATOMIC_ACQUIRE);

			if (tid)
				syscall(SYS_tgkill, getpid(), tid, SIGUSR1);
			usleep(30);
		}
	}
	return NULL;
}

/* A handler that runs while its thread waits at the closed gate must wait as well. */
Test(gate, signal_handlers_wait_too)
{
	struct sigaction sa = { .sa_handler = on_signal, .sa_flags = SA_RESTART };

	sigaction(SIGUSR1, &sa, NULL);
	run_threads(3, walker_and_signaller);
	cr_assert_eq(gate_sum(), 0u);
	cr_assert_gt(nr_handled, 10u);
}

/* --- real forks ----------------------------------------------------------------------------------------------- */

static void child(void)
{
	gate_reset_child();
	if (gate_is_inside() || gate_sum() != 0)
		_exit(1);
	gate_enter();
	if (gate_sum() != 1)
		_exit(2);
	gate_leave();
	gate_close();
	gate_open();
	_exit(gate_sum() == 0 ? 0 : 3);
}

static void *walker_or_real_forker(void *arg)
{
	u64 r = rng_of((uintptr_t)arg);
	int status;

	if ((uintptr_t)arg > 0) {
		while (!__atomic_load_n(&stop, __ATOMIC_ACQUIRE))
			walk_in_and_out(&r);
		return NULL;
	}
	for (unsigned i = 0; i < rounds(50); i++) {
		pid_t pid;

		gate_close();
		pid = (pid_t)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);		/* no handlers of libc: only ours */
		if (pid == 0)
			child();
		gate_open();
		CHECK(pid > 0 && waitpid(pid, &status, 0) == pid);
		CHECK(status == 0);
	}
	__atomic_store_n(&stop, true, __ATOMIC_RELEASE);
	return NULL;
}

Test(gate, child_begins_anew)
{
	run_threads(5, walker_or_real_forker);
	cr_assert_eq(gate_sum(), 0u);
}
