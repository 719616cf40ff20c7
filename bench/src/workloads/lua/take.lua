-- Takes a permit.
-- KEYS: the semaphore. ARGV: the client's clock, limit, lease, holder. Replies nil when granted, otherwise how long
-- until the first lease is over.
redis.call('zremrangebyscore', KEYS[1], '-inf', ARGV[1])
if redis.call('zcard', KEYS[1]) < tonumber(ARGV[2]) then
    redis.call('zadd', KEYS[1], ARGV[1] + ARGV[3], ARGV[4])
    return nil
end
return redis.call('zrange', KEYS[1], 0, 0, 'withscores')[2] - ARGV[1]
