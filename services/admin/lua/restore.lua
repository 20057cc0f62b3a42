-- include arguments.lua
-- include clock.lua
-- include forget_items.lua
-- include add_live.lua
-- Puts a user back as a backup holds it, wholly or not at all. An update under way of the user that
-- it replaces is fenced from then on; waiting events are due at once.
-- KEYS       state log profile summary versions dead_letters idempotency rejected checkpoint live calls served outcomes
--            chats ready leases unread journal index
-- arguments  member user backup existing(refuse | keep | replace | again) settings record gone{key, member}
-- Answers    NEW | REPLACED | SAME_BACKUP | EXISTS
local state, log, profile, summary, versions, dead_letters, idempotency, rejected, checkpoint, live, calls, served,
  outcomes, chats, ready, leases, unread, journal, index = unpack(KEYS)
local member, existing, record = arguments.member, arguments.existing, arguments.record
local now = clock_ms()

local current = redis.call('HMGET', state, 'born', 'restored', 'edits')
if current[1] and existing ~= 'again' then
  -- A user restored from this backup may have new events since: a restore that is started again leaves them.
  if current[2] == arguments.backup then return 'SAME_BACKUP' end
  if existing ~= 'replace' then return 'EXISTS' end
end
redis.call('UNLINK', state, log, profile, summary, versions, dead_letters, idempotency, rejected, checkpoint, live, calls,
  served, outcomes, chats)
redis.call('ZREM', ready, member)
redis.call('ZREM', leases, member)
forget_items(journal, unread, member, arguments.gone)

local function write_hash(key, fields)
  for field, value in pairs(fields) do redis.call('HSET', key, field, value) end
end

local function write_stream(key, entries, last)
  local newest = ''
  for _, entry in ipairs(entries) do
    redis.call('XADD', key, entry[1], unpack(entry[2]))
    newest = entry[1]
  end
  -- The newest entry may have been deleted before the backup; new ids must follow its id.
  if last ~= newest then
    redis.call('XADD', key, last, 'd', '')
    redis.call('XDEL', key, last)
  end
end

write_hash(state, record.state)
write_stream(log, record.log, record.log_last)
write_stream(dead_letters, record.set_aside, record.set_aside_last)
write_hash(versions, record.versions)
if record.profile ~= '' then redis.call('SET', profile, record.profile) end
if record.summary ~= '' then redis.call('SET', summary, record.summary) end
for _, draft in ipairs(record.rejected or {}) do redis.call('RPUSH', rejected, draft) end -- older backups hold none
if (record.checkpoint or '') ~= '' then redis.call('SET', checkpoint, record.checkpoint) end
local forget_at = 0
for key, outcome in pairs(record.idempotency) do
  local expires = tonumber(outcome:match('^(%d+)'))
  if expires > now then redis.call('HSET', idempotency, key, outcome) end
  forget_at = math.max(forget_at, expires)
end
if forget_at > now then redis.call('PEXPIRE', idempotency, forget_at - now) end

redis.call('HSET', state, 'restored', arguments.backup)
redis.call('ZADD', index, 0, arguments.user)
redis.call('ZADD', unread, now, member) -- the tenant's counts of items are made again from the histories
if tonumber(record.state.pend or 0) > 0 or record.state.rebuild then
  redis.call('HSET', state, 't0', now)
  redis.call('ZADD', ready, now, member)
end
if not current[1] then return 'NEW' end
-- A writer who read the profile before must not find the same stamp again.
redis.call('HSET', state, 'edits', math.max(tonumber(current[3] or 0), tonumber(record.state.edits or 0)) + 1)
add_live(live, 64, 'version', record.state.ver or '0', arguments.settings)
return 'REPLACED'
