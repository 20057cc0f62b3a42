-- include clock.lua
-- include note_call.lua
-- include revive.lua
-- Puts dead letters back into the queue: those named, or all. Those that are none (any more) are passed over.
-- KEYS  st ready log dlq from
-- ARGV  member user_backlog call event_id...
-- Gives {'OK', pending, event_id, new_id, ...} | {'UNKNOWN'} | {'FULL', pending, letters}
local st, ready, log, dlq, from = unpack(KEYS)
local kept = redis.call('HMGET', st, 'born', 'own', 'pend')
if not kept[1] then return {'UNKNOWN'} end
local wanted = nil
if #ARGV > 3 then
  wanted = {}
  for place = 4, #ARGV do wanted[ARGV[place]] = true end
end
local most = wanted and #ARGV - 3 or redis.call('XLEN', dlq)
local pending = tonumber(kept[3] or 0)
if pending + most > tonumber(ARGV[2]) then return {'FULL', pending, most} end
local moved = revive(st, log, dlq, wanted)
if #moved > 0 then
  note_call(from, ARGV[3])
  if not kept[2] then redis.call('ZADD', ready, clock_ms(), ARGV[1]) end
end
return {'OK', pending + #moved / 2, unpack(moved)}
