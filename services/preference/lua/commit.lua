-- include arguments.lua
-- include clock.lua
-- include add_live.lua
-- include needed_versions.lua
-- include write_version.lua
-- include postponed.lua
-- include schedule.lua
-- include emit.lua
-- Makes a new summary version current, moves the cursor, releases the user.
-- KEYS       state ready leases summary versions log live calls
-- arguments  member token version cursor new_cursor applied claimed rebuild calls (as claimed) settings hook
-- ARGV       2 record
-- Answers    OK | FENCED | CONFLICT
local state, ready, leases, summary, versions, log, live, calls_key = unpack(KEYS)
local fields = redis.call('HMGET', state, 'tok', 'ver', 'cur', 'rebuild')
if fields[1] ~= arguments.token then return 'FENCED' end
if tonumber(fields[2] or 0) ~= arguments.version then return 'CONFLICT' end
if (fields[3] or '0-0') ~= arguments.cursor then return 'CONFLICT' end
local now = clock_ms()

write_version(state, summary, versions, live, arguments.version + 1, ARGV[2], arguments.settings)
emit(arguments.hook)
redis.call('HSET', state, 'cur', arguments.new_cursor)
-- Earlier releases kept the calls in the field `from`, and the time of a refusal in `refused`.
redis.call('HDEL', state, 'own', 'tok', 'fail', 'crash', 'cap', 'suspect', 'strikes', 'hold', 'spent',
  'refused', 'from')
redis.call('ZREM', leases, arguments.member)
local again = fields[4]
if again and again == arguments.rebuild then
  redis.call('HDEL', state, 'rebuild')
  again = false
end
local pending = redis.call('HINCRBY', state, 'pend', 0 - arguments.applied)
if pending <= 0 then
  -- The count and the log should agree. Where they do not, the log is right, so that no user waits for nothing.
  local left = #redis.call('XRANGE', log, '(' .. arguments.new_cursor, '+', 'COUNT', 1)
  if pending ~= left then redis.call('HSET', state, 'pend', left) end
  pending = left
  again = again or (left == 0 and resume_postponed(state))
end
if pending > 0 or again then
  -- Events that came after the claim are due when they ask to be; what the claim left over, at once.
  local schedule = redis.call('HMGET', state, 't0', 'due')
  local due = tonumber(schedule[2])
  if schedule[1] or not due or arguments.applied < arguments.claimed then
    due = now
    mark_due(state, now)
  end
  redis.call('ZADD', ready, math.max(due, now), arguments.member)
  -- Of the calls that asked for updates those stay that came after the claim.
  local claimed, current = arguments.calls .. ',', redis.call('GET', calls_key)
  if current and current:sub(1, #claimed) == claimed then redis.call('SET', calls_key, current:sub(#claimed + 1)) end
else
  forget_schedule(state)
  redis.call('UNLINK', calls_key)
end
return 'OK'
