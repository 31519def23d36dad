/* SPDX-License-Identifier: MIT */
/* atfork.h - at-fork handlers that come before everybody's, and libc's functions behind those that libkmm exports. */
#ifndef KMM_OS_ATFORK_H
#define KMM_OS_ATFORK_H

#include "base/types.h"
#include <sys/types.h>

struct termios;
struct winsize;

struct atfork_handlers {
	void (*prepare)(void), (*parent)(void), (*child)(void);
};

/* Names the handlers, once; a static object. */
void os_atfork_init(const struct atfork_handlers *handlers);

/*
 * Gives them to libc, unless it has them. To be called before anybody else registers handlers, so that ours are the last
 * before the fork and the first after it, and before a fork. Takes locks of ld.so.
 */
void os_atfork_register(void);

/* libc's own, behind os_atfork_register(); where it has none they fail with ENOSYS. */
pid_t os_fork(void);
pid_t os_forkpty(int *master, char *name, const struct termios *termios, const struct winsize *size);
int os_daemon(int nochdir, int noclose);
int os_register_atfork(void (*prepare)(void), void (*parent)(void), void (*child)(void), void *dso);

/* The next definition of a function, kept in *known, which begins as NULL; 0: there is none. Takes locks of ld.so. */
uintptr_t os_next_function(void **known, const char *name);

#endif
