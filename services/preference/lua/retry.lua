-- include clock.lua
-- include note_call.lua
-- include revive.lua
-- Puts dead letters back into the queue: those named, or all, as many as the backlog has room for. Those that
-- are none (any more) are passed over.
-- KEYS  st ready log dlq from
-- ARGV  member user_backlog call event_id...
-- Gives {'OK', pending, event_id, new_id, ...} | {'UNKNOWN'} | {'FULL', pending}
local st, ready, log, dlq, from = unpack(KEYS)
local kept = redis.call('HMGET', st, 'born', 'own', 'pend')
if not kept[1] then return {'UNKNOWN'} end
local wanted = nil
if #ARGV > 3 then
  wanted = {}
  for place = 4, #ARGV do wanted[ARGV[place]] = true end
end
local pending = tonumber(kept[3] or 0)
local room = tonumber(ARGV[2]) - pending
if room <= 0 and redis.call('XLEN', dlq) > 0 then return {'FULL', pending} end
local moved = revive(st, log, dlq, wanted, room)
if #moved > 0 then
  note_call(from, ARGV[3])
  if not kept[2] then redis.call('ZADD', ready, clock_ms(), ARGV[1]) end
end
return {'OK', pending + #moved / 2, unpack(moved)}
