/* SPDX-License-Identifier: MIT */
/*
 * abuse.h - for programs that misuse malloc on purpose, one misuse a program.
 *
 * A program names the pointer that libkmm's message must contain, misuses it, and comes to the end only when
 * nobody noticed. run.sh knows what each must say.
 */
#ifndef KMM_TESTS_ABUSE_H
#define KMM_TESTS_ABUSE_H

#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#if defined(__GNUC__) && !defined(__clang__) && __GNUC__ >= 12
#pragma GCC diagnostic ignored "-Wuse-after-free"	/* the purpose of some of these programs */
#endif

/* A pointer that the compiler knows nothing about: it would warn, or leave the misuse out. */
static inline void *launder(const void *p)
{
	void *q = (void *)(uintptr_t)p;

	__asm__ volatile("" : "+r"(q) : : "memory");
	return q;
}

static inline void *must(void *p)
{
	if (!p) {
		perror("out of memory");
		exit(3);
	}
	return launder(p);
}

/* The pointer that the message must name, and the object that it lies in. */
static inline void name_pointer(const void *p, const void *object)
{
	dprintf(STDOUT_FILENO, "pointer 0x%lx object 0x%lx\n", (unsigned long)p, (unsigned long)object);
}

static inline int survived(void)
{
	dprintf(STDOUT_FILENO, "survived\n");
	return 0;
}

#endif
