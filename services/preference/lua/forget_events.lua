-- include arguments.lua
-- include clock.lua
-- include add_live.lua
-- include needed_versions.lua
-- include write_version.lua
-- include schedule.lua
-- include forget_items.lua
-- include postponed.lua
-- include emit.lua
-- Removes events of a user and all that came of them. An update under way is fenced from then on; where versions were
-- removed, the next one is made from the whole history that is left.
-- KEYS       state ready leases unread journal log dead_letters profile checkpoint summary versions rejected live
--            log_copy dead_copy (copy_stream.lua)
-- arguments  member token stamp seen[version, cursor, pending, newest draft] sizes[log, dead letters] (of the copies)
--            pending (of the removed events) removed_versions[] drops_checkpoint is_urgent (the update that follows) gone{key, member} hook settings
-- ARGV       2 profile, 3 record or '', 4... rejected drafts to remove
-- Answers    the number of pending events | -1 when the user has changed since the stamp
local state, ready, leases, unread, journal, log, dead_letters, profile, checkpoint, summary, versions, rejected, live,
  log_copy, dead_copy = unpack(KEYS)
local member, now = arguments.member, clock_ms()
local fields = redis.call('HMGET', state, 'born', 'n', 'edits', 'ver', 'cur', 'pend', 'copying')
if fields[7] ~= arguments.token then return -1 end
if table.concat({fields[1] or '0', fields[2] or '0', fields[3] or '0'}, ':') ~= arguments.stamp then return -1 end
local version, cursor, pending = tonumber(fields[4] or 0), fields[5] or '0-0', math.max(0, tonumber(fields[6] or 0))
local seen = {tostring(version), cursor, tostring(pending), redis.call('LINDEX', rejected, 0) or ''}
for place, value in ipairs(arguments.seen) do
  if seen[place] ~= value then return -1 end
end
for place, copy in ipairs({log_copy, dead_copy}) do
  if redis.call('XLEN', copy) ~= arguments.sizes[place] then return -1 end -- it has expired
end

-- The copy takes the stream's place; the last id stays the same, since new ids must follow it.
local function replace(stream, copy)
  if redis.call('EXISTS', stream) == 0 then return end
  local info, newest, last = redis.call('XINFO', 'STREAM', stream), redis.call('XREVRANGE', copy, '+', '-', 'COUNT', 1)[1]
  for place = 1, #info, 2 do
    if info[place] == 'last-generated-id' then last = info[place + 1] end
  end
  if last ~= (newest and newest[1] or '0-0') then
    redis.call('XADD', copy, last, 'd', '')
    redis.call('XDEL', copy, last)
  end
  redis.call('UNLINK', stream)
  redis.call('RENAME', copy, stream)
  redis.call('PERSIST', stream)
end

pending = pending - arguments.pending
replace(log, log_copy)
replace(dead_letters, dead_copy)
if redis.call('EXISTS', dead_letters) == 1 and redis.call('XLEN', dead_letters) == 0 then
  redis.call('UNLINK', dead_letters)
end
for place = 4, #ARGV do redis.call('LREM', rejected, 0, ARGV[place]) end
redis.call('SET', profile, ARGV[2])
if arguments.drops_checkpoint then redis.call('UNLINK', checkpoint) end
redis.call('HINCRBY', state, 'edits', 1)
redis.call('HSET', state, 'pend', math.max(0, pending))
redis.call('HDEL', state, 'own', 'tok', 'changed', 'fail', 'crash', 'cap', 'suspect', 'copying', 'needed')
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
  redis.call('HSETNX', state, 'due', LOW + now)
  redis.call('ZADD', ready, 'NX', LOW + now, member)
elseif is_rebuilt or (pending > 0 and not redis.call('ZSCORE', ready, member)) then
  mark_due(state, now)
  redis.call('ZADD', ready, now, member)
elseif pending <= 0 then
  forget_schedule(state)
  redis.call('ZREM', ready, member)
end
return math.max(0, pending)
