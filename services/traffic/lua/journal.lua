-- include arguments.lua
-- Stores a user's new journal with the changes that it makes to the counts, which are still to be added to them.
-- KEYS       journal state (none for a journal without a user)
-- arguments  cursor (that the new journal was made from) new_cursor token born edits (of the user then)
-- ARGV       2 likes, 3 shown, 4... a bucket and its changes by turns
-- Answers    1 | 0 where another reader came first, earlier changes are still to be added, or the user is another
local journal, state = unpack(KEYS)
local fields = redis.call('HMGET', journal, 'cur', 'tok')
if (fields[1] or '0-0') ~= arguments.cursor or fields[2] then return 0 end
if state then
  local user = redis.call('HMGET', state, 'born', 'edits')
  if not user[1] or user[1] ~= arguments.born or (user[2] or '') ~= arguments.edits then return 0 end
end
redis.call('HSET', journal, 'cur', arguments.new_cursor, 'likes', ARGV[2], 'shown', ARGV[3])
if #ARGV > 3 then
  redis.call('HSET', journal, 'tok', arguments.token)
  for place = 4, #ARGV, 2 do redis.call('HSET', journal, 'out:' .. ARGV[place], ARGV[place + 1]) end
end
return 1
