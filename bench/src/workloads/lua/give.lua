-- Gives a permit back.
-- KEYS: the semaphore. ARGV: holder, channel. Replies whether the holder had one.
if redis.call('zrem', KEYS[1], ARGV[1]) == 1 then
    redis.call('publish', ARGV[2], 'one')
    return 1
end
return 0
