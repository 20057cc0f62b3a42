-- include arguments.lua
-- include clock.lua
-- include note_call.lua
-- include schedule.lua
-- include revive.lua
-- Puts dead letters back into the queue: those of `event_ids`, or all, as many as the backlog has room for.
-- Ids that are no dead letters (any more) are passed over.
-- KEYS       state ready log dead_letters calls
-- arguments  member call event_ids[] settings
-- Answers    {status: OK, pending, moved: [[event_id, new_id], ...]} | {status: FULL, pending} | {status: UNKNOWN}
local state, ready, log, dead_letters, calls = unpack(KEYS)
local fields = redis.call('HMGET', state, 'born', 'own', 'pend')
if not fields[1] then return cjson.encode({status = 'UNKNOWN'}) end
local selection = nil
if #arguments.event_ids > 0 then
  selection = {}
  for _, id in ipairs(arguments.event_ids) do selection[id] = true end
end
local pending = tonumber(fields[3] or 0)
local room = arguments.settings.user_backlog - pending
if room <= 0 and redis.call('XLEN', dead_letters) > 0 then
  return cjson.encode({status = 'FULL', pending = pending})
end
local moved = revive(state, log, dead_letters, selection, room)
if #moved > 0 then
  note_call(calls, arguments.call)
  if not fields[2] then redis.call('ZADD', ready, clock_ms(), arguments.member) end
end
return cjson.encode({status = 'OK', pending = pending + #moved, moved = moved})
