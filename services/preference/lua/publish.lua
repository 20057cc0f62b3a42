-- include arguments.lua
-- include add_live.lua
-- Adds to a user's live stream, for as long as the writer holds the lease.
-- KEYS       state live
-- arguments  token event data settings
-- Answers    1 | 0 when the lease is lost
local state, live = unpack(KEYS)
if redis.call('HGET', state, 'tok') ~= arguments.token then return 0 end
add_live(live, 2048, arguments.event, arguments.data, arguments.settings)
return 1
