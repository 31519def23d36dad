/* SPDX-License-Identifier: MIT */
/*
 * leaky.c - a plug-in that leaks: what memory groups are for. memcg_plugin.c and memcg_rules.sh open it, and redis-server
 * does as a module, with the command LEAK (memcg_redis.sh). What it needs of redis's module interface stands here.
 */
#include <stdlib.h>

/* Allocates nr blocks of 1000 bytes and forgets them; how many it got. */
long leak(long nr)
{
	for (long i = 0; i < nr; i++) {
		char *p = malloc(1000);

		if (!p)
			return i;
		*p = 1;
	}
	return nr;
}

/* --- the module ------------------------------------------------------------------------------------------------- */

static int (*reply_with_long_long)(void *ctx, long long n);
static int (*string_to_long_long)(const void *string, long long *n);

static int leak_command(void *ctx, void **argv, int argc)
{
	long long nr = 0;

	if (argc == 2)
		string_to_long_long(argv[1], &nr);
	return reply_with_long_long(ctx, leak((long)nr));
}

int RedisModule_OnLoad(void *ctx, void **argv, int argc);
int RedisModule_OnLoad(void *ctx, void **argv, int argc)
{
	int (*get_api)(const char *name, void *fn) = *(int (**)(const char *, void *))ctx;
	void (*set_attributes)(void *, const char *, int, int);
	int (*create_command)(void *, const char *, int (*)(void *, void **, int), const char *, int, int, int);

	(void)argv;
	(void)argc;
	get_api("RedisModule_SetModuleAttribs", &set_attributes);
	get_api("RedisModule_CreateCommand", &create_command);
	get_api("RedisModule_ReplyWithLongLong", &reply_with_long_long);
	get_api("RedisModule_StringToLongLong", &string_to_long_long);
	set_attributes(ctx, "leaky", 1, 1);
	return create_command(ctx, "leak", leak_command, "", 0, 0, 0);
}
