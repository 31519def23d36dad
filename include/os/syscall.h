/* SPDX-License-Identifier: MIT */
/*
 * syscall.h - system calls that leave errno alone: the result or -errno is the return value. Only lib/os/ uses it.
 */
#ifndef KMM_OS_SYSCALL_H
#define KMM_OS_SYSCALL_H

#include <errno.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__)
static inline long raw_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long ret;

	__asm__ __volatile__("syscall"
			     : "=a"(ret)
			     : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			     : "rcx", "r11", "memory");
	return ret;
}
#elif defined(__aarch64__)
static inline long raw_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ __volatile__("svc #0"
			     : "+r"(x0)
			     : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5)
			     : "memory");
	return x0;
}
#else
static inline long raw_syscall6(long nr, long a, long b, long c, long d, long e, long f)
{
	int saved = errno;
	long ret = syscall(nr, a, b, c, d, e, f);

	if (ret == -1)
		ret = -errno;
	errno = saved;
	return ret;
}
#endif

#define raw_syscall5(n, a, b, c, d, e) raw_syscall6(n, a, b, c, d, e, 0)
#define raw_syscall4(n, a, b, c, d)    raw_syscall6(n, a, b, c, d, 0, 0)
#define raw_syscall3(n, a, b, c)       raw_syscall6(n, a, b, c, 0, 0, 0)
#define raw_syscall2(n, a, b)	       raw_syscall6(n, a, b, 0, 0, 0, 0)
#define raw_syscall1(n, a)	       raw_syscall6(n, a, 0, 0, 0, 0, 0)
#define raw_syscall0(n)		       raw_syscall6(n, 0, 0, 0, 0, 0, 0)

#endif
