-- Readers first: lets a reader in unless a writer is inside.
-- KEYS: the lock. ARGV: lease, holder. Replies nil when granted, otherwise how long the lock is held at most.
local mode = redis.call('hget', KEYS[1], 'mode')
if mode == 'write' then
    return redis.call('pttl', KEYS[1])
end
if mode then
    redis.call('hincrby', KEYS[1], ARGV[2], 1)
else
    redis.call('hset', KEYS[1], 'mode', 'read', ARGV[2], 1)
end
redis.call('pexpire', KEYS[1], ARGV[1])
return nil
