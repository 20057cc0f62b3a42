-- include arguments.lua
-- Drops the oldest events from the log; from then on their profile stands for them.
-- KEYS       state log checkpoint
-- arguments  stamp (born:edits) first_kept (event id)
-- ARGV       2 checkpoint
-- Answers    1 | 0 when the profile was made anew since
local state, log, checkpoint = unpack(KEYS)
local fields = redis.call('HMGET', state, 'born', 'edits')
if (fields[1] or '0') .. ':' .. (fields[2] or '0') ~= arguments.stamp then return 0 end
redis.call('HINCRBY', state, 'edits', 1)
redis.call('SET', checkpoint, ARGV[2])
redis.call('XTRIM', log, 'MINID', arguments.first_kept)
return 1
