-- include arguments.lua
-- include delivery_records.lua
-- Drops all that a shard keeps for an endpoint that is gone.
-- KEYS       hooks due log done
-- arguments  member own
local hooks, due, log, done = unpack(KEYS)
for _, id in ipairs(redis.call('HKEYS', log)) do drop_record(log, arguments.own, id) end
redis.call('UNLINK', due, log, done)
redis.call('ZREM', hooks, arguments.member)
