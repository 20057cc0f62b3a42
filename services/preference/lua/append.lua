-- include clock.lua
-- include note_call.lua
-- Accepts events of one user: all of them, once, or none.
-- KEYS  st log ready idem profile quality from
-- ARGV  member stamp profile debounce_ms max_wait_ms user_backlog shard_backlog
--       idem_key digest idem_ms  scored hits mass tenant  call event...
-- Gives {'OK', pending, id...} | {'REPLAY', pending, ids} | {'MISMATCH'} | {'MOVED'}
--       | {'FULL', pending} | {'BUSY'}
local st, log, ready, idem, profile, quality, from = unpack(KEYS)
local member, stamp = ARGV[1], ARGV[2]
local debounce, max_wait = tonumber(ARGV[4]), tonumber(ARGV[5])
local idem_key, digest, idem_ms = ARGV[8], ARGV[9], tonumber(ARGV[10])
local scored, hits, mass, tenant = tonumber(ARGV[11]), ARGV[12], ARGV[13], ARGV[14]
local FIRST_EVENT = 16
local count = #ARGV - FIRST_EVENT + 1
local now = clock_ms()

local kept = redis.call('HMGET', st, 'born', 'n', 'pend', 'own', 't0', 'hold', 'edits')
local pending = tonumber(kept[3] or 0)

if idem_key ~= '' then
  local seen = redis.call('HGET', idem, idem_key)
  if seen then
    local expires, body, ids = seen:match('^(%d+) (%S+) (.*)$')
    if tonumber(expires) > now then
      if body ~= digest then return {'MISMATCH'} end
      return {'REPLAY', pending, ids}
    end
  end
end

-- The profile in ARGV was made from this very state; another writer in between means: make it again.
if table.concat({kept[1] or '0', kept[2] or '0', kept[7] or '0'}, ':') ~= stamp then return {'MOVED'} end
if pending + count > tonumber(ARGV[6]) then return {'FULL', pending} end
if pending == 0 and redis.call('ZCARD', ready) >= tonumber(ARGV[7]) then return {'BUSY'} end

local reply = {'OK', pending + count}
for i = FIRST_EVENT, #ARGV do
  reply[#reply + 1] = redis.call('XADD', log, '*', 'd', ARGV[i])
end
redis.call('SET', profile, ARGV[3])
if not kept[1] then redis.call('HSET', st, 'born', now) end
redis.call('HINCRBY', st, 'n', count)
redis.call('HINCRBY', st, 'pend', count)
note_call(from, ARGV[15])

if scored > 0 then
  for _, sums in ipairs({{st, ''}, {quality, tenant .. ':'}}) do
    redis.call('HINCRBY', sums[1], sums[2] .. 'profile.n', scored)
    redis.call('HINCRBYFLOAT', sums[1], sums[2] .. 'profile.ok', hits)
    redis.call('HINCRBYFLOAT', sums[1], sums[2] .. 'profile.p', mass)
  end
end

if idem_key ~= '' then
  redis.call('HSET', idem, idem_key, (now + idem_ms) .. ' ' .. digest .. ' ' .. table.concat(reply, ' ', 3))
  redis.call('PEXPIRE', idem, idem_ms)
  -- Two random looks at each write keep the expired share small without ever scanning.
  for _, key in ipairs(redis.call('HRANDFIELD', idem, 2)) do
    local expires = redis.call('HGET', idem, key):match('^(%d+)')
    if tonumber(expires) <= now then redis.call('HDEL', idem, key) end
  end
end

if not kept[4] then
  local first = pending > 0 and tonumber(kept[5] or now) or now
  if pending == 0 then redis.call('HSET', st, 't0', now) end
  local due = math.min(now + debounce, first + max_wait)
  redis.call('ZADD', ready, math.max(due, tonumber(kept[6] or 0)), member)
end
return reply
