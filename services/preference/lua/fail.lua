-- include arguments.lua
-- include clock.lua
-- include postponed.lua
-- include schedule.lua
-- include emit.lua
-- Ends an update that failed and decides what happens next.
-- KEYS       state ready leases log dead_letters calls
-- arguments  member token kind(engine | wait | budget | refusal | unusable | data | release) first_id batch error
--            rebuild settings hook (of an event that is set aside)
--            (a refusal or an unusable reply: the engine has taken another prompt since)
-- Answers    FENCED | RETRY | HALVED | DEAD | SKIPPED (an unusable reply's last event: it stays in the log) |
--            DROPPED | POSTPONED
local state, ready, leases, log, dead_letters, calls = unpack(KEYS)
local member, kind, first_id, batch = arguments.member, arguments.kind, arguments.first_id, arguments.batch
local rebuild, settings = arguments.rebuild, arguments.settings
if redis.call('HGET', state, 'tok') ~= arguments.token then return 'FENCED' end
local now = clock_ms()
redis.call('HDEL', state, 'own', 'tok')
redis.call('ZREM', leases, member)

-- Until a user for whom a new model may not write yet, or whose tenant's budget is spent, is looked at again.
local WAIT_MS = 300000

-- The user waits again, if there is still something to do.
local function requeue(delay)
  local fields = redis.call('HMGET', state, 'pend', 'rebuild')
  if tonumber(fields[1] or 0) > 0 or fields[2] then
    redis.call('ZADD', ready, now + delay, member)
    mark_due(state, now)
  else
    redis.call('UNLINK', calls)
  end
end

local function back_off()
  local strikes = redis.call('HINCRBY', state, 'strikes', 1)
  local delay = math.min(settings.backoff_ms * 2 ^ math.min(strikes - 1, 20), settings.backoff_max_ms)
  redis.call('HSET', state, 'hold', now + delay)
  requeue(delay)
end

if kind == 'release' then
  requeue(0)
  return 'RETRY'
end
if kind == 'engine' then
  back_off()
  return 'RETRY'
end
if kind == 'wait' or kind == 'budget' then
  redis.call('HDEL', state, 'strikes', 'spent')
  if kind == 'budget' then redis.call('HSET', state, 'spent', 1) end
  redis.call('HSET', state, 'hold', now + WAIT_MS)
  requeue(WAIT_MS)
  return 'RETRY'
end

local suspect = redis.call('HGET', state, 'suspect')
if kind == 'refusal' or kind == 'unusable' then
  local single = batch <= 1 and rebuild == ''
  if redis.call('HINCRBY', state, 'fail', 1) < (single and settings.event_failures or settings.data_retries) then
    back_off()
    return 'RETRY'
  end
elseif not suspect and redis.call('HINCRBY', state, 'fail', 1) < settings.data_retries then
  requeue(0)
  return 'RETRY'
end

redis.call('HDEL', state, 'fail', 'suspect', 'crash', 'strikes', 'hold', 'spent')
if rebuild ~= '' then
  -- A rebuild that fails leaves the summary as it is; no single event can be blamed. It is made again once
  -- the waiting events, which it has read too, are applied or dead letters.
  local waiting = tonumber(redis.call('HGET', state, 'pend') or 0) > 0
  if redis.call('HGET', state, 'rebuild') == rebuild then
    redis.call('HDEL', state, 'rebuild')
    if waiting then redis.call('HSET', state, 'postponed', rebuild) end
  end
  requeue(0)
  return waiting and 'POSTPONED' or 'DROPPED'
end
if batch > 1 then
  redis.call('HSET', state, 'cap', math.floor(batch / 2))
  requeue(0)
  return 'HALVED'
end
local entry = kind ~= 'unusable' and redis.call('XRANGE', log, first_id, first_id)[1]
if entry then
  local letter = {'id', first_id, 'd', entry[2][2], 'error', arguments.error}
  for place = 3, #entry[2], 2 do
    if entry[2][place] == 'o' then letter[7], letter[8] = 'o', entry[2][place + 1] end -- it was tried again before
  end
  redis.call('XADD', dead_letters, 'MAXLEN', '~', settings.keep_dead_letters, '*', unpack(letter))
  redis.call('XDEL', log, first_id)
  emit(arguments.hook)
end
redis.call('HSET', state, 'cur', first_id)
redis.call('HDEL', state, 'cap')
if redis.call('HINCRBY', state, 'pend', -1) <= 0 then
  redis.call('HSET', state, 'pend', 0)
  resume_postponed(state)
end
requeue(0)
return kind == 'unusable' and 'SKIPPED' or 'DEAD'
