-- include arguments.lua
-- include clock.lua
-- include delivery_records.lua
-- Takes events of an endpoint that are due. They are due again when the lease ends, unless they are settled before.
-- KEYS       hooks due log
-- arguments  member lease_ms most
-- Answers    {events that wait, record…}
local hooks, due, log = unpack(KEYS)
local now = clock_ms()
local answer = {redis.call('ZCARD', due)}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', due, '-inf', now, 'LIMIT', 0, arguments.most)) do
  redis.call('ZADD', due, now + arguments.lease_ms, id)
  local _, record = split_record(redis.call('HGET', log, id))
  answer[#answer + 1] = record
end
look_again(hooks, due, arguments.member)
return answer
