-- include arguments.lua
-- Stores a profile made from the history, if the user is still at the stamp it was made from.
-- KEYS       state profile
-- arguments  stamp
-- ARGV       2 profile
-- Answers    1 | 0
local fields = redis.call('HMGET', KEYS[1], 'born', 'n', 'edits')
if not fields[1] or table.concat({fields[1], fields[2] or '0', fields[3] or '0'}, ':') ~= arguments.stamp then
  return 0
end
redis.call('SET', KEYS[2], ARGV[2])
return 1
