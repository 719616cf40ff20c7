-- In turn: lets a writer in when nobody is inside and no reader comes first. The modes are those of read_in_turn.lua.
-- KEYS: the lock. ARGV: lease, holder. Replies as read_in_turn.lua.
local mode = redis.call('hget', KEYS[1], 'mode')
local after = 'write'
if mode then
    local closing = mode == 'closing' or mode == 'closing+'
    if not closing or redis.call('hlen', KEYS[1]) > 1 then
        if mode == 'read' then
            redis.call('hset', KEYS[1], 'mode', 'closing')
        elseif mode == 'open' then
            redis.call('hset', KEYS[1], 'mode', 'due')
        end
        return redis.call('pttl', KEYS[1])
    end
    if mode == 'closing+' then
        after = 'write+'
    end
end
redis.call('hset', KEYS[1], 'mode', after, ARGV[2], 1)
redis.call('pexpire', KEYS[1], ARGV[1])
return nil
