/* SPDX-License-Identifier: MIT */
/* os_test.c - clocks, threads, files, membarrier. */
#include "os/os.h"

#include "../boot.h"
#include <fcntl.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

TestSuite(os, .timeout = 30);

Test(os, clocks_agree_with_libc)
{
	struct timespec ts;
	u64 ns, ms;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	ns = (u64)ts.tv_sec * 1000000000u + (u64)ts.tv_nsec;
	cr_assert_geq(os_clock_ns(), ns);
	cr_assert_lt(os_clock_ns() - ns, 5000000000ull);
	ms = os_clock_ms();
	cr_assert_leq(ms, os_clock_ns() / 1000000);
	cr_assert_lt(os_clock_ns() / 1000000 - ms, 5000u);
	while (os_clock_ms() == ms)
		;
	cr_assert_lt(os_clock_ms() - ms, 5000u);
}

static int other_tid;
static bool leave;

static void *a_thread(void *arg)
{
	prctl(PR_SET_NAME, "fifteen letters");
	__atomic_store_n(&other_tid, os_gettid(), __ATOMIC_RELEASE);
	while (!__atomic_load_n(&leave, __ATOMIC_ACQUIRE))
		os_yield();
	return arg;
}

Test(os, threads)
{
	char comm[16] = "x";
	pthread_t t;
	int tid;

	cr_assert_eq(os_getpid(), getpid());
	cr_assert_eq(os_gettid(), getpid());
	cr_assert(os_thread_alive(os_gettid()));
	cr_assert_eq(pthread_create(&t, NULL, a_thread, NULL), 0);
	while (!(tid = __atomic_load_n(&other_tid, __ATOMIC_ACQUIRE)))
		os_yield();
	cr_assert_neq(tid, os_gettid());
	cr_assert(os_thread_alive(tid));
	cr_assert_eq(os_thread_comm(tid, comm), 0);
	cr_assert_str_eq(comm, "fifteen letters");
	while (os_thread_cpu_ns(tid) < 1000000 || os_thread_cpu_ns(0) < 1000000)
		os_yield();
	cr_assert_lt(os_thread_cpu_ns(tid), 20000000000ull);
	__atomic_store_n(&leave, true, __ATOMIC_RELEASE);
	pthread_join(t, NULL);
	while (os_thread_alive(tid))	/* join returns a moment before the kernel forgets it */
		os_yield();
	cr_assert_lt(os_thread_comm(tid, comm), 0);
	cr_assert_str_eq(comm, "");
	cr_assert_eq(os_thread_cpu_ns(tid), 0u);
	cr_assert_not(os_thread_alive(1), "a process that is not ours");
}

Test(os, cpu_of_the_caller)
{
	errno = 4711;
	for (unsigned i = 0; i < 8; i++) {
		pin_to(i);
		cr_assert_eq(os_getcpu(), sched_getcpu());
		cr_assert_eq(os_getcpu_syscall(), sched_getcpu());
	}
	cr_assert_eq(errno, 4711);
}

Test(os, files)
{
	char path[] = "/tmp/kmm-os-test-XXXXXX", buf[64], small[5];
	int fd = mkstemp(path);

	cr_assert_geq(fd, 0);
	close(fd);
	errno = 4711;
	fd = os_open(path, O_WRONLY, 0);
	cr_assert_geq(fd, 0);
	cr_assert(fcntl(fd, F_GETFD) & FD_CLOEXEC);
	cr_assert_eq(os_write(fd, "nine here", 9), 9);
	os_close(fd);
	cr_assert_eq(fcntl(fd, F_GETFD), -1, "closed");
	errno = 4711;
	cr_assert_eq(os_read_file(path, buf, sizeof(buf)), 9);
	cr_assert_str_eq(buf, "nine here");
	cr_assert_eq(os_read_file(path, small, sizeof(small)), 4, "cut, and terminated");
	cr_assert_str_eq(small, "nine");
	unlink(path);
	errno = 4711;
	cr_assert_eq(os_read_file(path, buf, sizeof(buf)), -ENOENT);
	cr_assert_eq(os_open("/nowhere/at/all", O_RDONLY, 0), -ENOENT);
	cr_assert_eq(os_read(-1, buf, 1), -EBADF);
	cr_assert_eq(os_write(-1, buf, 1), -EBADF);
	cr_assert_eq(os_read_file("/", buf, sizeof(buf)), -EISDIR);
	cr_assert_eq(errno, 4711);
}

/* A pipe takes what it has room for: the rest must follow. */
static int pipe_fd[2];

static void *slow_reader(void *arg)
{
	char buf[4096];
	size_t total = 0;
	ssize_t n;

	while ((n = os_read(pipe_fd[0], buf, sizeof(buf))) > 0)
		total += (size_t)n;
	*(size_t *)arg = total;
	return NULL;
}

Test(os, write_writes_all)
{
	static char big[1 << 20];
	size_t total = 0;
	pthread_t t;

	cr_assert_eq(pipe(pipe_fd), 0);
	cr_assert_eq(pthread_create(&t, NULL, slow_reader, &total), 0);
	cr_assert_eq(os_write(pipe_fd[1], big, sizeof(big)), (ssize_t)sizeof(big));
	os_close(pipe_fd[1]);
	pthread_join(t, NULL);
	cr_assert_eq(total, sizeof(big));
}

Test(os, membarrier_registers_by_itself)
{
	int ret = membarrier_rseq();

	if (ret == -ENOSYS || ret == -EINVAL)
		cr_skip_test("this kernel has no membarrier for rseq");
	cr_assert_eq(ret, 0);
	cr_assert_eq(membarrier_register_rseq(), 0, "registering twice is harmless");
	cr_assert_eq(membarrier_rseq(), 0);
}

Test(os, auxv)
{
	cr_assert_eq(os_auxval(6 /* AT_PAGESZ */), (unsigned long)sysconf(_SC_PAGESIZE));
	cr_assert_eq(os_auxval(54321), 0ul);
}

Test(os, max_map_count)
{
	FILE *f = fopen("/proc/sys/vm/max_map_count", "r");
	unsigned long nr = 65530;

	if (f) {
		cr_assert_eq(fscanf(f, "%lu", &nr), 1);
		fclose(f);
	}
	cr_assert_eq(os_max_map_count(), nr);
	cr_assert_eq(os_max_map_count(), nr, "remembered");
	cr_assert_eq(os_read_max_map_count(), nr);
}
