// SPDX-License-Identifier: MIT
/*
 * dump.c - reads a table out of a statistics dump (KMM_STATS, kmm_stats_print()), for the views of the tool.
 *
 * Purpose. A view takes what the library prints, text or JSON, and need not know which. Cells are strings; the buffer
 * is cut up in place, forwards, once.
 *
 *	[memcg]				{ "memcg": {
 *	Groups:     on			   "Groups": "on",
 *	groups:				   "groups": [
 *	path  colour  current(kB)	     { "path": "/", "colour": 0, "current": 4096 }
 *	/     0          4096		   ] } }
 *
 * A key's unit, which only text has, is left out. What is not a dump is refused with a number below zero, wherever in it
 * the error is: nothing is believed about the text but its last byte, 0.
 */
#include "kmm.h"
#include <ctype.h>
#include <errno.h>
#include <string.h>

#define DEPTH_MAX 64

struct row {
	struct dump_cell cell[DUMP_MAX_CELLS];
	unsigned nr;
};

/* ---- text ---- */

/* The line at *s, without its end; *s moves behind it. NULL: there is none. */
static char *next_line(char **s)
{
	char *line = *s, *end = strchr(line, '\n');

	if (!*line)
		return NULL;
	*s = end ? end + 1 : line + strlen(line);
	if (end)
		*end = '\0';
	return line;
}

static unsigned split(char *line, char *field[DUMP_MAX_CELLS])
{
	unsigned nr = 0;

	for (char *word = strtok(line, " \t"); word && nr < DUMP_MAX_CELLS; word = strtok(NULL, " \t"))
		field[nr++] = word;
	return nr;
}

static char *text_table(char *s, const char *section, const char *table)
{
	size_t section_len = strlen(section), len = strlen(table);
	bool inside = false;
	char *line;

	while ((line = next_line(&s)) != NULL) {
		if (*line == '[')
			inside = !strncmp(line + 1, section, section_len) && !strcmp(line + 1 + section_len, "]");
		else if (inside && !strncmp(line, table, len) && !strcmp(line + len, ":"))
			return s;
	}
	return NULL;
}

static int for_each_text_row(char *s, const char *section, const char *table, dump_row_fn fn, void *arg)
{
	char *field[DUMP_MAX_CELLS], *line;
	struct row row = { .nr = 0 };
	int nr = 0;

	s = text_table(s, section, table);
	line = s ? next_line(&s) : NULL;
	if (!line)
		return -ENOENT;
	row.nr = split(line, field);
	for (unsigned i = 0; i < row.nr; i++) {
		field[i][strcspn(field[i], "(")] = '\0';
		row.cell[i].key = field[i];
	}
	for (; (line = next_line(&s)) != NULL && *line != '[' && *line != '\0'; nr++) {
		if (split(line, field) != row.nr)
			return -EINVAL;
		for (unsigned i = 0; i < row.nr; i++)
			row.cell[i].value = field[i];
		fn(row.cell, row.nr, arg);
	}
	return nr;
}

/* ---- JSON: every function returns where it ended, NULL when that is no JSON ---- */

static char *skip_blanks(char *s)
{
	return s + strspn(s, " \t\r\n");
}

/* At a quote. *out is the string, terminated; escapes but the simple ones become '?'. */
static char *json_string(char *s, char **out)
{
	char *to = ++s;

	for (*out = to; *s != '"'; s++) {
		if (*s == '\0')
			return NULL;
		if (*s == '\\') {
			s++;
			if (*s == 'u')
				for (int i = 0; i < 4; i++)
					if (!isxdigit((unsigned char)*++s))
						return NULL;
			if (*s == '\0')
				return NULL;
			*to++ = strchr("\"\\/", *s) ? *s : '?';
		} else {
			*to++ = *s;
		}
	}
	*to = '\0';
	return s + 1;
}

static char *json_skip(char *s, unsigned depth);

