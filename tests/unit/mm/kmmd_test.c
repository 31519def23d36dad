/* SPDX-License-Identifier: MIT */
/*
 * kmmd_test.c - kmmd: when it starts and when not, that it goes unnoticed, what it loads, that it sleeps and wakes, fork
 * and exit in the middle.
 */
#include "mm/kmmd.h"

#include "arch/topology.h"
#include "base/param.h"
#include "base/printk.h"
#include "mm/mm_struct.h"
#include "os/os.h"
#include "os/vm.h"
#include "page/vmstat.h"
#include <criterion/criterion.h>
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { AUTO, NEVER, ALWAYS };

static int second_state;

static void *second_thread(void *arg)
{
	current_task();
	__atomic_store_n(&second_state, 1, __ATOMIC_RELEASE);
	while (__atomic_load_n(&second_state, __ATOMIC_ACQUIRE) != 2)
		usleep(1000);
	return arg;
}

static void setup(void)
{
	os_init();
	cr_assert_eq(mm_init(), 0);
	cr_assert_not_null(current_task());
	kmmd_init();
	kmm_params.decay_ms = 100;
	kmmd_load_after_ms = 0;
	kmmd_wanted = true;
}

static void start_second_thread(void)
{
	pthread_t second;

	cr_assert_eq(pthread_create(&second, NULL, second_thread, NULL), 0);
	pthread_detach(second);
	while (__atomic_load_n(&second_state, __ATOMIC_ACQUIRE) != 1)
		usleep(1000);
}

TestSuite(kmmd, .init = setup, .timeout = 60);

/* As a slow path does it; our own text is the program's. */
static void consider(void)
{
	usleep(120000);		/* it looks ten times a second at most */
	kmmd_consider((const void *)(uintptr_t)&consider);
}

static void wait_until_loaded(void)
{
	for (unsigned i = 0; i < 20000 && !(topology_loaded() && kmm_rcu_loaded()); i++)
		usleep(1000);
	cr_assert(kmmd_running());
	cr_assert(topology_loaded());
	cr_assert(kmm_rcu_loaded());
}

static unsigned nr_threads(int *other, const char *comm)
{
	DIR *dir = opendir("/proc/self/task");
	struct dirent *de;
	unsigned nr = 0;
	char name[16];

	while ((de = readdir(dir)) != NULL) {
		if (de->d_name[0] == '.')
			continue;
		nr++;
		if (os_thread_comm(atoi(de->d_name), name) == 0 && comm != NULL && strcmp(name, comm) == 0)
			*other = atoi(de->d_name);
	}
	closedir(dir);
	return nr;
}

static u32 since_ms;
static unsigned nr_too_old;

static bool scan_one_thing(struct scan_control *sc)
{
	if (scan_is_old(sc, since_ms, sc->max_age_ms))
		__atomic_add_fetch(&nr_too_old, 1, __ATOMIC_RELAXED);
	return false;
}

/* It sleeps until something is old enough; a shorter decay time is heard at once. */
Test(kmmd, hears_of_a_new_decay_time)
{
	static struct shrinker thing = { .name = "thing", .scan = scan_one_thing };

	kmm_params.decay_ms = 86400000;
	since_ms = (u32)os_clock_ms();
	register_shrinker(&thing);
	start_second_thread();
	consider();
	for (unsigned i = 0; i < 20000 && global_vm_event(VM_kswapd_pass) == 0; i++)
		usleep(1000);
	cr_assert_gt(global_vm_event(VM_kswapd_pass), 0u);
	cr_assert_eq(__atomic_load_n(&nr_too_old, __ATOMIC_RELAXED), 0u);
	WRITE_ONCE(kmm_params.decay_ms, 10);
	kmmd_wake();
	for (unsigned i = 0; i < 20000 && __atomic_load_n(&nr_too_old, __ATOMIC_RELAXED) == 0; i++)
		usleep(1000);
	cr_assert_gt(__atomic_load_n(&nr_too_old, __ATOMIC_RELAXED), 0u);
}

Test(kmmd, not_in_a_single_threaded_program)
{
	unsigned nr_before = nr_threads(NULL, NULL);

	consider();
	cr_assert(!kmmd_running());
	cr_assert(!kmmd_wanted, "until memory or threads have grown");
	cr_assert_eq(nr_threads(NULL, NULL), nr_before);
	start_second_thread();
	cr_assert(!kmmd_wanted, "there is nothing to give back");
}

