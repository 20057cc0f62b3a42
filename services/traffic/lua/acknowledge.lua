-- include arguments.lua
-- include clock.lua
-- A bucket need remember a batch no longer, since nobody adds it again but a reader that hangs.
-- KEYS       applied
-- arguments  token keep_ms
local now = clock_ms()
redis.call('ZADD', KEYS[1], 'XX', now, arguments.token)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - arguments.keep_ms)