/* Behind the opening bracket: skips members, with keys or without, as far as close. */
static char *json_skip_members(char *s, char close, unsigned depth)
{
	char *key;

	s = skip_blanks(s);
	if (*s == close)
		return s + 1;
	for (;;) {
		if (close == '}') {
			s = *s == '"' ? json_string(s, &key) : NULL;
			s = s ? skip_blanks(s) : NULL;
			if (!s || *s++ != ':')
				return NULL;
			s = skip_blanks(s);
		}
		s = json_skip(s, depth + 1);
		if (!s)
			return NULL;
		s = skip_blanks(s);
		if (*s == close)
			return s + 1;
		if (*s++ != ',')
			return NULL;
		s = skip_blanks(s);
	}
}

static char *json_skip(char *s, unsigned depth)
{
	size_t len = strspn(s, "+-.0123456789abcdefghijklmnopqrstuvwxyzE");	/* numbers, true, false, null */
	char *string;

	if (depth > DEPTH_MAX)
		return NULL;
	if (*s == '"')
		return json_string(s, &string);
	if (*s == '{' || *s == '[')
		return json_skip_members(s + 1, *s == '{' ? '}' : ']', depth);
	return len ? s + len : NULL;
}

/* The value of a member of the object at s; NULL: there is none, or no object. */
static char *json_member(char *s, const char *wanted)
{
	char *key;

	s = skip_blanks(s);
	if (*s != '{')
		return NULL;
	do {
		s = skip_blanks(s + 1);
		s = *s == '"' ? json_string(s, &key) : NULL;
		s = s ? skip_blanks(s) : NULL;
		if (!s || *s++ != ':')
			return NULL;
		s = skip_blanks(s);
		if (!strcmp(key, wanted))
			return s;
		s = json_skip(s, 0);
		s = s ? skip_blanks(s) : NULL;
	} while (s && *s == ',');
	return NULL;
}

/* A scalar, as text; *s moves behind it and to the comma or bracket that follows, which is returned. 0: something else. */
static char json_scalar(char **s, char **value)
{
	char *end, next;

	*value = *s;
	end = **s == '"' ? json_string(*s, value) : **s == '{' || **s == '[' ? NULL : json_skip(*s, 0);
	if (!end)
		return 0;
	*s = skip_blanks(end);
	next = **s;
	if (**value != '"' && end > *value)
		*end = '\0';
	return next;
}

/* At '{': the members of a row. */
static char *json_row(char *s, struct row *row)
{
	char next = ',', *key;

	row->nr = 0;
	s = skip_blanks(s + 1);
	while (next == ',' && row->nr < DUMP_MAX_CELLS) {
		s = *s == '"' ? json_string(s, &key) : NULL;
		s = s ? skip_blanks(s) : NULL;
		if (!s || *s++ != ':')
			return NULL;
		s = skip_blanks(s);
		row->cell[row->nr].key = key;
		next = json_scalar(&s, (char **)&row->cell[row->nr++].value);
		s = next ? skip_blanks(s + 1) : NULL;
		if (!s)
			return NULL;
	}
	return next == '}' ? s : NULL;
}

static int for_each_json_row(char *s, const char *section, const char *table, dump_row_fn fn, void *arg)
{
	struct row row;
	int nr = 0;

	s = json_member(s, section);
	s = s ? json_member(s, table) : NULL;
	if (!s || *s != '[')
		return -ENOENT;
	s = skip_blanks(s + 1);
	while (*s == '{') {
		s = json_row(s, &row);
		if (!s)
			return -EINVAL;
		fn(row.cell, row.nr, arg);
		nr++;
		if (*s == ',')
			s = skip_blanks(s + 1);
	}
	return *s == ']' ? nr : -EINVAL;
}

int for_each_dump_row(char *text, const char *section, const char *table, dump_row_fn fn, void *arg)
{
	return *skip_blanks(text) == '{' ? for_each_json_row(text, section, table, fn, arg)
					 : for_each_text_row(text, section, table, fn, arg);
}

const char *dump_value(const struct dump_cell *cell, unsigned nr, const char *key)
{
	for (unsigned i = 0; i < nr; i++)
		if (!strcmp(cell[i].key, key))
			return cell[i].value;
	return "-";
}
