-- include arguments.lua
-- Adds to a user's live stream, for as long as the writer holds the lease.
-- KEYS       state live
-- arguments  token event data settings
-- Answers    1 | 0 when the lease is lost
local state, live = unpack(KEYS)
if redis.call('HGET', state, 'tok') ~= arguments.token then return 0 end
redis.call('XADD', live, 'MAXLEN', '~', 2048, '*', 'e', arguments.event, 'd', arguments.data)
redis.call('PEXPIRE', live, arguments.settings.live_ms)
return 1
