-- include clock.lua
-- include postponed.lua
-- Ends an update that did not work and says what happens next.
-- KEYS  st ready leases log dlq from
-- ARGV  member token kind(engine|refusal|data|release) first_id batch error data_retries event_failures
--       backoff_ms backoff_max_ms dlq_keep rebuild passed
--       (passed: when the latest update of another user that the engine served was claimed, ms; 0 for none)
-- Gives {'FENCED'} | {'RETRY', delay_ms} | {'ENGINE', delay_ms} (a refusal that is the engine's fault)
--       | {'HALVED', cap} | {'DEAD', first_id} | {'DROPPED'} | {'POSTPONED'}
local st, ready, leases, log, dlq, from = unpack(KEYS)
local member, token, kind, first, batch = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local data_retries, event_failures = tonumber(ARGV[7]), tonumber(ARGV[8])
local rebuild, passed = ARGV[12], tonumber(ARGV[13])
if redis.call('HGET', st, 'tok') ~= token then return {'FENCED'} end
local now = clock_ms()
redis.call('HDEL', st, 'own', 'tok')
redis.call('ZREM', leases, member)

local function again(delay)
  local kept = redis.call('HMGET', st, 'pend', 'rebuild')
  if tonumber(kept[1] or 0) > 0 or kept[2] then
    redis.call('ZADD', ready, now + delay, member)
  else
    redis.call('UNLINK', from)
  end
end

local function back_off(word)
  local strikes = redis.call('HINCRBY', st, 'strikes', 1)
  local delay = math.min(tonumber(ARGV[9]) * 2 ^ math.min(strikes - 1, 20), tonumber(ARGV[10]))
  redis.call('HSET', st, 'hold', now + delay)
  again(delay)
  return {word, delay}
end

if kind == 'release' then
  again(0)
  return {'RETRY', 0}
end
if kind == 'engine' then return back_off('RETRY') end

local suspect = redis.call('HGET', st, 'suspect')
if kind == 'refusal' then
  -- The engine's fault, unless it has served another user since it last refused this one.
  local before = tonumber(redis.call('HGET', st, 'refused'))
  redis.call('HSET', st, 'refused', now)
  if not before or passed <= before then return back_off('ENGINE') end
  local alone = batch <= 1 and rebuild == ''
  if redis.call('HINCRBY', st, 'fail', 1) < (alone and event_failures or data_retries) then
    return back_off('RETRY')
  end
elseif not suspect and redis.call('HINCRBY', st, 'fail', 1) < data_retries then
  again(0)
  return {'RETRY', 0}
end

redis.call('HDEL', st, 'fail', 'suspect', 'crash', 'strikes', 'hold')
if rebuild ~= '' then
  -- A rebuild that fails leaves the summary as it is; no single event can be blamed. It is made again once
  -- the waiting events, which it has read too, are applied or set aside.
  local waiting = tonumber(redis.call('HGET', st, 'pend') or 0) > 0
  if redis.call('HGET', st, 'rebuild') == rebuild then
    redis.call('HDEL', st, 'rebuild')
    if waiting then redis.call('HSET', st, 'postponed', rebuild) end
  end
  again(0)
  return {waiting and 'POSTPONED' or 'DROPPED'}
end
if batch > 1 then
  local cap = math.floor(batch / 2)
  redis.call('HSET', st, 'cap', cap)
  again(0)
  return {'HALVED', cap}
end
local entry = redis.call('XRANGE', log, first, first)[1]
if entry then
  redis.call('XADD', dlq, 'MAXLEN', '~', ARGV[11], '*', 'id', first, 'd', entry[2][2], 'error', ARGV[6])
  redis.call('XDEL', log, first)
end
redis.call('HSET', st, 'cur', first)
redis.call('HDEL', st, 'cap', 'refused')
if redis.call('HINCRBY', st, 'pend', -1) <= 0 then
  redis.call('HSET', st, 'pend', 0)
  resume_postponed(st)
end
again(0)
return {'DEAD', first}
