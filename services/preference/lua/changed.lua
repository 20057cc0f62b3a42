-- include arguments.lua
-- include emit.lua
-- Records that a user's preferences have changed, unless the user has been erased since.
-- KEYS       state live
-- arguments  born change (a document) settings hook
-- Answers    1 | 0
local state, live = unpack(KEYS)
if redis.call('HGET', state, 'born') ~= arguments.born then return 0 end
-- The mark ends what later choices are compared with.
local window = (redis.call('HGET', state, 'profile.w') or '') .. '|'
redis.call('HSET', state, 'changed', arguments.change, 'profile.w', window:sub(-50))
redis.call('XADD', live, 'MAXLEN', '~', 64, '*', 'e', 'changed', 'd', arguments.change)
redis.call('PEXPIRE', live, arguments.settings.live_ms)
emit(arguments.hook)
return 1
