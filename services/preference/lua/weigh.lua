-- include arguments.lua
-- Adds comparisons to the sums from which a tenant's scorers are weighed; older ones fade (engine/choice/fusion.py).
-- KEYS       weights
-- arguments  comparisons[{sum: value to add}] keep (of older ones) max_gain
local weights = KEYS[1]
for _, added in ipairs(arguments.comparisons) do
  for name, value in pairs(added) do
    local sum = arguments.keep * tonumber(redis.call('HGET', weights, name) or 0) + value
    if name:match('%.gain$') then sum = math.min(sum, arguments.max_gain) end
    redis.call('HSET', weights, name, string.format('%.9g', sum))
  end
end
