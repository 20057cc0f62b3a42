-- include arguments.lua
-- include clock.lua
-- include note_call.lua
-- include schedule.lua
-- include revive.lua
-- Requests a summary made from the whole history, dead letters included: they wait again.
-- KEYS       state ready calls log dead_letters
-- arguments  member call
-- Answers    {status: OK, pending} | {status: UNKNOWN}
local state, ready, calls, log, dead_letters = unpack(KEYS)
local fields = redis.call('HMGET', state, 'born', 'own')
if not fields[1] then return cjson.encode({status = 'UNKNOWN'}) end
revive(state, log, dead_letters, nil, math.huge)
local time = redis.call('TIME')
redis.call('HSET', state, 'rebuild', time[1] .. '.' .. time[2])
redis.call('HDEL', state, 'postponed')
note_call(calls, arguments.call)
mark_due(state, clock_ms())
if not fields[2] then redis.call('ZADD', ready, clock_ms(), arguments.member) end
return cjson.encode({status = 'OK', pending = tonumber(redis.call('HGET', state, 'pend') or 0)})
