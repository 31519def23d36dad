/* SPDX-License-Identifier: MIT */
/* oom_kill_test.c - the policies of a full group, the credit of who is refused, and what the report says. */
#include "mm/memcg_reclaim.h"

#include "../groups.h"
#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(oom_kill, .init = boot_auto, .timeout = 60);

static unsigned nr_asked;

static bool say_yes_once(int id, size_t bytes, void *arg)
{
	CHECK(id == *(int *)arg && bytes == 12345 && !gate_is_inside());
	return nr_asked++ == 0;
}

static bool ask_again(int id, size_t bytes, void *arg)
{
	(void)id;
	(void)bytes;
	nr_asked++;
	CHECK(!out_of_memory(arg, 1));		/* what it allocates itself is refused, and does not ask */
	return true;
}

Test(oom_kill, enomem_gives_a_credit)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a"), *b = new_group(a, "b");

	memcg_thread.emergency = 0;
	memcg_thread.refused = false;
	cr_assert_not(out_of_memory(b, 100));
	cr_assert_eq(memcg_thread.emergency, KIB(256) >> PAGE_SHIFT);
	memcg_thread.emergency = 3;
	cr_assert_not(out_of_memory(b, 100));
	cr_assert_eq(memcg_thread.emergency, 3u, "once until a charge succeeds again");
	cr_assert(charge(b, 100));
	cr_assert_eq(memcg_thread.emergency, 0u);
	cr_assert_not(out_of_memory(b, 100));
	cr_assert_eq(memcg_thread.emergency, KIB(256) >> PAGE_SHIFT);
	cr_assert_eq(b->events[MEMCG_OOM], 3u);
	cr_assert_eq(a->events[MEMCG_OOM], 3u);
	cr_assert_eq(b->events[MEMCG_OOM_KILL], 0u);
}

Test(oom_kill, callback)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a");
	int id = (int)a->id;

	a->oom_policy = OOM_CALLBACK;
	cr_assert_not(out_of_memory(a, 12345), "there is none yet");
	a->oom_fn = say_yes_once;
	a->oom_arg = &id;
	cr_assert(out_of_memory(a, 12345));
	cr_assert_not(out_of_memory(a, 12345));
	cr_assert_eq(nr_asked, 2u);
	a->oom_fn = ask_again;
	a->oom_arg = a;
	cr_assert(out_of_memory(a, 1));
	cr_assert_eq(nr_asked, 3u);
}

/* --- the report ----------------------------------------------------------------------------------------------------- */

static char text[8192];

/* What fn says on standard error. */
static const char *said(void (*fn)(struct mem_cgroup *), struct mem_cgroup *memcg)
{
	int fds[2], saved = dup(2);
	ssize_t n;

	CHECK(pipe2(fds, O_NONBLOCK) == 0 && dup2(fds[1], 2) == 2);
	fn(memcg);
	dup2(saved, 2);
	close(saved);
	n = read(fds[0], text, sizeof(text) - 1);
	text[n > 0 ? n : 0] = '\0';
	close(fds[0]);
	close(fds[1]);
	return text;
}

static void report(struct mem_cgroup *memcg)
{
	oom_report(memcg, 4242);
}

static unsigned count(const char *s, const char *word)
{
	unsigned nr = 0;

	while ((s = strstr(s, word)) != NULL) {
		nr++;
		s++;
	}
	return nr;
}

Test(oom_kill, report)
{
	struct mem_cgroup *a = new_group(&root_mem_cgroup, "a"), *b = new_group(a, "b"), *c = new_group(&root_mem_cgroup, "c");
	void *p[64];

	memcg_thread.caller = (const void *)__builtin_return_address(0);
	page_counter_set_max(&a->memory, 1024);
	for (int i = 0; i < 64; i++)
		cr_assert_not_null(p[i] = kmalloc_in(b, 3000));
	cr_assert_not_null(kmalloc_in(c, 100));
	said(report, a);
	cr_assert_eq(count(text, "wants 4242 bytes at "), 1u, "%s", text);
	cr_assert_eq(count(text, "memory group /a is at its limit"), 1u);
	cr_assert_eq(count(text, "group /a: usage "), 1u);
	cr_assert_eq(count(text, "limit 4096kB"), 1u);
	cr_assert_eq(count(text, "group /a/b: usage "), 1u);
	cr_assert_eq(count(text, "group /c:"), 0u, "another one's business");
	cr_assert_eq(count(text, "kmalloc-3072: "), 1u);
	cr_assert_eq(count(text, " 64 objects in use"), 1u);
	cr_assert_geq(count(text, "call site libcriterion.so"), 1u, "%s", text);
	said(report, a);
	cr_assert_str_eq(text, "", "not twice within a second");
	a->last_report_ms -= 1001;
	said(report, a);
	cr_assert_eq(count(text, "wants 4242 bytes"), 1u);
}

static int status_of(int policy)
{
	pid_t pid = fork();
	int status;

	if (pid == 0) {
		struct mem_cgroup *a = new_group(&root_mem_cgroup, "a");

		dup2(open("/dev/null", O_WRONLY), 2);
		signal(SIGABRT, SIG_DFL);
		a->oom_policy = policy;
		_exit(out_of_memory(a, 1) ? 1 : 0);
	}
	CHECK(waitpid(pid, &status, 0) == pid);
	return status;
}

Test(oom_kill, policies_that_end_the_process)
{
	cr_assert_eq(status_of(OOM_ENOMEM), 0);
	cr_assert_eq(status_of(OOM_REPORT), 0);
	cr_assert_eq(WEXITSTATUS(status_of(OOM_EXIT)), 137);
	cr_assert(WIFSIGNALED(status_of(OOM_ABORT)));
	cr_assert_eq(WTERMSIG(status_of(OOM_ABORT)), SIGABRT);
}
