-- include clock.lua
-- Hands one due user of a shard to a worker. First gives back the users of workers that went silent.
-- KEYS  ready leases tok
-- ARGV  user_prefix worker lease_ms tenant_in_flight crash_retries batch_events crowding_tenant...
--       (tenants as in members; their users are passed over)
-- Gives {expired} | {expired, member, token, cursor, version, pending, cap, suspect, rebuild,
--         born, last_id, calls, now_ms}
local ready, leases, tok = unpack(KEYS)
local prefix, worker, lease = ARGV[1], ARGV[2], tonumber(ARGV[3])
local tenant_limit, retries, batch = tonumber(ARGV[4]), tonumber(ARGV[5]), tonumber(ARGV[6])
local LOOK, LOOK_PAST, DEFER_MS = 32, 128, 100
local SPREAD = 7919 -- a prime: neighbours land far apart
local now = clock_ms()

local expired = redis.call('ZRANGEBYSCORE', leases, '-inf', now, 'LIMIT', 0, 16)
for place, member in ipairs(expired) do
  local st = prefix .. member .. ':st'
  redis.call('ZREM', leases, member)
  if redis.call('EXISTS', st) == 1 then
    redis.call('HDEL', st, 'own', 'tok')
    local crashes = redis.call('HINCRBY', st, 'crash', 1)
    -- A worker takes all of its users down with it. From the second time on they come back apart,
    -- so that the others get done and the blame stays with the one.
    local apart = crashes > 1 and (now + place * SPREAD) % lease or 0
    redis.call('ZADD', ready, now + apart, member)
    -- A batch that keeps killing its worker is halved like one that keeps failing.
    local kept = redis.call('HMGET', st, 'cap', 'pend')
    local size = math.min(tonumber(kept[1] or batch), tonumber(kept[2] or 1))
    if size > 1 and crashes >= retries then
      redis.call('HSET', st, 'crash', 0, 'cap', math.floor(size / 2))
    elseif crashes >= 2 * retries then
      redis.call('HSET', st, 'crash', 0, 'suspect', 1)
    end
  end
end

local crowding = {}
for place = 7, #ARGV do crowding[ARGV[place]] = true end
local look = next(crowding) and LOOK_PAST or LOOK
local in_flight = {}
for _, member in ipairs(redis.call('ZRANGE', leases, 0, -1)) do
  local tenant = member:match('^[^:]*')
  in_flight[tenant] = (in_flight[tenant] or 0) + 1
end
for _, member in ipairs(redis.call('ZRANGEBYSCORE', ready, '-inf', now, 'LIMIT', 0, look)) do
  local tenant = member:match('^[^:]*')
  if (in_flight[tenant] or 0) >= tenant_limit then
    redis.call('ZADD', ready, now + DEFER_MS, member)
  elseif not crowding[tenant] then
    local st = prefix .. member .. ':st'
    -- Never behind the clock: a replica that takes over may have lost the latest tokens, and a worker that
    -- still holds one of them must not pass for the next holder.
    local token = redis.call('INCR', tok)
    if token < now then
      token = now
      redis.call('SET', tok, string.format('%.0f', now))
    end
    redis.call('ZREM', ready, member)
    redis.call('HSET', st, 'own', worker, 'tok', token)
    redis.call('ZADD', leases, now + lease, member)
    local kept = redis.call('HMGET', st, 'cur', 'ver', 'pend', 'cap', 'suspect', 'rebuild', 'born')
    local cursor = kept[1] or '0-0'
    local newest = redis.call('XREVRANGE', prefix .. member .. ':log', '+', '(' .. cursor, 'COUNT', 1)[1]
    return {#expired, member, token, cursor, kept[2] or '0', kept[3] or '0', kept[4] or '0',
            kept[5] or '0', kept[6] or '', kept[7] or '0', newest and newest[1] or cursor,
            redis.call('GET', prefix .. member .. ':from') or '', now}
  end
end
return {#expired}
