-- Readers first: lets a writer in when nobody is inside.
-- KEYS: the lock. ARGV: lease, holder. Replies as read.lua.
if redis.call('exists', KEYS[1]) == 1 then
    return redis.call('pttl', KEYS[1])
end
redis.call('hset', KEYS[1], 'mode', 'write', ARGV[2], 1)
redis.call('pexpire', KEYS[1], ARGV[1])
return nil
