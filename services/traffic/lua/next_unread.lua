-- include arguments.lua
-- include clock.lua
-- Hands out the user of a shard that has waited longest for its log to be read, until the lease runs out.
-- KEYS       unread
-- arguments  lease_ms
-- Answers    {member, end of the lease (ms)}, or nothing
local now = clock_ms()
local member = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now, 'LIMIT', 0, 1)[1]
if not member then return {} end
local ends = string.format('%.0f', now + arguments.lease_ms)
redis.call('ZADD', KEYS[1], ends, member)
return {member, ends}