/* Criterion's own thread is one that no slow path has told us of; a child has none. */
Test(kmmd, threads_without_a_slow_path)
{
	int status;
	pid_t pid;

	cr_assert_eq(os_nr_threads(), nr_threads(NULL, NULL));
	pid = fork();
	if (pid == 0) {
		kmmd_note_thread();
		consider();
		_exit(os_nr_threads() == 1 && !kmmd_running() ? 0 : 1);
	}
	cr_assert_eq(waitpid(pid, &status, 0), pid);
	cr_assert_eq(status, 0);
	kmmd_note_thread();
	consider();
	cr_assert(kmmd_running());
}

Test(kmmd, not_when_switched_off)
{
	start_second_thread();
	kmm_params.kthread = NEVER;
	consider();
	cr_assert(!kmmd_running());
	cr_assert(!kmmd_wanted);
}

Test(kmmd, wanted_at_the_second_thread)
{
	kmmd_wanted = false;
	kmm_params.kthread = AUTO;
	start_second_thread();
	cr_assert(!kmmd_wanted);
	kmm_params.kthread = ALWAYS;
	second_state = 0;
	start_second_thread();
	cr_assert(kmmd_wanted);
	consider();
	wait_until_loaded();
}

Test(kmmd, not_for_calls_from_libc_or_the_loader)
{
	void *in_loader = dlsym(RTLD_DEFAULT, "__tls_get_addr");

	start_second_thread();
	usleep(120000);
	kmmd_consider(dlsym(RTLD_DEFAULT, "qsort"));
	cr_assert(!kmmd_running());
	cr_assert_not_null(in_loader);
	kmmd_consider(in_loader);
	cr_assert(!kmmd_running());
	kmmd_consider((const void *)(uintptr_t)&setup);
	cr_assert(kmmd_running() || topology_loaded());
	wait_until_loaded();
}

static int consider_in_vfork_child(void *arg)
{
	(void)arg;
	kmmd_consider((const void *)(uintptr_t)&setup);
	return kmmd_running();
}

Test(kmmd, not_in_a_vfork_child)
{
	static char stack[65536] __aligned(64);
	int status = -1;
	pid_t pid;

	start_second_thread();
	usleep(120000);
	pid = clone(consider_in_vfork_child, stack + sizeof(stack), CLONE_VM | CLONE_VFORK | SIGCHLD, NULL);
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0);
	consider();
	wait_until_loaded();
}

static size_t much;

static size_t count_much(void)
{
	return much;
}

static bool shrink_much(struct scan_control *sc)
{
	size_t part = min(sc->nr_to_reclaim, min(much, MIB(1)));

	if (much && !scan_is_old(sc, 0, sc->max_age_ms))
		return false;
	__atomic_sub_fetch(&much, part, __ATOMIC_RELAXED);
	scan_account(sc, part);
	return much != 0;
}

static struct shrinker much_shrinker = { .name = "much", .scan = shrink_much, .count = count_much };

/* One that holds much free memory gets the thread, but no libraries. */
Test(kmmd, in_a_large_single_threaded_program)
{
	register_shrinker(&much_shrinker);
	much = KSWAPD_EARNED - 1;
	consider();
	cr_assert(!kmmd_running());
	much = KSWAPD_EARNED;
	for (unsigned i = 0; i < 1000 && !kmmd_running(); i++) {
		kmmd_wanted = true;
		kmmd_consider((const void *)(uintptr_t)&consider);
	}
	cr_assert(kmmd_running());
	for (unsigned i = 0; i < 10000 && __atomic_load_n(&much, __ATOMIC_RELAXED); i++)
		usleep(1000);
	cr_assert_eq(much, 0u);
	cr_assert(!topology_loaded() && !kmm_rcu_loaded());
}

Test(kmmd, threads_and_free_memory_are_a_reason)
{
	kmmd_wanted = false;
	register_shrinker(&much_shrinker);
	much = KSWAPD_WORTH;
	start_second_thread();
	cr_assert(kmmd_wanted);
	consider();
	wait_until_loaded();
}

