-- include arguments.lua
-- Replaces an endpoint's record, unless it was changed or deleted since it was read.
-- KEYS       endpoints
-- arguments  id disabled? (why; '': it is enabled)
-- ARGV       2 the record that was read, 3 the new one
-- Answers    1 | 0
local endpoints, id = KEYS[1], arguments.id
if redis.call('HGET', endpoints, id) ~= ARGV[2] then return 0 end
redis.call('HSET', endpoints, id, ARGV[3])
if arguments.disabled == '' then
  redis.call('HDEL', endpoints, id .. '.disabled', id .. '.failing')
elseif arguments.disabled then
  redis.call('HSET', endpoints, id .. '.disabled', arguments.disabled)
end
return 1
