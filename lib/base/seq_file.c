// SPDX-License-Identifier: MIT
/*
 * seq_file.c - one description of the statistics, two renderings: text in the manner of /proc, and JSON.
 *
 * Purpose. The code that knows the figures says what they are called, once; here they become text or JSON, without
 * an allocation and in pieces, so that the dump works at exit, in a signal handler and when memory is out.
 *
 * Objects.
 *	text				JSON
 *	[meminfo]			{
 *	MemTotal:      3508 kB		 "meminfo": {
 *					  "MemTotal": 3508
 *	[slabinfo]			 },
 *	name      objs  size		 "slabinfo": {
 *	kmm-16     120    16		  "slabinfo": [
 *					   { "name": "kmm-16", "objs": 120, "size": 16 }
 *					  ]
 *					 }
 *					}
 * Text columns need their width before the first row is printed. So rows are held back, each cell as an alignment
 * character and its text, until the table ends or the hold buffer is full; then the widths seen so far hold. What
 * comes later in a very long table may push its columns out, never run them together.
 *
 * Invariants. JSON is valid whatever the strings contain: control characters are escaped, bytes that are not UTF-8
 * become U+FFFD. Numbers above what a signed 64-bit parser takes are written as reals ("18446744073709551615.0").
 * In text a control character in a string is written as \ooo, as the kernel's seq_escape() does: a line is a line.
 * Units are part of the text only; a key has the same unit always.
 *
 * Locks. None; the caller owns the struct.
 *
 * Kernel counterpart and what differs. fs/seq_file.c: there each file formats itself by seq_printf(), and the reader
 * asks for more; here output is pushed, and structured, since it has two forms.
 */
#include "base/seq_file.h"
#include "base/bug.h"
#include "base/printk.h"
#include <string.h>

#define PAIR_KEY_WIDTH	 24
#define PAIR_VALUE_WIDTH 12
#define COLUMN_WIDTH_MAX 63	/* one long path does not push the rest of a table out of sight */
#define ALIGN_LEFT	 'l'
#define ALIGN_RIGHT	 'r'
#define ROW_END		 'e'

/* ---- output ---- */

static void seq_flush(struct seq_file *m)
{
	if (m->used)
		m->write(m->arg, m->buf, m->used);
	m->used = 0;
}

static void seq_write(struct seq_file *m, const char *s, size_t len)
{
	while (len) {
		size_t n = min(len, sizeof(m->buf) - m->used);

		memcpy(m->buf + m->used, s, n);
		m->used += (u32)n;
		s += n;
		len -= n;
		if (m->used == sizeof(m->buf))
			seq_flush(m);
	}
}

static void seq_puts(struct seq_file *m, const char *s)
{
	seq_write(m, s, strlen(s));
}

static void seq_putc(struct seq_file *m, char c)
{
	seq_write(m, &c, 1);
}

static void seq_pad(struct seq_file *m, size_t n)
{
	while (n--)
		seq_putc(m, ' ');
}

/* ---- JSON ---- */

