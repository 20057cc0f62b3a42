-- include arguments.lua
-- include add_live.lua
-- include emit.lua
-- Records that a user's preferences have changed, unless the user has been erased, or the profile made anew, since.
-- KEYS       state live
-- arguments  born edits change (a document) settings hook
-- Answers    1 | 0
local state, live = unpack(KEYS)
local fields = redis.call('HMGET', state, 'born', 'edits')
if fields[1] ~= arguments.born or (fields[2] or '0') ~= arguments.edits then return 0 end
-- The mark ends what later choices are compared with.
local window = (redis.call('HGET', state, 'profile.w') or '') .. '|'
redis.call('HSET', state, 'changed', arguments.change, 'profile.w', window:sub(-50))
add_live(live, 64, 'changed', arguments.change, arguments.settings)
emit(arguments.hook)
return 1
