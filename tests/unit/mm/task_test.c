/* SPDX-License-Identifier: MIT */
/* Tasks: one a thread, reused after its death, listed with their names; fork. */
#include "mm/mm_struct.h"

#include "os/os.h"
#include "os/vm.h"
#include <criterion/criterion.h>
#include <pthread.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static void setup(void)
{
	os_init();
	cr_assert_eq(mm_init(), 0);
	cr_assert_not_null(current_task());
}

TestSuite(task, .init = setup);

static void *own_task(void *arg)
{
	struct task_struct *task = current_task();

	(void)arg;
	cr_assert_eq(task->pid, os_gettid());
	cr_assert_eq(task->mm, &init_mm);
	cr_assert_eq(current_task(), task);
	cr_assert_eq(task->memcg, 0u);
	task->memcg = 7;
	task->rcu_registered = true;
	return task;
}

Test(task, current_is_stable)
{
	struct task_struct *task = current_task();

	cr_assert_not_null(task);
	cr_assert_eq(current_task(), task);
	cr_assert_eq(task->pid, os_gettid());
	cr_assert_eq(nr_tasks(), 1u);
	cr_assert_eq(init_mm.mm_users, 1u);
}

/* Threads one after the other come to lie on the same stack, so one task does for all of them. */
Test(task, dead_tasks_are_reused)
{
	pthread_t thread;
	void *task;

	for (unsigned i = 0; i < 500; i++) {
		pthread_create(&thread, NULL, own_task, NULL);
		pthread_join(thread, &task);
		cr_assert_not_null(task);
	}
	cr_assert_lt(nr_tasks(), 70u);
}

static pthread_barrier_t barrier;

static void *named(void *name)
{
	prctl(PR_SET_NAME, name);
	current_task();
	pthread_barrier_wait(&barrier);
	pthread_barrier_wait(&barrier);
	return NULL;
}

static void note(struct task_struct *task, void *arg)
{
	unsigned *seen = arg;

	seen[0]++;
	for (unsigned i = 0; i < 4; i++)
		if (strncmp(task->comm, "worker", 6) == 0 && task->comm[6] == (char)('0' + i))
			seen[1 + i]++;
	if (task->pid == os_gettid())
		seen[5]++;
}

Test(task, for_each_knows_the_living)
{
	char names[4][16] = { "worker0", "worker1", "worker2", "worker3" };
	unsigned seen[6] = { 0 }, after[6] = { 0 };
	pthread_t threads[4];

	pthread_barrier_init(&barrier, NULL, 5);
	for (unsigned i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, named, names[i]);
	pthread_barrier_wait(&barrier);
	for_each_task(note, seen);
	cr_assert_eq(seen[0], 5u);
	for (unsigned i = 1; i < 6; i++)
		cr_assert_eq(seen[i], 1u);
	cr_assert_neq(task_in_range((uintptr_t)threads[0], (uintptr_t)threads[0] + 1), 0);
	cr_assert_eq(task_in_range(0, 4096), 0);
	pthread_barrier_wait(&barrier);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (unsigned tries = 0; tries < 1000 && after[0] != 1; tries++) {
		usleep(tries * 10);	/* a joined thread's tid lives on for a moment */
		memset(after, 0, sizeof(after));
		for_each_task(note, after);
	}
	cr_assert_eq(after[0], 1u);
	cr_assert_eq(nr_tasks(), 1u);
}

static void *burst(void *arg)
{
	current_task();
	pthread_barrier_wait(&barrier);
	return arg;
}

/* Many at once, so that tasks are made at many places; the dead are swept as new ones come. */
Test(task, number_of_dead_is_bounded)
{
	pthread_t threads[50];

	pthread_barrier_init(&barrier, NULL, 50);
	for (unsigned round = 0; round < 10; round++) {
		for (unsigned i = 0; i < 50; i++)
			cr_assert_eq(pthread_create(&threads[i], NULL, burst, NULL), 0);
		for (unsigned i = 0; i < 50; i++)
			pthread_join(threads[i], NULL);
		cr_assert_leq(nr_tasks(), 150u);
	}
}

Test(task, only_the_forker_lives_in_a_child)
{
	pthread_t thread;
	char name[16] = "worker0";
	int status = -1;
	pid_t pid;

	pthread_barrier_init(&barrier, NULL, 2);
	pthread_create(&thread, NULL, named, name);
	pthread_barrier_wait(&barrier);
	cr_assert_eq(nr_tasks(), 2u);
	pid = fork();
	if (pid == 0) {
		struct task_struct *task = current_task();

		tasks_reset_child();
		_exit(nr_tasks() == 1 && current_task() == task && task->pid == os_gettid() ? 0 : 1);
	}
	waitpid(pid, &status, 0);
	cr_assert_eq(status, 0);
	pthread_barrier_wait(&barrier);
	pthread_join(thread, NULL);
}
