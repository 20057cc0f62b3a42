-- include arguments.lua
-- Records whether an endpoint took an event, unless it was deleted meanwhile.
-- KEYS       endpoints
-- arguments  id taken now disabled ('': it stays as it is)
-- Answers    since when it fails, or false
local endpoints, id = KEYS[1], arguments.id
if redis.call('HEXISTS', endpoints, id) == 0 then return false end
if arguments.taken then
  redis.call('HDEL', endpoints, id .. '.failing')
  return false
end
redis.call('HSETNX', endpoints, id .. '.failing', arguments.now)
if arguments.disabled ~= '' then redis.call('HSET', endpoints, id .. '.disabled', arguments.disabled) end
return redis.call('HGET', endpoints, id .. '.failing')
