/* SPDX-License-Identifier: MIT */
/*
 * seq_file.h - statistics written once, shown as text in the manner of /proc or as JSON. Kernel: fs/seq_file.c.
 *
 * A section is a list of key/value pairs, or a table of rows, or both. Text of a pair is "Name:   value unit",
 * of a row its cells in columns under a header line. In JSON the sections are the keys of one object, a section is
 * an object, a table in it an array of objects. Output goes through a callback in pieces; nothing is allocated, so
 * a statistics dump works when memory is out. The struct is about 5 KiB: on a stack of ordinary size, or static.
 *
 *	seq_init(&m, json, write, arg);
 *	seq_section(&m, "slabinfo");
 *	seq_u64(&m, "SlabTotal", kb, "kB");			pairs
 *	seq_table(&m, "caches");				a table
 *	for (...) {
 *		seq_row(&m);
 *		seq_str(&m, "name", name);
 *		seq_u64(&m, "objects", n, NULL);
 *		seq_row_end(&m);
 *	}
 *	seq_table_end(&m);
 *	seq_section_end(&m);
 *	seq_end(&m);
 *
 * All rows of a table have the same keys. A table named like its section has no line with its name in text.
 */
#ifndef KMM_BASE_SEQ_FILE_H
#define KMM_BASE_SEQ_FILE_H

#include "base/compiler.h"
#include "base/types.h"

#define SEQ_MAX_COLUMNS 40
#define SEQ_HOLD_SIZE	4096

struct seq_file {
	bool json;
	bool first;			/* no comma before the next JSON member */
	u8 depth;			/* JSON brackets that are open */
	u8 in_row;
	u32 used;
	void (*write)(void *arg, const char *buf, size_t len);
	void *arg;
	const char *section;
	const char *table;		/* NULL outside tables */

	/* Text: rows are held back until the widths of their columns are known (seq_file.c). */
	bool header_pending;		/* no row of this table was printed so far */
	u8 column;			/* of the row being built */
	u8 width[SEQ_MAX_COLUMNS];
	const char *key[SEQ_MAX_COLUMNS];
	const char *unit[SEQ_MAX_COLUMNS];
	u8 nr_columns;
	u32 hold_used;
	u32 hold_rows;			/* bytes of hold that are complete rows */
	char hold[SEQ_HOLD_SIZE];
	char buf[512];
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
