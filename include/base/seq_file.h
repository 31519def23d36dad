/* SPDX-License-Identifier: MIT */
/*
 * seq_file.h - statistics written once, shown as text in the manner of /proc or as JSON. Kernel: fs/seq_file.c.
 *
 * A section is a list of key/value pairs, or a table of rows, or both. Text of a pair is "Name:   value unit",
 * of a row its cells in columns under a header line. Output goes through a callback in pieces; nothing is
 * allocated, so a statistics dump works when memory is out.
 */
#ifndef KMM_BASE_SEQ_FILE_H
#define KMM_BASE_SEQ_FILE_H

#include "base/compiler.h"
#include "base/types.h"

struct seq_file {
	bool json;
	void (*write)(void *arg, const char *buf, size_t len);
	void *arg;
	char buf[512];
	u32 used;
	u8 depth;
	bool first;		/* no comma before the next JSON member */
	u8 in_row;
};

void seq_init(struct seq_file *m, bool json, void (*write)(void *, const char *, size_t), void *arg);
void seq_end(struct seq_file *m);				/* closes and flushes */
void seq_section(struct seq_file *m, const char *name);		/* starts a section: "meminfo" */
void seq_section_end(struct seq_file *m);
void seq_comment(struct seq_file *m, const char *fmt, ...) __printf(2, 3);	/* text only: a line */
void seq_u64(struct seq_file *m, const char *key, u64 value, const char *unit);	/* unit "kB", "pages", or NULL */
void seq_str(struct seq_file *m, const char *key, const char *value);
void seq_table(struct seq_file *m, const char *name);		/* rows follow; in JSON an array of objects */
void seq_table_end(struct seq_file *m);
void seq_row(struct seq_file *m);				/* cells follow by seq_u64/seq_str/seq_hex */
void seq_row_end(struct seq_file *m);
void seq_hex(struct seq_file *m, const char *key, u64 value);	/* text: 0x%lx; JSON: a string of it */

#endif
