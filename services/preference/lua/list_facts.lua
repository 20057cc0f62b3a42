-- include arguments.lua
-- Reads some fields of several users of a shard, in one answer.
-- KEYS       the users' states
-- arguments  fields
-- Answers    a list for each user
local answers = {}
for place, state in ipairs(KEYS) do answers[place] = redis.call('HMGET', state, unpack(arguments.fields)) end
return answers
