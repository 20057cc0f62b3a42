-- include arguments.lua
-- include clock.lua
-- Extends a lease that is still held.
-- KEYS       state leases
-- arguments  member token settings
-- Answers    1 | 0 when the lease is lost
local state, leases = unpack(KEYS)
if redis.call('HGET', state, 'tok') ~= arguments.token then return 0 end
redis.call('ZADD', leases, 'XX', clock_ms() + arguments.settings.lease_ms, arguments.member)
return 1