/* Length of the well-formed UTF-8 sequence at s (no overlong forms, no surrogates), 0 when it is none. */
static unsigned utf8_sequence(const unsigned char *s)
{
	unsigned len, i;
	u32 code;

	if (s[0] < 0x80)
		return 1;
	if (s[0] >= 0xc2 && s[0] <= 0xdf)
		len = 2;
	else if ((s[0] & 0xf0) == 0xe0)
		len = 3;
	else if (s[0] >= 0xf0 && s[0] <= 0xf4)
		len = 4;
	else
		return 0;

	code = s[0] & (0x7fu >> len);
	for (i = 1; i < len; i++) {
		if ((s[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (s[i] & 0x3f);
	}
	if ((len == 3 && code < 0x800) || (len == 4 && (code < 0x10000 || code > 0x10ffff)))
		return 0;
	return code >= 0xd800 && code <= 0xdfff ? 0 : len;
}

static void json_string(struct seq_file *m, const char *value)
{
	const unsigned char *s = (const unsigned char *)value;
	char escape[8];
	unsigned len;

	seq_putc(m, '"');
	for (; *s; s += len ? len : 1) {
		len = utf8_sequence(s);
		if (!len) {
			seq_puts(m, "\\ufffd");
		} else if (*s == '"' || *s == '\\') {
			seq_putc(m, '\\');
			seq_putc(m, (char)*s);
		} else if (*s < ' ' || *s == 0x7f) {
			kmm_snprintf(escape, sizeof(escape), "\\u%04x", *s);
			seq_puts(m, escape);
		} else {
			seq_write(m, (const char *)s, len);
		}
	}
	seq_putc(m, '"');
}

/* Begins the next member of the object or array that is open: comma, new line, indentation, key if there is one. */
static void json_member(struct seq_file *m, const char *key)
{
	if (!m->first)
		seq_putc(m, ',');
	if (m->in_row) {
		if (!m->first)
			seq_putc(m, ' ');
	} else {
		seq_putc(m, '\n');
		seq_pad(m, m->depth);
	}
	m->first = false;
	if (key) {
		json_string(m, key);
		seq_puts(m, ": ");
	}
}

static void json_open(struct seq_file *m, const char *key, char bracket)
{
	if (m->depth)
		json_member(m, key);
	seq_putc(m, bracket);
	m->depth++;
	m->first = true;
}

static void json_close(struct seq_file *m, char bracket)
{
	m->depth--;
	if (!m->in_row && !m->first) {
		seq_putc(m, '\n');
		seq_pad(m, m->depth);
	}
	seq_putc(m, bracket);
	m->first = false;
}

/* ---- text tables ---- */

static size_t cell_pad(struct seq_file *m, unsigned column, size_t len)
{
	return column < SEQ_MAX_COLUMNS && m->width[column] > len ? m->width[column] - len : 0;
}

/* One cell of a line; *owed is the padding of a left-aligned cell before it (none is written at the line's end). */
static void text_cell(struct seq_file *m, unsigned column, char align, const char *text, size_t *owed)
{
	size_t pad = cell_pad(m, column, strlen(text));

	seq_pad(m, *owed + (column ? 2 : 0));
	if (align == ALIGN_RIGHT)
		seq_pad(m, pad);
	seq_puts(m, text);
	*owed = align == ALIGN_RIGHT ? 0 : pad;
}

static int header_text(struct seq_file *m, unsigned column, char *buf, size_t size)
{
	if (m->unit[column])
		return kmm_snprintf(buf, size, "%s(%s)", m->key[column], m->unit[column]);
	return kmm_snprintf(buf, size, "%s", m->key[column]);
}

/* The header's columns are aligned as the cells of the first row. */
static void text_header(struct seq_file *m)
{
	const char *cell = m->hold;
	char text[COLUMN_WIDTH_MAX + 1];
	size_t owed = 0;
	unsigned column;

	if (strcmp(m->table, m->section)) {
		seq_puts(m, m->table);
		seq_puts(m, ":\n");
	}
	for (column = 0; *cell != ROW_END && column < SEQ_MAX_COLUMNS; column++) {
		header_text(m, column, text, sizeof(text));
		text_cell(m, column, *cell, text, &owed);
		cell += strlen(cell) + 1;
	}
	seq_putc(m, '\n');
}

/* Prints the complete rows that are held, and moves a row that is being built to the front. */
static void text_release_rows(struct seq_file *m)
{
	const char *cell = m->hold, *end = m->hold + m->hold_rows;
	unsigned column = 0;
	size_t owed = 0;

	if (!m->hold_rows)
		return;
	if (m->header_pending)
		text_header(m);
	m->header_pending = false;
	for (; cell < end; cell += strlen(cell) + 1) {
		if (*cell == ROW_END) {
			seq_putc(m, '\n');
			column = 0;
			owed = 0;
		} else {
			text_cell(m, column++, *cell, cell + 1, &owed);
		}
	}
	memmove(m->hold, end, m->hold_used - m->hold_rows);
	m->hold_used -= m->hold_rows;
	m->hold_rows = 0;
}

/* Appends to the hold; what does not fit even into an empty hold is cut. */
static void text_hold(struct seq_file *m, char kind, const char *text)
{
	size_t len = strlen(text), room;

	if (m->hold_used + len + 4 > sizeof(m->hold))	/* kind, text, NUL, and the end of the row */
		text_release_rows(m);
	room = sizeof(m->hold) - m->hold_used;
	if (kind == ROW_END) {
		BUG_ON(room < 2);
		len = 0;
	} else if (room < 4) {
		return;
	} else {
		len = min(len, room - 4);
	}
	m->hold[m->hold_used] = kind;
	memcpy(m->hold + m->hold_used + 1, text, len);
	m->hold[m->hold_used + 1 + len] = '\0';
	m->hold_used += (u32)len + 2;
}

static void text_row_cell(struct seq_file *m, const char *key, const char *unit, char align, const char *text)
{
	unsigned column = m->column++;
	char header[COLUMN_WIDTH_MAX + 1];
	size_t width;

	if (column < SEQ_MAX_COLUMNS) {
		if (column == m->nr_columns) {
			m->key[column] = key;
			m->unit[column] = unit;
			m->width[column] = (u8)min(header_text(m, column, header, sizeof(header)), COLUMN_WIDTH_MAX);
			m->nr_columns++;
		}
		width = max((size_t)m->width[column], strlen(text));
		m->width[column] = (u8)min(width, (size_t)COLUMN_WIDTH_MAX);
	}
	text_hold(m, align, text);
}

static void text_pair(struct seq_file *m, const char *key, char align, const char *text, const char *unit)
{
	size_t key_len = strlen(key) + 1, len = strlen(text);

	seq_puts(m, key);
	seq_putc(m, ':');
	seq_pad(m, key_len < PAIR_KEY_WIDTH ? PAIR_KEY_WIDTH - key_len : 1);
	if (align == ALIGN_RIGHT && len < PAIR_VALUE_WIDTH)
		seq_pad(m, PAIR_VALUE_WIDTH - len);
	seq_puts(m, text);
	if (unit) {
		seq_putc(m, ' ');
		seq_puts(m, unit);
	}
	seq_putc(m, '\n');
}

static void text_value(struct seq_file *m, const char *key, char align, const char *text, const char *unit)
{
	if (m->in_row)
		text_row_cell(m, key, unit, align, text);
	else
		text_pair(m, key, align, text, unit);
}

/* A string with control characters as \ooo, cut to the buffer. An empty cell is shown as "-". */
static void text_escape(char *buf, size_t size, const char *s)
{
	size_t len = 0;

	for (; *s && len + 5 <= size; s++) {
		unsigned char c = (unsigned char)*s;

		if (c < ' ' || c == 0x7f)
			len += (size_t)kmm_snprintf(buf + len, size - len, "\\%d%d%d", c >> 6, c >> 3 & 7, c & 7);
		else
			buf[len++] = *s;
	}
	if (!len)
		buf[len++] = '-';
	buf[len] = '\0';
}

/* ---- the interface ---- */

void seq_init(struct seq_file *m, bool json, void (*write)(void *, const char *, size_t), void *arg)
{
	memset(m, 0, offsetof(struct seq_file, hold));
	m->json = json;
	m->write = write;
	m->arg = arg;
	if (json)
		json_open(m, NULL, '{');
}

void seq_end(struct seq_file *m)
{
	if (m->json) {
		json_close(m, '}');
		seq_putc(m, '\n');
	}
	BUG_ON(m->depth || m->section);
	seq_flush(m);
}

void seq_section(struct seq_file *m, const char *name)
{
	BUG_ON(m->section);
	if (m->json) {
		json_open(m, name, '{');
	} else {
		if (!m->first)
			m->first = true;	/* text: no empty line before the first section */
		else
			seq_putc(m, '\n');
		seq_putc(m, '[');
		seq_puts(m, name);
		seq_puts(m, "]\n");
	}
	m->section = name;
}

void seq_section_end(struct seq_file *m)
{
	BUG_ON(!m->section || m->table);
	m->section = NULL;
	if (m->json)
		json_close(m, '}');
}

void seq_comment(struct seq_file *m, const char *fmt, ...)
{
	char line[256];
	va_list ap;

	if (m->json)
		return;
	BUG_ON(m->in_row);
	text_release_rows(m);
	va_start(ap, fmt);
	kmm_vsnprintf(line, sizeof(line), fmt, ap);
	va_end(ap);
	seq_puts(m, line);
	seq_putc(m, '\n');
}

void seq_u64(struct seq_file *m, const char *key, u64 value, const char *unit)
{
	char text[32];

	kmm_snprintf(text, sizeof(text), "%lu", value);
	if (!m->json) {
		text_value(m, key, ALIGN_RIGHT, text, unit);
		return;
	}
	json_member(m, key);
	seq_puts(m, text);
	if (value > INT64_MAX)
		seq_puts(m, ".0");
}

void seq_str(struct seq_file *m, const char *key, const char *value)
{
	char text[512];

	if (!value)
		value = "";
	if (m->json) {
		json_member(m, key);
		json_string(m, value);
		return;
	}
	text_escape(text, sizeof(text), value);
	text_value(m, key, ALIGN_LEFT, text, NULL);
}

void seq_hex(struct seq_file *m, const char *key, u64 value)
{
	char text[32];

	kmm_snprintf(text, sizeof(text), "0x%lx", value);
	if (m->json) {
		json_member(m, key);
		json_string(m, text);
	} else {
		text_value(m, key, ALIGN_RIGHT, text, NULL);
	}
}

void seq_table(struct seq_file *m, const char *name)
{
	BUG_ON(!m->section || m->table);
	m->table = name;
	m->header_pending = true;
	m->nr_columns = 0;
	if (m->json)
		json_open(m, name, '[');
}

void seq_table_end(struct seq_file *m)
{
	BUG_ON(!m->table || m->in_row);
	if (m->json)
		json_close(m, ']');
	else
		text_release_rows(m);
	m->table = NULL;
}

void seq_row(struct seq_file *m)
{
	BUG_ON(!m->table || m->in_row);
	m->column = 0;
	if (m->json)
		json_open(m, NULL, '{');
	m->in_row = 1;
}

void seq_row_end(struct seq_file *m)
{
	BUG_ON(!m->in_row);
	if (m->json) {
		json_close(m, '}');
	} else {
		text_hold(m, ROW_END, "");
		m->hold_rows = m->hold_used;
	}
	m->in_row = 0;
}
