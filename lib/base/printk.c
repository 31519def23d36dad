// SPDX-License-Identifier: MIT
/*
 * printk.c - messages of the library to the outside, and the way down when nothing else is left.
 *
 * Purpose. Everything that libkmm has to say goes through here: the banner, warnings about settings, and the one
 * line before an abort. It runs where stdio cannot: inside malloc, before main, in signal handlers, with memory
 * exhausted and with locks held.
 *
 * Objects. One line in a buffer on the caller's stack. The only state is console_write, a pointer that the os layer
 * defines (a test points it at a buffer, the kmm tool has its own).
 *
 * Invariants. One call is one write of one line: "kmm: ", the text, a newline. Control characters inside the text
 * (names and values come from outside) are shown as '?', so a line stays a line; what does not fit ends in "...".
 *
 * Locks. None. Two threads may write at once; each line stays whole because it is one write(2).
 *
 * Kernel counterpart and what differs. kernel/printk, lib/vsprintf.c, kernel/panic.c. No log buffer, no levels in
 * the output: pr_info() is for what was asked for (KMM_VERBOSE), pr_warn() for what the user must know. %p prints
 * the address as it is: nothing here is a secret from the process itself.
 */
#include "base/printk.h"
#include "base/bug.h"
#include <stdlib.h>
#include <string.h>

struct printbuf {
	char *buf;
	size_t size;
	size_t len;		/* what the whole would have had, may exceed size */
};

struct printf_spec {
	bool left;
	bool zero;
	int width;
	int precision;		/* -1: none */
	int length;		/* bytes of the integer argument */
};

static void put_char(struct printbuf *out, char c)
{
	if (out->len + 1 < out->size)
		out->buf[out->len] = c;
	out->len++;
}

static void put_padding(struct printbuf *out, char c, int n)
{
	while (n-- > 0)
		put_char(out, c);
}

static void put_string(struct printbuf *out, const struct printf_spec *spec, const char *s)
{
	int i, len;

	if (!s)
		s = "(null)";
	for (len = 0; (spec->precision < 0 || len < spec->precision) && s[len]; len++)
		;
	if (!spec->left)
		put_padding(out, ' ', spec->width - len);
	for (i = 0; i < len; i++)
		put_char(out, s[i]);
	if (spec->left)
		put_padding(out, ' ', spec->width - len);
}

static void put_number(struct printbuf *out, const struct printf_spec *spec, u64 value, unsigned base,
		       const char *prefix, bool upper)
{
	const char *digits = upper ? "0123456789ABCDEF" : "0123456789abcdef";
	int prefix_len = (int)strlen(prefix);
	char text[24];
	int n = 0, pad;

	do {
		text[n++] = digits[value % base];
		value /= base;
	} while (value);

	pad = spec->width - n - prefix_len;
	if (!spec->left && !spec->zero)
		put_padding(out, ' ', pad);
	while (*prefix)
		put_char(out, *prefix++);
	if (!spec->left && spec->zero)
		put_padding(out, '0', pad);
	while (n)
		put_char(out, text[--n]);
	if (spec->left)
		put_padding(out, ' ', pad);
}

static int parse_int(const char **fmt)
{
	int n = 0;

	while (**fmt >= '0' && **fmt <= '9' && n < 10000)
		n = n * 10 + *(*fmt)++ - '0';
	return n;
}

/* A va_list by value is an array on some machines and a struct on others: in a struct it can be passed on. */
struct printf_args {
	va_list ap;
};

static struct printf_spec parse_spec(const char **fmt, struct printf_args *args)
{
	struct printf_spec spec = { .precision = -1, .length = sizeof(int) };

	for (;; (*fmt)++) {
		if (**fmt == '-')
			spec.left = true;
		else if (**fmt == '0')
			spec.zero = true;
		else
			break;
	}
	if (**fmt == '*') {
		spec.width = va_arg(args->ap, int);
		(*fmt)++;
	} else {
		spec.width = parse_int(fmt);
	}
	if (spec.width < 0) {
		spec.left = true;
		spec.width = -spec.width;
	}
	if (**fmt == '.') {
		(*fmt)++;
		if (**fmt == '*') {
			spec.precision = va_arg(args->ap, int);
			(*fmt)++;
		} else {
			spec.precision = parse_int(fmt);
		}
	}
	for (; **fmt == 'l' || **fmt == 'z' || **fmt == 'j' || **fmt == 't'; (*fmt)++)
		spec.length = 8;
	return spec;
}

static void put_conversion(struct printbuf *out, const struct printf_spec *spec, char conversion,
			   struct printf_args *args)
{
	bool wide = spec->length == 8;
	u64 u;
	s64 d;

	switch (conversion) {
	case 'd':
	case 'i':
		d = wide ? va_arg(args->ap, s64) : va_arg(args->ap, int);
		put_number(out, spec, d < 0 ? -(u64)d : (u64)d, 10, d < 0 ? "-" : "", false);
		break;
	case 'u':
	case 'x':
	case 'X':
		u = wide ? va_arg(args->ap, u64) : va_arg(args->ap, unsigned);
		put_number(out, spec, u, conversion == 'u' ? 10 : 16, "", conversion == 'X');
		break;
	case 'p':
		put_number(out, spec, (uintptr_t)va_arg(args->ap, void *), 16, "0x", false);
		break;
	case 's':
		put_string(out, spec, va_arg(args->ap, const char *));
		break;
	case 'c':
		put_string(out, spec, (char[]){ (char)va_arg(args->ap, int), '\0' });
		break;
	case '%':
		put_char(out, '%');
		break;
	default:		/* not ours; arguments can no longer be told apart */
		BUG();
	}
}

int kmm_vsnprintf(char *buf, size_t size, const char *fmt, va_list ap)
{
	struct printbuf out = { buf, size, 0 };
	struct printf_args args;

	va_copy(args.ap, ap);
	while (*fmt) {
		struct printf_spec spec;

		if (*fmt != '%') {
			put_char(&out, *fmt++);
			continue;
		}
		fmt++;
		spec = parse_spec(&fmt, &args);
		put_conversion(&out, &spec, *fmt, &args);
		fmt++;
	}
	va_end(args.ap);
	if (size)
		buf[min(out.len, size - 1)] = '\0';
	return (int)out.len;
}

int kmm_snprintf(char *buf, size_t size, const char *fmt, ...)
{
	va_list ap;
	int len;

	va_start(ap, fmt);
	len = kmm_vsnprintf(buf, size, fmt, ap);
	va_end(ap);
	return len;
}

static void vprintk(const char *fmt, va_list ap)
{
	static const char prefix[] = "kmm: ";
	char line[PRINTK_MAX];
	size_t len = sizeof(prefix) - 1, i;

	memcpy(line, prefix, len);
	len += (size_t)kmm_vsnprintf(line + len, sizeof(line) - len, fmt, ap);
	if (len > sizeof(line) - 1) {
		len = sizeof(line) - 1;
		memcpy(line + len - 3, "...", 3);
	}
	if (line[len - 1] == '\n')
		len--;
	for (i = 0; i < len; i++)
		if ((unsigned char)line[i] < ' ' || line[i] == 0x7f)
			line[i] = '?';
	line[len++] = '\n';
	console_write(line, len);
}

void pr_info(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintk(fmt, ap);
	va_end(ap);
}

void pr_warn(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintk(fmt, ap);
	va_end(ap);
}

void panic(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintk(fmt, ap);
	va_end(ap);
	abort();
}

void __bug(const char *file, int line, const char *what)
{
	panic("BUG: %s:%d: %s", file, line, what);
}
