-- include arguments.lua
-- Takes an estimate from a tenant's token budget, if it fits.
-- KEYS       what the tenant has spent in a month
-- arguments  day id tokens ends (of the key: seconds since 1970) [day_limit] [month_limit]
-- Answers    {1 if it fits else 0, spent in the day, spent in the month}
local key, day, tokens = KEYS[1], arguments.day, arguments.tokens
local spent = redis.call('HMGET', key, day, 'month')
local in_day, in_month = tonumber(spent[1] or 0), tonumber(spent[2] or 0)
if in_day + tokens > (arguments.day_limit or math.huge) or in_month + tokens > (arguments.month_limit or math.huge) then
  return {0, in_day, in_month}
end
local added = string.format('%d', tokens)
in_day = redis.call('HINCRBY', key, day, added)
in_month = redis.call('HINCRBY', key, 'month', added)
redis.call('HSET', key, arguments.id, day .. ' ' .. added)
redis.call('EXPIREAT', key, arguments.ends)
return {1, in_day, in_month}
