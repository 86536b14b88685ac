/* A module of redis with a command that has others executed: two from its own
 * code, and a script, which has two more. Its interface is asked for by name, so
 * that it takes no header of redis's. */
#include <stddef.h>

typedef struct ctx ctx;
typedef struct string string;
typedef struct reply reply;

static void (*set_attributes)(ctx *, const char *, int, int);
static int (*create_command)(ctx *, const char *, int (*)(ctx *, string **, int), const char *, int, int, int);
static reply *(*call)(ctx *, const char *, const char *, ...);
static void (*free_reply)(reply *);
static int (*answer)(ctx *, long long);

static int twice(ctx *c, string **argv, int argc)
{
	const char *script = "redis.call('incr', KEYS[1]); return redis.call('exists', KEYS[1])";

	if (argc != 2)
		return answer(c, -1);
	free_reply(call(c, "INCR", "s", argv[1]));
	free_reply(call(c, "EXISTS", "s", argv[1]));
	free_reply(call(c, "EVAL", "cls", script, 1LL, argv[1]));
	return answer(c, 2);
}

int RedisModule_OnLoad(ctx *c, string **argv, int argc)
{
	int (*get)(const char *, void *) = *(void **)c;

	if (get("RedisModule_SetModuleAttribs", &set_attributes) || get("RedisModule_CreateCommand", &create_command) ||
	    get("RedisModule_Call", &call) || get("RedisModule_FreeCallReply", &free_reply) ||
	    get("RedisModule_ReplyWithLongLong", &answer))
		return 1;
	set_attributes(c, "demo", 1, 1);
	return create_command(c, "demo.twice", twice, "write", 1, 1, 1);
}
