-- include arguments.lua
-- include clock.lua
-- include note_call.lua
-- include add_scores.lua
-- include schedule.lua
-- Accepts events of one user: all of them, once, or none.
-- KEYS       state log ready idempotency profile quality calls unread index chats
-- arguments  member user stamp at_once idempotency_key digest scored{count hits mass} predicted[text] drawn[text] tenant call settings
--            max_hourly (0 for no bound) has_items (to be counted)
--            chat ('' or the response id of a conversation that waits to become these events)
--            news{is_due backfill bits tokens max_bits max_events max_tokens max_age_ms quiet_ms} (cadence.py)
-- ARGV       2 profile, 3... events
-- Answers    {status: OK, pending, ids, window (the user's latest predictions before these)} |
--            {status: REPLAY, pending, ids} | {status: FULL, pending} | {status: MISMATCH | MOVED | BUSY} |
--            {status: GONE} (the conversation is stored or erased) |
--            {status: LIMITED, retry_ms}
local state, log, ready, idempotency, profile, quality, calls, unread, index, chats = unpack(KEYS)
local key, digest, settings = arguments.idempotency_key, arguments.digest, arguments.settings
local chat = arguments.chat
local FIRST_EVENT = 3
local count = #ARGV - FIRST_EVENT + 1
local now = clock_ms()

local function answer(status, pending, ids, window)
  return cjson.encode({status = status, pending = pending, ids = ids, window = window})
end

local fields = redis.call('HMGET', state, 'born', 'n', 'pend', 'own', 't0', 'hold', 'edits', 'ver', 'due',
  'new.n', 'new.tok', 'new.bits', 'profile.w', 'rebuild', 'hour', 'hour.n')
local born, events, pending, owner = fields[1], fields[2] or '0', tonumber(fields[3] or 0), fields[4]

if chat ~= '' and redis.call('HEXISTS', chats, chat) == 0 then return answer('GONE') end
if key ~= '' then
  local outcome = redis.call('HGET', idempotency, key)
  if outcome then
    local expires, body, text = outcome:match('^(%d+) (%S+) (.*)$')
    if tonumber(expires) > now then
      if body ~= digest then return answer('MISMATCH') end
      local ids = {}
      for id in text:gmatch('%S+') do ids[#ids + 1] = id end
      return answer('REPLAY', pending, ids)
    end
  end
end

-- The profile was made from this very state. If another writer came in between, the caller makes it again.
if table.concat({born or '0', events, fields[7] or '0'}, ':') ~= arguments.stamp then return answer('MOVED') end
local news = arguments.news
if pending + count > settings.user_backlog then
  -- The caller can go on once the first part is read; no wait lets in what alone is too much.
  if not owner and count <= settings.user_backlog then
    mark_due(state, now)
    redis.call('ZADD', ready, 'LT', math.max(now, tonumber(fields[6] or 0)), arguments.member)
  end
  return answer('FULL', pending)
end
local HOUR_MS = 3600000
local hour = math.floor(now / HOUR_MS)
local hourly = (tonumber(fields[15] or 0) == hour and tonumber(fields[16]) or 0) + count
if arguments.max_hourly > 0 and hourly > arguments.max_hourly then
  return cjson.encode({status = 'LIMITED', retry_ms = (hour + 1) * HOUR_MS - now})
end
if pending == 0 and redis.call('ZCOUNT', ready, '-inf', now) >= settings.shard_backlog then return answer('BUSY') end

local ids = {}
for index = FIRST_EVENT, #ARGV do
  local predicted, drawn = arguments.predicted[#ids + 1] or '', arguments.drawn[#ids + 1] or ''
  local fields = {'d', ARGV[index]}
  if predicted ~= '' then fields[3], fields[4] = 'p', predicted end
  if drawn ~= '' then fields[#fields + 1], fields[#fields + 2] = 'x', drawn end
  ids[#ids + 1] = redis.call('XADD', log, '*', unpack(fields))
end
redis.call('SET', profile, ARGV[2])
if chat ~= '' then redis.call('HDEL', chats, chat) end
if arguments.has_items then redis.call('ZADD', unread, 'LT', now, arguments.member) end
if not born then redis.call('HSET', state, 'born', now) end
redis.call('ZADD', index, 0, arguments.user)
redis.call('HINCRBY', state, 'n', count)
if arguments.max_hourly > 0 then redis.call('HSET', state, 'hour', hour, 'hour.n', hourly) end
redis.call('HINCRBY', state, 'pend', count)
note_call(calls, arguments.call)
if arguments.scored.count > 0 then add_scores('profile', state, quality, arguments.tenant, arguments.scored) end

if key ~= '' then
  local lifetime_ms = settings.idempotency_s * 1000
  local expires = now + lifetime_ms
  redis.call('HSET', idempotency, key, expires .. ' ' .. digest .. ' ' .. table.concat(ids, ' '))
  redis.call('PEXPIRE', idempotency, lifetime_ms)
  -- Two random fields at each write keep the expired share small without a scan.
  for _, other in ipairs(redis.call('HRANDFIELD', idempotency, 2)) do
    local other_expires = redis.call('HGET', idempotency, other):match('^(%d+)')
    if tonumber(other_expires) <= now then redis.call('HDEL', idempotency, other) end
  end
end

-- The events so far since the latest claim, and these.
local number = tonumber(fields[10] or 0) + count
local tokens = tonumber(fields[11] or 0) + news.tokens
local bits = tonumber(fields[12] or 0) + news.bits
-- Where nothing waited, `t0` is an old one: earlier releases left it behind.
local due_since = (pending > 0 or fields[14]) and tonumber(fields[5])
local due = tonumber(fields[9])
if not due_since then
  local is_first = not news.backfill and tonumber(fields[8] or 0) == 0
  local is_enough = not news.backfill
    and (bits >= news.max_bits or number >= news.max_events or tokens >= news.max_tokens)
  if arguments.at_once or news.is_due or is_first or is_enough then due_since = now end
end
if due_since then
  due = math.min(now + (arguments.at_once and 0 or settings.debounce_ms), due_since + settings.max_wait_ms)
  redis.call('HSET', state, 't0', due_since)
elseif news.backfill then
  due = LOW + now + news.quiet_ms
  -- A history that one update cannot read is read as a whole.
  if number > settings.batch_events or tokens > settings.batch_tokens then
    local time = redis.call('TIME')
    redis.call('HSET', state, 'rebuild', time[1] .. '.' .. time[2])
  end
elseif not due then
  due = now + news.max_age_ms
end
redis.call('HSET', state, 'due', due, 'new.n', number, 'new.tok', tokens, 'new.bits', string.format('%.3f', bits))
if not owner then redis.call('ZADD', ready, math.max(due, tonumber(fields[6] or 0)), arguments.member) end
return answer('OK', pending + count, ids, fields[13] or '')
