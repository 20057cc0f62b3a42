-- Reads everything kept of a user at one moment. What belongs to an update under way is left out: it
-- has no meaning anywhere else.
-- KEYS  st log profile sum vers dlq idem
-- Gives {} | {state, log, last_log_id, profile, summary, versions, dlq, last_dlq_id, idempotency}
local st, log, profile, sum, vers, dlq, idem = unpack(KEYS)
local PASSING = {own = true, tok = true, t0 = true, hold = true, strikes = true, restored = true}

local function last_id(stream)
  if redis.call('EXISTS', stream) == 0 then return '' end
  local info = redis.call('XINFO', 'STREAM', stream)
  for place = 1, #info, 2 do
    if info[place] == 'last-generated-id' then return info[place + 1] end
  end
end

local kept = redis.call('HGETALL', st)
if #kept == 0 then return {} end
local state = {}
for place = 1, #kept, 2 do
  if not PASSING[kept[place]] then
    state[#state + 1] = kept[place]
    state[#state + 1] = kept[place + 1]
  end
end
return {state, redis.call('XRANGE', log, '-', '+'), last_id(log), redis.call('GET', profile) or '',
        redis.call('GET', sum) or '', redis.call('HGETALL', vers), redis.call('XRANGE', dlq, '-', '+'),
        last_id(dlq), redis.call('HGETALL', idem)}
