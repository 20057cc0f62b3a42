-- include arguments.lua
-- Reads a user's profile with the ids of its newest events, at one moment.
-- KEYS       profile log
-- arguments  most
-- Answers    {profile | '', id of the newest, id of the one before, …}
local profile, log = unpack(KEYS)
local answer = {redis.call('GET', profile) or ''}
for _, entry in ipairs(redis.call('XREVRANGE', log, '+', '-', 'COUNT', arguments.most)) do
  answer[#answer + 1] = entry[1]
end
return answer