static void wait_for_sleep(u64 sleeps)
{
	for (unsigned i = 0; i < 10000 && global_vm_event(VM_kswapd_sleep) < sleeps; i++)
		usleep(1000);
	cr_assert_eq(global_vm_event(VM_kswapd_sleep), sleeps);
	usleep(20000);
}

static unsigned long wakeups_of(int tid)
{
	char path[64], line[256];
	unsigned long n, sum = 0;
	FILE *f;

	kmm_snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	f = fopen(path, "r");
	while (fgets(line, sizeof(line), f) != NULL)
		if (sscanf(line, "voluntary_ctxt_switches: %lu", &n) == 1 ||
		    sscanf(line, "nonvoluntary_ctxt_switches: %lu", &n) == 1)
			sum += n;
	fclose(f);
	return sum;
}

Test(kmmd, loads_and_sleeps)
{
	unsigned nr_before = nr_threads(NULL, NULL);	/* Criterion has a thread of its own */
	int errno_before = errno = 77, tid = 0;
	unsigned long wakeups;
	char name[16];

	start_second_thread();
	errno = errno_before;
	consider();
	cr_assert_eq(errno, 77);
	wait_until_loaded();
	wait_for_sleep(1);
	cr_assert(kmmd_wanted, "the next slow path wakes it");
	cr_assert_eq(nr_threads(&tid, "kmmd"), nr_before + 2);
	cr_assert_neq(tid, 0);
	cr_assert_eq(os_thread_comm(getpid(), name), 0);
	cr_assert_str_neq(name, "kmmd");
	cr_assert_geq(fcntl(0, F_GETFD), 0, "it closed our descriptors");
	cr_assert_geq(fcntl(2, F_GETFD), 0);
	wakeups = wakeups_of(tid);
	sleep(2);
	cr_assert_eq(wakeups_of(tid), wakeups, "it sleeps for good");
}

/* A slow path wakes it, and not more than once; what is there ages and goes; it sleeps again. */
Test(kmmd, wakes_and_sleeps_again)
{
	u64 passes;

	register_shrinker(&much_shrinker);
	start_second_thread();
	consider();
	wait_for_sleep(1);
	for (u64 n = 2; n < 5; n++) {
		passes = global_vm_event(VM_kswapd_pass);
		much = MIB(20);
		usleep(200000);
		cr_assert_eq(much, MIB(20), "nobody has called");
		cr_assert(kmmd_wanted);
		consider();
		cr_assert(!kmmd_wanted);
		consider();
		wait_for_sleep(n);
		cr_assert_eq(much, 0u);
		cr_assert_geq(global_vm_event(VM_kswapd_pass), passes + 3);
		cr_assert_leq(global_vm_event(VM_kswapd_pass), passes + 30);
	}
	cr_assert_gt(kmmd_cpu_ns(), 0u);
	cr_assert_lt(kmmd_cpu_ns(), 1000000000u, "it sleeps most of the time");
}

/* With its lock taken from it, kmmd can be looked at. */
Test(kmmd, goes_unnoticed)
{
	char path[64], line[256];
	unsigned long long blocked = 0;
	int tid = 0, nr_fds = 0;
	struct dirent *de;
	DIR *dir;
	FILE *f;

	start_second_thread();
	mutex_lock(&kmmd_lock, LOCK_kmmd);
	consider();
	for (unsigned i = 0; i < 5000 && tid == 0; i++, usleep(1000))
		nr_threads(&tid, "kmmd");
	cr_assert_neq(tid, 0, "no thread of that name");
	usleep(100000);
	kmm_snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	f = fopen(path, "r");
	while (fgets(line, sizeof(line), f) != NULL)
		sscanf(line, "SigBlk: %llx", &blocked);
	fclose(f);
	/* all of 64 but SIGKILL, SIGSTOP and the two that glibc keeps for itself */
	cr_assert_eq(blocked | 1ull << 8 | 1ull << 18 | 1ull << 31 | 1ull << 32, ~0ull, "%llx", blocked);
	kmm_snprintf(path, sizeof(path), "/proc/self/task/%d/fd", tid);
	dir = opendir(path);
	while ((de = readdir(dir)) != NULL)
		nr_fds += de->d_name[0] != '.';
	closedir(dir);
	cr_assert_eq(nr_fds, 0, "%d descriptors", nr_fds);
	mutex_unlock(&kmmd_lock, LOCK_kmmd);
	wait_until_loaded();
}

