-- Puts a user back as a backup holds it, wholly or not at all. An update under way of the user that
-- it replaces is fenced from then on; waiting events are due at once.
-- KEYS  st log profile sum vers dlq idem live ready leases from
-- ARGV  member backup_id existing(refuse|keep|replace|again) record(JSON) live_ms
-- Gives 'NEW' | 'REPLACED' | 'SAME_BACKUP' | 'EXISTS'
local st, log, profile, sum, vers, dlq, idem, live, ready, leases = unpack(KEYS)
local member, backup, existing = ARGV[1], ARGV[2], ARGV[3]
local record = cjson.decode(ARGV[4])
local now = redis.call('TIME')
local now_ms = now[1] * 1000 + math.floor(now[2] / 1000)

local there = redis.call('HMGET', st, 'born', 'restored', 'edits')
if there[1] and existing ~= 'again' then
  -- Who came back from this backup may have gone on since: an interrupted restore leaves them alone.
  if there[2] == backup then return 'SAME_BACKUP' end
  if existing ~= 'replace' then return 'EXISTS' end
end
redis.call('UNLINK', st, log, profile, sum, vers, dlq, idem, live)
redis.call('ZREM', ready, member)
redis.call('ZREM', leases, member)
redis.call('UNLINK', KEYS[11])

local function write_hash(key, fields)
  for field, value in pairs(fields) do redis.call('HSET', key, field, value) end
end

local function write_stream(key, entries, last)
  local newest = ''
  for _, entry in ipairs(entries) do
    redis.call('XADD', key, entry[1], unpack(entry[2]))
    newest = entry[1]
  end
  -- An entry that was taken out may have been the newest; the ids go on behind it.
  if last ~= newest then
    redis.call('XADD', key, last, 'd', '')
    redis.call('XDEL', key, last)
  end
end

write_hash(st, record.state)
write_stream(log, record.log, record.log_last)
write_stream(dlq, record.set_aside, record.set_aside_last)
write_hash(vers, record.versions)
if record.profile ~= '' then redis.call('SET', profile, record.profile) end
if record.summary ~= '' then redis.call('SET', sum, record.summary) end
local forget_at = 0
for key, outcome in pairs(record.idempotency) do
  local expires = tonumber(outcome:match('^(%d+)'))
  if expires > now_ms then redis.call('HSET', idem, key, outcome) end
  forget_at = math.max(forget_at, expires)
end
if forget_at > now_ms then redis.call('PEXPIRE', idem, forget_at - now_ms) end

redis.call('HSET', st, 'restored', backup)
if tonumber(record.state.pend or 0) > 0 or record.state.rebuild then
  redis.call('HSET', st, 't0', now_ms)
  redis.call('ZADD', ready, now_ms, member)
end
if not there[1] then return 'NEW' end
-- A writer who read the profile before must not find the same stamp again.
redis.call('HSET', st, 'edits', math.max(tonumber(there[3] or 0), tonumber(record.state.edits or 0)) + 1)
redis.call('XADD', live, '*', 'e', 'version', 'd', record.state.ver or '0')
redis.call('PEXPIRE', live, ARGV[5])
return 'REPLACED'
