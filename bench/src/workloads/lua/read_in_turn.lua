-- In turn: readers and writers take turns while both want the lock. The mode is one of
--   read       readers are inside
--   closing    the same, and a writer waits; when the last reader is gone, the writer may come
--   closing+   the same, and readers wait for their next turn
--   write      a writer is inside
--   write+     the same, and readers wait
--   open       the writer has gone, and readers who waited are on their way
--   due        the same, and a writer waits until at least one of them was inside
-- KEYS: the lock. ARGV: lease, holder, whether it was refused before. Replies nil when granted, otherwise how long the
-- lock is held at most.
local mode = redis.call('hget', KEYS[1], 'mode')
if mode == 'read' then
    redis.call('hincrby', KEYS[1], ARGV[2], 1)
elseif not mode or mode == 'open' then
    redis.call('hset', KEYS[1], 'mode', 'read', ARGV[2], 1)
elseif mode == 'due' then
    redis.call('hset', KEYS[1], 'mode', 'closing', ARGV[2], 1)
elseif ARGV[3] == '1' and (mode == 'closing' or mode == 'closing+') then
    redis.call('hincrby', KEYS[1], ARGV[2], 1)
else
    if mode == 'write' or mode == 'closing' then
        redis.call('hset', KEYS[1], 'mode', mode .. '+')
    end
    return redis.call('pttl', KEYS[1])
end
redis.call('pexpire', KEYS[1], ARGV[1])
return nil
