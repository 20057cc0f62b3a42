-- include clock.lua
-- Extends a lease that is still held.
-- KEYS  st leases
-- ARGV  member token lease_ms
-- Gives 1 | 0 when the lease is lost
if redis.call('HGET', KEYS[1], 'tok') ~= ARGV[2] then return 0 end
redis.call('ZADD', KEYS[2], 'XX', clock_ms() + tonumber(ARGV[3]), ARGV[1])
return 1
