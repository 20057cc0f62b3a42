-- Stores a profile made from the history, if the user is still at the stamp it was made from.
-- KEYS  st profile
-- ARGV  stamp profile
-- Gives 1 | 0
local kept = redis.call('HMGET', KEYS[1], 'born', 'n', 'edits')
if not kept[1] or table.concat({kept[1], kept[2] or '0', kept[3] or '0'}, ':') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
