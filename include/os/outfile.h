/* SPDX-License-Identifier: MIT */
/*
 * outfile.h - writing reports into descriptors of the program without harm to it: no SIGPIPE, no lost bytes on a
 * non-blocking descriptor, and never into a file that took the descriptor's number over. Same rules as os/vm.h.
 */
#ifndef KMM_OS_OUTFILE_H
#define KMM_OS_OUTFILE_H

#include "base/types.h"

/* A duplicate of a descriptor that is kept for later, and which file it was. */
struct held_fd {
	int fd;			/* -1: none */
	u64 dev, ino;
};

/*
 * Duplicates fd close-on-exec to a high number, so that a report can still be written after the program has closed
 * fd. 0 or -errno (held->fd is -1 then).
 */
int outfile_hold(struct held_fd *held, int fd);
/* The held descriptor, if the program has not closed it or put another file in its place; else -1. */
int outfile_held(const struct held_fd *held);

/* Opens a file for a report, empty; the descriptor or -errno. */
int outfile_create(const char *path);

/* Writes all; waits where a non-blocking descriptor is full. 0 or -errno, -EPIPE without a signal. */
int outfile_write(int fd, const void *buf, size_t size);

#endif
