//! A module with one command that does nothing: the floor under every module command.
//! The benchmark loads it next to the lock module; it must never grow a second purpose.

use redis_module::{redis_module, Context, RedisResult, RedisString, RedisValue};

fn noop(_ctx: &Context, _args: Vec<RedisString>) -> RedisResult {
    Ok(RedisValue::SimpleStringStatic("OK"))
}

redis_module! {
    name: "benchnoop",
    version: 1,
    allocator: (redis_module::alloc::RedisAlloc, redis_module::alloc::RedisAlloc),
    data_types: [],
    commands: [
        ["bench.noop", noop, "readonly fast", 0, 0, 0, ""],
    ],
}
