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

-- Pairs as an array, in which a value can be pairs again.
local function field(pairs_, wanted)
    for i = 1, #pairs_, 2 do
        if pairs_[i] == wanted then
            return pairs_[i + 1]
        end
    end
end

local stats = redis.call('LOCK.STATS')
for name, times in pairs({ wait_us = 'wait-us', hold_us = 'hold-us', handoff_delay_us = 'handoff-delay-us' }) do
    for suffix, quantile in pairs({ p50 = 'p50', p99 = 'p99', p999 = 'p99.9', max = 'max' }) do
        add(name .. '_' .. suffix, field(field(stats, times), quantile))
    end
end
return figures