/* --- fork ---------------------------------------------------------------------------------------------- */

static void prepare(void)
{
	mutex_lock(&kmmd_lock, LOCK_kmmd);
	kmm_rcu_before_fork();
}

static void parent(void)
{
	kmm_rcu_after_fork_parent();
	mutex_unlock(&kmmd_lock, LOCK_kmmd);
}

static void child(void)
{
	kmm_rcu_after_fork_child();
	mutex_unlock(&kmmd_lock, LOCK_kmmd);
	tasks_reset_child();
	kmmd_reset_child();
}

/* In the child the loader works, and kmmd can be had. Exit status. */
static int use_child(void)
{
	struct vm_area_struct vma;
	void *lib = dlopen("libm.so.6", RTLD_NOW);

	if (lib == NULL || kmmd_running())
		return 1;
	dlclose(lib);
	kmmd_wanted = true;
	second_state = 0;
	start_second_thread();
	consider();
	for (unsigned i = 0; i < 20000 && !(topology_loaded() && kmm_rcu_loaded()); i++)
		usleep(1000);
	if (!topology_loaded() || !kmm_rcu_loaded() || !kmmd_running())
		return 2;
	mm_map(0x200000000000, 0x200000001000, VM_READ, VMA_KMM_NORMAL, "x");
	if (!find_vma(0x200000000000, &vma) || !current_task()->rcu_registered)
		return 3;
	return mm_import() == 0 ? 0 : 4;
}

Test(kmmd, fork_while_it_loads)
{
	unsigned nr = 0;

	pthread_atfork(prepare, parent, child);
	start_second_thread();
	consider();
	do {
		int status = -1;
		pid_t pid = fork();

		if (pid == 0) {
			alarm(30);
			_exit(use_child());
		}
		waitpid(pid, &status, 0);
		cr_assert_eq(status, 0, "child %u: status %x", nr, status);
	} while (++nr < 8);
	wait_until_loaded();
}

/* --- the end ------------------------------------------------------------------------------------------- */

static void run_in_child(void (*fn)(void))
{
	int status = -1;
	pid_t pid = fork();

	if (pid == 0) {
		tasks_reset_child();
		kmmd_init();
		alarm(10);
		start_second_thread();
		usleep(120000);
		kmmd_consider((const void *)(uintptr_t)&setup);
		if (!kmmd_running())
			_exit(99);
		fn();
	}
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0, "status %x", status);
}

static void exit_now(void)
{
	exit(0);
}

static void exit_soon(void)
{
	usleep(3000);
	exit(0);
}

static void end_all_threads(void)
{
	__atomic_store_n(&second_state, 2, __ATOMIC_RELEASE);
	pthread_exit(NULL);
}

/* Only the last thread of the program may end the process: it has the descriptors that exit() writes to. */
static int report[2];

static void last_words(void)
{
	char c = fcntl(report[1], F_GETFD) >= 0 ? 'y' : 'n';

	if (write(report[1], &c, 1) != 1)
		abort();
}

static void *last_thread(void *arg)
{
	usleep(50000);
	return arg;
}

static void end_main_while_it_sleeps(void)
{
	pthread_t last;

	for (unsigned i = 0; i < 5000 && global_vm_event(VM_kswapd_sleep) == 0; i++)
		usleep(1000);
	atexit(last_words);
	if (pthread_create(&last, NULL, last_thread, NULL) != 0)
		_exit(98);
	end_all_threads();
}

Test(kmmd, never_keeps_a_process)
{
	char c = 0;

	for (unsigned i = 0; i < 3; i++) {
		u64 start = os_clock_ms();

		run_in_child(exit_now);
		run_in_child(exit_soon);
		run_in_child(end_all_threads);
		cr_assert_eq(pipe(report), 0);
		run_in_child(end_main_while_it_sleeps);
		cr_assert_eq(read(report[0], &c, 1), 1);
		cr_assert_eq(c, 'y');
		close(report[0]);
		close(report[1]);
		cr_assert_leq(os_clock_ms(), start + 8000);
	}
}
