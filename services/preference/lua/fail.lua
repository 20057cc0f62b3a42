-- include clock.lua
-- Ends an update that did not work and says what happens next.
-- KEYS  st ready leases log dlq from
-- ARGV  member token kind(engine|data|release) first_id batch error retries backoff_ms backoff_max_ms dlq_keep
--       rebuild
-- Gives {'FENCED'} | {'RETRY', delay_ms} | {'HALVED', cap} | {'DEAD', first_id} | {'DROPPED'}
local st, ready, leases, log, dlq, from = unpack(KEYS)
local member, token, kind, first, batch = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
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

if kind == 'release' then
  again(0)
  return {'RETRY', 0}
end
if kind == 'engine' then
  local strikes = redis.call('HINCRBY', st, 'strikes', 1)
  local delay = math.min(tonumber(ARGV[8]) * 2 ^ math.min(strikes - 1, 20), tonumber(ARGV[9]))
  redis.call('HSET', st, 'hold', now + delay)
  again(delay)
  return {'RETRY', delay}
end

local suspect = redis.call('HGET', st, 'suspect')
if not suspect and redis.call('HINCRBY', st, 'fail', 1) < tonumber(ARGV[7]) then
  again(0)
  return {'RETRY', 0}
end
redis.call('HDEL', st, 'fail', 'suspect', 'crash')
if ARGV[11] ~= '' then
  -- A rebuild that fails leaves the summary as it is; no single event can be blamed.
  if redis.call('HGET', st, 'rebuild') == ARGV[11] then redis.call('HDEL', st, 'rebuild') end
  again(0)
  return {'DROPPED'}
end
if batch > 1 then
  local cap = math.floor(batch / 2)
  redis.call('HSET', st, 'cap', cap)
  again(0)
  return {'HALVED', cap}
end
local entry = redis.call('XRANGE', log, first, first)[1]
if entry then
  redis.call('XADD', dlq, 'MAXLEN', '~', ARGV[10], '*', 'id', first, 'd', entry[2][2], 'error', ARGV[6])
  redis.call('XDEL', log, first)
end
redis.call('HSET', st, 'cur', first)
redis.call('HDEL', st, 'cap')
if redis.call('HINCRBY', st, 'pend', -1) < 0 then redis.call('HSET', st, 'pend', 0) end
again(0)
return {'DEAD', first}
