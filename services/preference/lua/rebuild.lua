-- include clock.lua
-- include note_call.lua
-- include revive.lua
-- Asks for a summary made from the whole history, dead letters included: they wait again.
-- KEYS  st ready from log dlq
-- ARGV  member call
-- Gives {'OK', pending} | {'UNKNOWN'}
local st, ready, from, log, dlq = unpack(KEYS)
local kept = redis.call('HMGET', st, 'born', 'own')
if not kept[1] then return {'UNKNOWN'} end
revive(st, log, dlq, nil, math.huge)
local asked = redis.call('TIME')
redis.call('HSET', st, 'rebuild', asked[1] .. '.' .. asked[2])
redis.call('HDEL', st, 'postponed')
note_call(from, ARGV[2])
if not kept[2] then redis.call('ZADD', ready, clock_ms(), ARGV[1]) end
return {'OK', redis.call('HGET', st, 'pend') or '0'}
