-- include arguments.lua
-- include clock.lua
-- include delivery_records.lua
-- Records an attempt, or asks for a further one; nothing of an event whose user was erased since.
-- KEYS       hooks due log done
-- arguments  member own (prefix of the endpoint's keys) id in_ms (until it is due again; -1: it has ended) keep (ended
--            events of an endpoint in a shard)
-- ARGV       2 record
-- Answers    1 | 0
local hooks, due, log, done = unpack(KEYS)
local id, now = arguments.id, clock_ms()
local value = redis.call('HGET', log, id)
if not value then return 0 end
local index = split_record(value)
redis.call('HSET', log, id, index .. '\n' .. ARGV[2])
redis.call('ZREM', done, id)
if arguments.in_ms >= 0 then
  redis.call('ZADD', due, now + arguments.in_ms, id)
else
  redis.call('ZREM', due, id)
  redis.call('ZADD', done, now, id)
  local over = redis.call('ZCARD', done) - arguments.keep
  for _, old in ipairs(over > 0 and redis.call('ZRANGE', done, 0, over - 1) or {}) do
    drop_record(log, arguments.own, old)
    redis.call('ZREM', done, old)
  end
end
look_again(hooks, due, arguments.member)
return 1
