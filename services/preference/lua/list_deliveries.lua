-- include arguments.lua
-- include delivery_records.lua
-- The records of an endpoint in a shard: those that wait longest and those that ended last.
-- KEYS       due log done
-- arguments  most (of either)
local due, log, done = unpack(KEYS)
local answer = {}
for _, ids in ipairs({redis.call('ZRANGE', due, 0, arguments.most - 1), redis.call('ZREVRANGE', done, 0, arguments.most - 1)}) do
  for _, id in ipairs(ids) do
    local _, record = split_record(redis.call('HGET', log, id))
    answer[#answer + 1] = record
  end
end
return answer
