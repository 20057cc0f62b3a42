-- include clock.lua
-- include note_call.lua
-- Asks for a summary made from the whole history.
-- KEYS  st ready from
-- ARGV  member call
-- Gives {'OK', pending} | {'UNKNOWN'}
local kept = redis.call('HMGET', KEYS[1], 'born', 'own', 'pend')
if not kept[1] then return {'UNKNOWN'} end
local asked = redis.call('TIME')
redis.call('HSET', KEYS[1], 'rebuild', asked[1] .. '.' .. asked[2])
note_call(KEYS[3], ARGV[2])
if not kept[2] then redis.call('ZADD', KEYS[2], clock_ms(), ARGV[1]) end
return {'OK', kept[3] or '0'}
