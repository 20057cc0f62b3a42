-- include arguments.lua
-- include clock.lua
-- include schedule.lua
-- Hands one due user of a shard to a worker. First releases the users of workers that went silent.
-- KEYS       ready leases token
-- arguments  user_prefix worker settings crowding[] (tenants as in members; their users are passed over)
-- Answers    {expired, claim: {member token cursor version pending cap suspect rebuild born last_id calls}},
--            without `claim` when no user is due
local ready, leases, token_key = unpack(KEYS)
local prefix, settings = arguments.user_prefix, arguments.settings
local lease, retries = settings.lease_ms, settings.data_retries
local WINDOW, CROWDED_WINDOW, DEFER_MS = 32, 128, 100
local SPREAD = 7919 -- a prime: neighbours get distant delays
local now = clock_ms()

local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 16)
for index, member in ipairs(expired) do
  local state = prefix .. member .. ':st'
  redis.call('ZREM', leases, member)
  if redis.call('EXISTS', state) == 1 then
    redis.call('HDEL', state, 'own', 'tok')
    local crashes = redis.call('HINCRBY', state, 'crash', 1)
    -- A worker that dies takes all of its users down with it. From the second time on they return at
    -- different times, so that only the user that kills workers is blamed.
    local delay = crashes > 1 and (now + index * SPREAD) % lease or 0
    redis.call('ZADD', ready, now + delay, member)
    mark_due(state, now)
    -- A batch that keeps killing its worker is halved like one that keeps failing.
    local fields = redis.call('HMGET', state, 'cap', 'pend')
    local size = math.min(tonumber(fields[1] or settings.batch_events), tonumber(fields[2] or 1))
    if size > 1 and crashes >= retries then
      redis.call('HSET', state, 'crash', 0, 'cap', math.floor(size / 2))
    elseif crashes >= 2 * retries then
      redis.call('HSET', state, 'crash', 0, 'suspect', 1)
    end
  end
end

local crowding = {}
for _, tenant in ipairs(arguments.crowding) do crowding[tenant] = true end
local window = next(crowding) and CROWDED_WINDOW or WINDOW
local in_flight = {}
for _, member in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
  local tenant = member:match('^[^:]*')
  in_flight[tenant] = (in_flight[tenant] or 0) + 1
end

local function next_token()
  -- Never behind the clock: a replica that takes over may have lost the latest tokens, and a worker that
  -- still holds one of them must not pass for the next holder.
  local token = redis.call('INCR', token_key)
  if token < now then
    token = now
    redis.call('SET', token_key, string.format('%.0f', now))
  end
  return string.format('%.0f', token)
end

local function claim(member)
  local user = prefix .. member
  local state, token = user .. ':st', next_token()
  redis.call('ZREM', ready, member)
  redis.call('HSET', state, 'own', arguments.worker, 'tok', token)
  forget_schedule(state)
  redis.call('ZADD', leases, now + lease, member)
  local fields = redis.call('HMGET', state, 'cur', 'ver', 'pend', 'cap', 'suspect', 'rebuild', 'born')
  local cursor = fields[1] or '0-0'
  local newest = redis.call('XREVRANGE', user .. ':log', '+', '(' .. cursor, 'COUNT', 1)[1]
  return {
    member = member,
    token = token,
    cursor = cursor,
    version = tonumber(fields[2] or 0),
    pending = tonumber(fields[3] or 0),
    cap = tonumber(fields[4] or 0),
    suspect = fields[5] == '1',
    rebuild = fields[6] or '',
    born = fields[7] or '0',
    last_id = newest and newest[1] or cursor,
    calls = redis.call('GET', user .. ':from') or '',
  }
end

local answer = {expired = #expired}
-- Users of a backfill only while no other is due.
for _, priority in ipairs({0, LOW}) do
  local due = redis.call('ZRANGEBYSCORE', ready, priority, priority + now, 'LIMIT', 0, window)
  for _, member in ipairs(due) do
    local tenant = member:match('^[^:]*')
    if (in_flight[tenant] or 0) >= settings.tenant_in_flight then
      redis.call('ZADD', ready, priority + now + DEFER_MS, member)
    elseif not crowding[tenant] then
      answer.claim = claim(member)
      return cjson.encode(answer)
    end
  end
end
return cjson.encode(answer)
