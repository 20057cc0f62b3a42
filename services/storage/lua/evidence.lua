-- include arguments.lua
-- Reads a user's profile with the ids of its newest events, at one moment. Without ids where events were set aside: they
-- left the log, and the profile's numbers no longer tell their places.
-- KEYS       profile log dead
-- arguments  most
-- Answers    {profile | '', id of the newest, id of the one before, …}
local profile, log, dead = unpack(KEYS)
local answer = {redis.call('GET', profile) or ''}
if redis.call('EXISTS', dead) == 1 then return answer end
for _, entry in ipairs(redis.call('XREVRANGE', log, '+', '-', 'COUNT', arguments.most)) do
  answer[#answer + 1] = entry[1]
end
return answer
