/* A module that runs other modules' commands: CALLER.RUN format command [arg ...] hands the words to RM_Call with this
 * format and passes the reply on. A word at its load is another name for its command. It declares
 * the few functions that it needs itself, as no server's header is at hand. */
#include <errno.h>
#include <stdio.h>

typedef struct Ctx Ctx;
typedef struct String String;
typedef struct Reply Reply;

static int (*get_api)(const char *, void *);
static int (*set_module_attribs)(Ctx *, const char *, int, int);
static int (*create_command)(Ctx *, const char *, int (*)(Ctx *, String **, int), const char *, int, int, int);
static const char *(*string_ptr_len)(String *, size_t *);
static Reply *(*call)(Ctx *, const char *, const char *, ...);
static int (*reply_with_call_reply)(Ctx *, Reply *);
static int (*reply_with_error)(Ctx *, const char *);
static void (*free_call_reply)(Reply *);
static int (*call_reply_type)(Reply *);

/* The type of a reply that comes later. */
enum { PROMISE = 12 };

static int run(Ctx *ctx, String **argv, int argc) {
    if (argc < 3) return reply_with_error(ctx, "ERR format and command are needed");
    const char *format = string_ptr_len(argv[1], NULL), *command = string_ptr_len(argv[2], NULL);
    Reply *reply = call(ctx, command, format, argv + 3, (size_t)(argc - 3));
    if (!reply) {
        char text[64];
        snprintf(text, sizeof(text), "NOREPLY errno %d", errno);
        return reply_with_error(ctx, text);
    }
    if (call_reply_type(reply) == PROMISE) return reply_with_error(ctx, "ERR the reply comes later");
    reply_with_call_reply(ctx, reply);
    free_call_reply(reply);
    return 0;
}

int RedisModule_OnLoad(Ctx *ctx, String **argv, int argc) {
    get_api = *(int (**)(const char *, void *))ctx;
    int missing = get_api("RedisModule_SetModuleAttribs", &set_module_attribs)
        | get_api("RedisModule_CreateCommand", &create_command)
        | get_api("RedisModule_StringPtrLen", &string_ptr_len)
        | get_api("RedisModule_Call", &call)
        | get_api("RedisModule_ReplyWithCallReply", &reply_with_call_reply)
        | get_api("RedisModule_ReplyWithError", &reply_with_error)
        | get_api("RedisModule_FreeCallReply", &free_call_reply)
        | get_api("RedisModule_CallReplyType", &call_reply_type);
    if (missing) return 1;
    set_module_attribs(ctx, "caller", 1, 1);
    const char *name = argc ? string_ptr_len(argv[0], NULL) : "caller.run";
    return create_command(ctx, name, run, "write", 0, 0, 0);
}
