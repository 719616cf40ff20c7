/* The least module that locks: the floor under what any module can do with a key, a lease, a fence and a queue.
 *
 *   FLOOR.ACQUIRE key owner PX milliseconds     the fence, or nil while somebody else has the lock
 *   FLOOR.ACQUIRE key owner BLOCK 0             the same, or waits for its turn; no lease
 *   FLOOR.RELEASE key owner                     1, or 0 if the owner does not have it; the first in line has it then
 *
 * The benchmark loads it beside the lock module. It keeps what a lock cannot do without and nothing else: it is not
 * saved, not replicated, ends no lease by itself and does not notice a client that goes. It must never grow.
 * The server's functions are declared here as far as they are used, so that no header of a server is needed. */

#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef void Ctx, Key, Str, Type, Client;
typedef int Command(Ctx *, Str **, int);

enum { OK = 0, FAILED = 1, API = 1, READ_AND_WRITE = 3, EMPTY = 0 };

#define FUNCTIONS(F) \
    F(void, SetModuleAttribs, (Ctx *, const char *, int, int)) \
    F(int, CreateCommand, (Ctx *, const char *, Command *, const char *, int, int, int)) \
    F(Type *, CreateDataType, (Ctx *, const char *, int, void *)) \
    F(Key *, OpenKey, (Ctx *, Str *, int)) \
    F(void, CloseKey, (Key *)) \
    F(int, KeyType, (Key *)) \
    F(Type *, ModuleTypeGetType, (Key *)) \
    F(void *, ModuleTypeGetValue, (Key *)) \
    F(int, ModuleTypeSetValue, (Key *, Type *, void *)) \
    F(int, DeleteKey, (Key *)) \
    F(int, SignalModifiedKey, (Ctx *, Str *)) \
    F(const char *, StringPtrLen, (const Str *, size_t *)) \
    F(int, StringToLongLong, (const Str *, long long *)) \
    F(void *, Alloc, (size_t)) \
    F(void, Free, (void *)) \
    F(uint64_t, MonotonicMicroseconds, (void)) \
    F(Client *, BlockClient, (Ctx *, Command *, Command *, void (*)(Ctx *, void *), long long)) \
    F(int, UnblockClient, (Client *, void *)) \
    F(void *, GetBlockedClientPrivateData, (Ctx *)) \
    F(int, WrongArity, (Ctx *)) \
    F(int, ReplyWithError, (Ctx *, const char *)) \
    F(int, ReplyWithNull, (Ctx *)) \
    F(int, ReplyWithLongLong, (Ctx *, long long))

#define DECLARE(result, name, arguments) static result(*name) arguments;
FUNCTIONS(DECLARE)

/* Who has a lock, or waits for it. */
struct name {
    size_t length;
    char bytes[40];
};

struct waiter {
    struct waiter *next;
    Client *client;
    struct name owner;
};

struct lock {
    /* Place in the list by deadline: all leases of a run are equally long, so that the newest goes to its end. */
    struct lock *before, *after;
    uint64_t deadline;
    long long fence;
    struct waiter *first, **last;
    struct name owner;
};

static Type *type;
static long long fence;
static struct lock leases = {.before = &leases, .after = &leases};

/* Whether the word was short enough. */
static int take_name(struct name *name, const Str *word) {
    const char *bytes = StringPtrLen(word, &name->length);
    if (name->length > sizeof name->bytes) return 0;
    memcpy(name->bytes, bytes, name->length);
    return 1;
}

static int is(const struct name *name, const Str *word) {
    size_t length;
    const char *bytes = StringPtrLen(word, &length);
    return length == name->length && memcmp(bytes, name->bytes, length) == 0;
}

static void free_lock(void *value) {
    struct lock *lock = value;
    lock->before->after = lock->after;
    lock->after->before = lock->before;
    Free(lock);
}

static int reply_fence(Ctx *ctx, Str **words, int count) {
    (void)words, (void)count;
    return ReplyWithLongLong(ctx, *(long long *)GetBlockedClientPrivateData(ctx));
}

static void free_fence(Ctx *ctx, void *given) {
    (void)ctx;
    Free(given);
}

static int reply_nothing(Ctx *ctx, Str **words, int count) {
    (void)words, (void)count;
    return ReplyWithNull(ctx);
}

