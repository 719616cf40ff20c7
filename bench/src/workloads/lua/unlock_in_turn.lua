-- In turn: ends a hold. The modes are those of read_in_turn.lua.
-- KEYS: the lock. ARGV: holder, channel of the readers, of the writers. Replies whether the holder had it.
local held = redis.call('hmget', KEYS[1], 'mode', ARGV[1])
if not held[2] then
    return 0
end
if held[1] == 'write' then
    redis.call('del', KEYS[1])
    redis.call('publish', ARGV[3], 'one')
    return 1
end
if held[1] ~= 'write+' and tonumber(held[2]) > 1 then
    redis.call('hincrby', KEYS[1], ARGV[1], -1)
    return 1
end
redis.call('hdel', KEYS[1], ARGV[1])
if held[1] == 'write+' then
    redis.call('hset', KEYS[1], 'mode', 'open')
    -- Readers that do not come, as all may have gone, must not keep writers out for longer than this.
    redis.call('pexpire', KEYS[1], 100)
    redis.call('publish', ARGV[2], 'all')
    redis.call('publish', ARGV[3], 'one')
elseif redis.call('hlen', KEYS[1]) == 1 then
    if held[1] == 'read' then
        redis.call('del', KEYS[1])
    end
    redis.call('publish', ARGV[3], 'one')
end
return 1
