-- include arguments.lua
-- include clock.lua
-- include write_version.lua
-- include schedule.lua
-- include forget_items.lua
-- include postponed.lua
-- include emit.lua
-- Removes events of a user and all that came of them. An update under way is fenced from then on; where versions were
-- removed, the next one is made from the whole history that is left.
-- KEYS       state ready leases unread journal log dead_letters profile checkpoint summary versions rejected live copy
-- arguments  member stamp seen[version, cursor, pending, newest draft] event_ids[] dead_ids[] (entries)
--            removed_versions[] drops_checkpoint is_urgent (the update that follows) gone{key, member} hook settings
-- ARGV       2 profile, 3 record or '', 4... rejected drafts to remove
-- Answers    the number of pending events | -1 when the user has changed since the stamp
local state, ready, leases, unread, journal, log, dead_letters, profile, checkpoint, summary, versions, rejected, live,
  copy = unpack(KEYS)
local member, now = arguments.member, clock_ms()
local fields = redis.call('HMGET', state, 'born', 'n', 'edits', 'ver', 'cur', 'pend')
if table.concat({fields[1] or '0', fields[2] or '0', fields[3] or '0'}, ':') ~= arguments.stamp then return -1 end
local version, cursor, pending = tonumber(fields[4] or 0), fields[5] or '0-0', math.max(0, tonumber(fields[6] or 0))
local seen = {tostring(version), cursor, tostring(pending), redis.call('LINDEX', rejected, 0) or ''}
for place, value in ipairs(arguments.seen) do
  if seen[place] ~= value then return -1 end
end

local function is_pending(id)
  local ms, sequence = id:match('^(%d+)-(%d+)$')
  local cursor_ms, cursor_sequence = cursor:match('^(%d+)-(%d+)$')
  if ms ~= cursor_ms then return tonumber(ms) > tonumber(cursor_ms) end
  return tonumber(sequence) > tonumber(cursor_sequence)
end

-- XDEL only marks an entry, whose bytes stay: so the stream is written anew without it, its last id the same.
local function rewrite(stream, ids)
  if redis.call('EXISTS', stream) == 0 then return end
  local info, last, newest, start = redis.call('XINFO', 'STREAM', stream), nil, nil, '-'
  for place = 1, #info, 2 do
    if info[place] == 'last-generated-id' then last = info[place + 1] end
  end
  for _, id in ipairs(ids) do redis.call('XDEL', stream, id) end
  while true do
    local entries = redis.call('XRANGE', stream, start, '+', 'COUNT', 200)
    for _, entry in ipairs(entries) do
      redis.call('XADD', copy, entry[1], unpack(entry[2]))
      newest = entry[1]
    end
    if #entries < 200 then break end
    start = '(' .. newest
  end
  if newest ~= last and last ~= '0-0' then
    redis.call('XADD', copy, last, 'd', '')
    redis.call('XDEL', copy, last)
  end
  redis.call('RENAME', copy, stream)
end

for _, id in ipairs(arguments.event_ids) do
  if is_pending(id) then pending = pending - 1 end
end
rewrite(log, arguments.event_ids)
rewrite(dead_letters, arguments.dead_ids)
if redis.call('EXISTS', dead_letters) == 1 and redis.call('XLEN', dead_letters) == 0 then
  redis.call('UNLINK', dead_letters)
end
for place = 4, #ARGV do redis.call('LREM', rejected, 0, ARGV[place]) end
redis.call('SET', profile, ARGV[2])
if arguments.drops_checkpoint then redis.call('UNLINK', checkpoint) end
redis.call('HINCRBY', state, 'edits', 1)
redis.call('HSET', state, 'pend', math.max(0, pending))
redis.call('HDEL', state, 'own', 'tok', 'changed', 'fail', 'crash', 'cap', 'suspect')
redis.call('ZREM', leases, member)
redis.call('UNLINK', live)
forget_items(journal, unread, member, arguments.gone)
redis.call('ZADD', unread, now, member)

for _, number in ipairs(arguments.removed_versions) do
  if number == version then redis.call('UNLINK', summary) else redis.call('HDEL', versions, number) end
end
local left = redis.call('XLEN', log)
if left == 0 then redis.call('HDEL', state, 'rebuild', 'postponed') end
if ARGV[3] ~= '' then
  write_version(state, summary, versions, live, version + 1, ARGV[3], arguments.settings)
  if left > 0 then
    local time = redis.call('TIME')
    redis.call('HSET', state, 'rebuild', time[1] .. '.' .. time[2])
    redis.call('HDEL', state, 'postponed')
  end
  emit(arguments.hook)
elseif pending <= 0 and left > 0 then
  resume_postponed(state)
end
local is_rebuilt = redis.call('HEXISTS', state, 'rebuild') == 1
if is_rebuilt and pending <= 0 and not arguments.is_urgent then
  redis.call('HSET', state, 'due', LOW + now)
  redis.call('ZADD', ready, LOW + now, member)
elseif is_rebuilt or (pending > 0 and not redis.call('ZSCORE', ready, member)) then
  mark_due(state, now)
  redis.call('ZADD', ready, now, member)
elseif pending <= 0 then
  forget_schedule(state)
  redis.call('ZREM', ready, member)
end
return math.max(0, pending)
