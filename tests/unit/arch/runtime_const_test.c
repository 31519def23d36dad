/* SPDX-License-Identifier: MIT */
/* runtime_const_test.c - the code of the sections before and after runtime_const_fixup(), and when it must not change. */
#include "storm.h"

#include "arch/runtime_const.h"
#include "os/vm.h"

TestSuite(runtime_const, .timeout = 120);

#if HAVE_RSEQ_OPS
struct rseq_cs {
	u32 version, flags;
	u64 start_ip, post_commit_offset, abort_ip;
};
extern const struct rseq_cs __start___rseq_cs[], __stop___rseq_cs[];
extern char __libc_single_threaded;

#define SITE_SIZE  29
#define SITE_START 18

static const u8 *code_of(const struct rseq_cs *cs)
{
	return (const u8 *)(uintptr_t)cs->start_ip - SITE_START;
}

static s32 number_at(const u8 *p)
{
	s32 n;

	memcpy(&n, p, sizeof(n));
	return n;
}

/* Every section has its own descriptor: where the lea that opens its code leads, compiled or changed. */
static void check_descriptor(const struct rseq_cs *cs, unsigned lea_size)
{
	const u8 *code = code_of(cs);

	cr_assert_eq((uintptr_t)code + lea_size + (uintptr_t)number_at(code + lea_size - 4), (uintptr_t)cs);
}

static void check_compiled(void)
{
	for (const struct rseq_cs *cs = __start___rseq_cs; cs < __stop___rseq_cs; cs++) {
		cr_assert_arr_eq(code_of(cs), "\x48\x8d\x0d", 3, "lea");
		check_descriptor(cs, 7);
		cr_assert_arr_eq(code_of(cs) + SITE_SIZE - 4, "\x64\x48\x63\x09", 4, "movslq");
	}
}

static void check_constants(void)
{
	for (const struct rseq_cs *cs = __start___rseq_cs; cs < __stop___rseq_cs; cs++) {
		const u8 *code = code_of(cs);

		check_descriptor(cs, 11);
		cr_assert_arr_eq(code + 11, "\x64\x48\x89\x0c\x25", 5, "mov");
		cr_assert_eq(number_at(code + 16), percpu_hot.cs_offset);
		cr_assert_arr_eq(code + 20, "\x64\x48\x63\x0c\x25", 5, "movslq");
		cr_assert_eq(number_at(code + 25), percpu_hot.cpu_offset);
	}
}

static void boot(int percpu)
{
	boot_storm(percpu);
	if (percpu_mode != PERCPU_MODE_RSEQ)
		cr_skip_test("no rseq here");
	__libc_single_threaded = 1;	/* the framework's own second thread runs none of the code in question */
	cr_assert_gt(__stop___rseq_cs - __start___rseq_cs, 4);
}

/* May the page be written? An address that is not mapped so makes read(2) fail. */
static bool is_writable(const void *p)
{
	int fd[2];
	bool writable;

	cr_assert_eq(pipe(fd), 0);
	cr_assert_eq(write(fd[1], p, 1), 1);
	writable = read(fd[0], (void *)(uintptr_t)p, 1) == 1;
	close(fd[0]);
	close(fd[1]);
	return writable;
}

Test(runtime_const, storm_with_constants)
{
	boot(PERCPU_AUTO);
	check_compiled();
	cr_assert(runtime_const_wanted);
	runtime_const_fixup();
	cr_assert_not(runtime_const_wanted);
	check_constants();
	cr_assert_not(is_writable(code_of(__start___rseq_cs)), "code is read-only again");
	runtime_const_fixup();
	check_constants();
	storm(true);
}

Test(runtime_const, storm_as_compiled_where_it_is_refused)
{
	boot(PERCPU_AUTO);
	os_fault_every = 1;
	runtime_const_fixup();
	os_fault_every = 0;
	cr_assert_not(runtime_const_wanted, "once is enough");
	check_compiled();
	cr_assert_not(is_writable(code_of(__start___rseq_cs)));
	storm(true);
}

Test(runtime_const, not_when_the_user_wants_rseq_as_it_is)
{
	boot(PERCPU_RSEQ);
	cr_assert_not(runtime_const_wanted);
	runtime_const_fixup();
	check_compiled();
}

Test(runtime_const, not_beside_another_thread)
{
	boot(PERCPU_AUTO);
	__libc_single_threaded = 0;
	runtime_const_fixup();
	cr_assert(runtime_const_wanted, "it may be alone again");
	check_compiled();
}

/* A handler must not run into half an instruction: signals wait, and then are what they were. */
static u32 nr_handled;

static void take_one(int sig)
{
	(void)sig;
	nr_handled++;
	this_cpu_pop(STORM_CLASS);
}

Test(runtime_const, signals_wait)
{
	struct sigaction sa = { .sa_handler = take_one };
	sigset_t before, after;

	boot(PERCPU_AUTO);
	fill_areas();
	sigaction(SIGALRM, &sa, NULL);
	sigprocmask(SIG_SETMASK, NULL, &before);
	ualarm(50, 50);
	for (int i = 0; i < 2000; i++) {
		runtime_const_wanted = true;	/* what is changed already is left alone, mprotect and all */
		runtime_const_fixup();
	}
	while (READ_ONCE(nr_handled) < 10)
		;
	ualarm(0, 0);
	sigprocmask(SIG_SETMASK, NULL, &after);
	cr_assert_arr_eq(&before, &after, sizeof(u64));
	check_constants();
}
#else
Test(runtime_const, nothing_to_change)
{
	boot_storm(PERCPU_AUTO);
	cr_assert_not(runtime_const_wanted);
	runtime_const_fixup();
}
#endif
