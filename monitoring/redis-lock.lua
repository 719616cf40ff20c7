-- The figures of the lock module for redis_exporter, which asks for INFO without the sections of modules:
--   redis_exporter -script redis-lock.lua
-- Its user needs +eval +info +lock.stats. Reads only, so it runs on replicas too.
local figures = {}

local function add(name, value)
    figures[#figures + 1] = name
    figures[#figures + 1] = tostring(value)
end

for name, value in string.gmatch(redis.call('INFO', 'lock'), 'lock_([%w_]+):(%d+)') do
    add(name, value)
end

-- A server without the module. An error would look as if there were no server, and the alert on that would be the wrong one.
if #figures == 0 then
    return figures
end

-- Pairs as an array, in which a value can be pairs again.
local function field(pairs_, wanted)
    for i = 1, #pairs_, 2 do
        if pairs_[i] == wanted then
            return pairs_[i + 1]
        end
    end
end

-- Each time as a histogram: in a bucket are all times that are shorter than its bound, which is in seconds.
local stats = redis.call('LOCK.STATS')
for name, wanted in pairs({ wait = 'wait-us', hold = 'hold-us', handoff_delay = 'handoff-delay-us' }) do
    local times = field(stats, wanted)
    local buckets = field(times, 'buckets')
    for power = 6, 33 do
        local below = 0
        for i = 1, #buckets, 2 do
            if buckets[i] <= 2 ^ power then
                below = below + buckets[i + 1]
            end
        end
        add(string.format('%s_le_%.6f', name, 2 ^ power / 1e6), below)
    end
    add(name .. '_le_+Inf', field(times, 'count'))
    add(name .. '_us_sum', field(times, 'sum'))
    add(name .. '_count', field(times, 'count'))
end
return figures
