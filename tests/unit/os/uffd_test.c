/* SPDX-License-Identifier: MIT */
/* uffd_test.c - pages that are away make everybody wait, come back whole, and are not lost in a child. */
#include "os/uffd.h"

#include "../boot.h"
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

TestSuite(uffd, .init = os_init, .timeout = 60);

enum { NR = 4 };
static char *src, *dst;
static int uffd;

static char *map_pages(void)
{
	char *p = vm_map(NR * os_page_size);

	cr_assert_not_null(p);
	vm_advise(p, NR * os_page_size, MADV_NOHUGEPAGE);
	return p;
}

static void setup(void)
{
	uffd = uffd_open();
	if (uffd < 0)
		cr_skip_test("no userfaultfd that can move pages");
	src = map_pages();
	dst = map_pages();
	for (size_t i = 0; i < NR * os_page_size; i++)
		src[i] = (char)(i * 13 + i / os_page_size);
	cr_assert_eq(uffd_register(uffd, src, NR * os_page_size), 0);
	cr_assert_eq(uffd_register(uffd, dst, NR * os_page_size), 0);
}

static bool is_whole(const char *p)
{
	for (size_t i = 0; i < NR * os_page_size; i++)
		if (p[i] != (char)(i * 13 + i / os_page_size))
			return false;
	return true;
}

static bool back;

static void *reader(void *p)
{
	int pipes[2];

	CHECK(pipe(pipes) == 0);
	CHECK(write(pipes[1], p, os_page_size) == (ssize_t)os_page_size);	/* a system call waits, too */
	CHECK(READ_ONCE(back));
	return NULL;
}

Test(uffd, whoever_touches_what_is_away_waits)
{
	pthread_t t;

	setup();
	cr_assert_eq(uffd_move(uffd, dst, src, NR * os_page_size), (ssize_t)(NR * os_page_size));
	cr_assert(is_whole(dst));
	cr_assert_eq(pthread_create(&t, NULL, reader, src), 0);
	usleep(50000);
	back = true;
	cr_assert_eq(uffd_move(uffd, src, dst, NR * os_page_size), (ssize_t)(NR * os_page_size));
	cr_assert_eq(uffd_unregister(uffd, src, NR * os_page_size), 0);
	cr_assert_eq(pthread_join(t, NULL), 0);
	cr_assert(is_whole(src));
}

Test(uffd, what_cannot_be_moved)
{
	setup();
	vm_dontneed(src + os_page_size, os_page_size);
	cr_assert_eq(uffd_move(uffd, dst, src, NR * os_page_size), (ssize_t)os_page_size, "up to the hole");
	cr_assert_eq(uffd_move(uffd, dst + os_page_size, src + os_page_size, os_page_size), -ENOENT);
	cr_assert_eq(vm_lock(src + 2 * os_page_size, os_page_size), 0);
	cr_assert_eq(uffd_move(uffd, dst + 2 * os_page_size, src + 2 * os_page_size, os_page_size), -EINVAL, "locked");
	cr_assert_eq(uffd_copy(uffd, src + 2 * os_page_size, dst, os_page_size), -EEXIST);
}

static void *fork_behind(void *arg)
{
	pid_t pid = (pid_t)syscall(SYS_fork);
	int status;

	if (pid == 0)
		_exit(is_whole(src) ? 0 : 1);
	CHECK(waitpid(pid, &status, 0) == pid && status == 0);
	return arg;
}

Test(uffd, a_child_is_filled)
{
	pthread_t t;
	int child;

	setup();
	cr_assert_not(uffd_fork_pending(uffd));
	cr_assert_eq(uffd_next_child(uffd), -EAGAIN);
	cr_assert_eq(uffd_move(uffd, dst, src, NR * os_page_size), (ssize_t)(NR * os_page_size));
	cr_assert_eq(pthread_create(&t, NULL, fork_behind, NULL), 0);
	while ((child = uffd_next_child(uffd)) < 0)
		;
	for (size_t off = 0; off < NR * os_page_size; off += os_page_size)
		cr_assert_eq(uffd_copy(child, src + off, dst + off, os_page_size), 0);
	close(child);
	cr_assert_eq(pthread_join(t, NULL), 0);
	cr_assert_not(uffd_fork_pending(uffd));
}

Test(uffd, memfd_and_pagemap)
{
	int fd = memfd_open("test"), pagemap = pagemap_open();
	struct page_region region[NR];
	uintptr_t end;
	char *p = map_pages(), text[16] = "";

	cr_assert_geq(fd, 0);
	cr_assert_geq(pagemap, 0);
	cr_assert_eq(memfd_write(fd, "hello", 6, 3 * os_page_size), 0);
	cr_assert_eq(memfd_read(fd, text, 6, 3 * os_page_size), 0);
	cr_assert_str_eq(text, "hello");
	cr_assert_eq(vm_map_file_over(p, NR * os_page_size, fd, 0), 0);
	cr_assert_str_eq(p + 3 * os_page_size, "hello");
	p[os_page_size] = 1;		/* now this page is the process's own */
	if (pagemap_private_copies(pagemap, p, NR * os_page_size, region, NR, &end) >= 0) {
		cr_assert_eq(region[0].start, (u64)(uintptr_t)(p + os_page_size));
		cr_assert_eq(region[0].end, (u64)(uintptr_t)(p + 2 * os_page_size));
	}
	cr_assert_eq(memfd_punch(fd, 3 * os_page_size, os_page_size), 0);
	cr_assert_eq(p[3 * os_page_size], 0);
	cr_assert_eq(p[os_page_size], 1, "punching leaves copies alone");
	cr_assert_eq(vm_map_over(p, NR * os_page_size), 0);
	cr_assert_eq(p[os_page_size], 0);
}

Test(uffd, a_page_that_a_child_shares_is_not_exclusive)
{
	int pagemap = pagemap_open(), go[2];
	char *p = map_pages(), c;
	pid_t pid;

	p[0] = 1;
	cr_assert(pagemap_is_exclusive(pagemap, p));
	cr_assert_not(pagemap_is_exclusive(pagemap, p + os_page_size), "never touched");
	cr_assert_eq(pipe(go), 0);
	pid = fork();
	if (pid == 0) {
		close(go[1]);
		_exit(read(go[0], &c, 1) != 0);
	}
	close(go[0]);
	cr_assert_not(pagemap_is_exclusive(pagemap, p));
	close(go[1]);
	cr_assert_eq(waitpid(pid, NULL, 0), pid);
	cr_assert(pagemap_is_exclusive(pagemap, p));
}