/* The lock in an open key, NULL for none; whether the key can have one. */
static int find(Key *key, struct lock **lock) {
    *lock = NULL;
    if (ModuleTypeGetType(key) == type) *lock = ModuleTypeGetValue(key);
    return *lock || KeyType(key) == EMPTY;
}

static int acquire(Ctx *ctx, Str **words, int count) {
    long long ms;
    if (count != 5) return WrongArity(ctx);
    struct name owner;
    if (StringToLongLong(words[4], &ms) != OK || ms < 0 || !take_name(&owner, words[2]))
        return ReplyWithError(ctx, "ERR no such time or owner");
    Key *key = OpenKey(ctx, words[1], READ_AND_WRITE);
    uint64_t now = MonotonicMicroseconds();
    struct lock *lock;
    if (!find(key, &lock)) {
        CloseKey(key);
        return ReplyWithError(ctx, "WRONGTYPE no lock");
    }
    if (!lock) {
        lock = Alloc(sizeof *lock);
        lock->owner = owner;
        lock->deadline = ms ? now + (uint64_t)ms * 1000 : UINT64_MAX;
        lock->fence = ++fence;
        lock->first = NULL;
        lock->last = &lock->first;
        lock->before = leases.before;
        lock->after = &leases;
        lock->before->after = leases.before = lock;
        ModuleTypeSetValue(key, type, lock);
        SignalModifiedKey(ctx, words[1]);
    } else if (ms == 0) {
        struct waiter *waiter = Alloc(sizeof *waiter);
        waiter->owner = owner;
        waiter->client = BlockClient(ctx, reply_fence, reply_nothing, free_fence, 0);
        waiter->next = NULL;
        *lock->last = waiter;
        lock->last = &waiter->next;
        CloseKey(key);
        return OK;
    } else if (!is(&lock->owner, words[2])) {
        if (lock->deadline > now) {
            CloseKey(key);
            return ReplyWithNull(ctx);
        }
        lock->owner = owner;
        lock->fence = ++fence;
        lock->deadline = now + (uint64_t)ms * 1000;
        SignalModifiedKey(ctx, words[1]);
    }
    CloseKey(key);
    return ReplyWithLongLong(ctx, lock->fence);
}

/* The first in line has the lock from now on. */
static void hand_over(struct lock *lock) {
    struct waiter *waiter = lock->first;
    lock->first = waiter->next;
    if (!lock->first) lock->last = &lock->first;
    lock->owner = waiter->owner;
    lock->fence = ++fence;
    long long *told = Alloc(sizeof *told);
    *told = lock->fence;
    UnblockClient(waiter->client, told);
    Free(waiter);
}

static int release(Ctx *ctx, Str **words, int count) {
    if (count != 3) return WrongArity(ctx);
    Key *key = OpenKey(ctx, words[1], READ_AND_WRITE);
    uint64_t now = MonotonicMicroseconds();
    struct lock *lock;
    find(key, &lock);
    int has = lock && lock->deadline > now && is(&lock->owner, words[2]);
    if (has) {
        if (lock->first)
            hand_over(lock);
        else
            DeleteKey(key);
        SignalModifiedKey(ctx, words[1]);
    }
    CloseKey(key);
    return ReplyWithLongLong(ctx, has);
}

/* Called by the server, which keeps the function that finds the others at the start of the context. */
int RedisModule_OnLoad(Ctx *ctx, Str **words, int count) {
    (void)words, (void)count;
    int (*find_function)(const char *, void *) = *(int (**)(const char *, void *))ctx;
#define FIND(result, name, arguments) \
    if (find_function("RedisModule_" #name, &name) != OK) return FAILED;
    FUNCTIONS(FIND)
    SetModuleAttribs(ctx, "floor", 1, API);
    /* The version of the table and its callbacks: load, save, rewrite, memory, digest, free. */
    struct {
        uint64_t version;
        void *load, *save, *rewrite, *memory, *digest;
        void (*free)(void *);
    } methods = {.version = 1, .free = free_lock};
    type = CreateDataType(ctx, "leastlock", 0, &methods);
    /* As long as the fences of the lock module: microseconds since 1970. */
    fence = (long long)time(NULL) * 1000000;
    return type && CreateCommand(ctx, "floor.acquire", acquire, "write deny-oom fast", 1, 1, 1) == OK &&
                   CreateCommand(ctx, "floor.release", release, "write fast", 1, 1, 1) == OK
               ? OK
               : FAILED;
}
