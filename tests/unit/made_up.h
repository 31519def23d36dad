/* SPDX-License-Identifier: MIT */
/* made_up.h - a folder of made-up files, as /proc and control groups are for the code under test. */
#ifndef KMM_TESTS_UNIT_MADE_UP_H
#define KMM_TESTS_UNIT_MADE_UP_H

#include "boot.h"
#include <stdarg.h>

static char top[64];	/* the folder; the test makes it */

static inline void write_file(const char *path, const char *fmt, ...) __printf(2, 3);
static inline void write_file(const char *path, const char *fmt, ...)
{
	char name[256];
	va_list ap;
	FILE *f;

	snprintf(name, sizeof(name), "%s/%s", top, path);
	f = fopen(name, "w");
	cr_assert_not_null(f, "%s", name);
	va_start(ap, fmt);
	vfprintf(f, fmt, ap);
	va_end(ap);
	fclose(f);
}

#endif
