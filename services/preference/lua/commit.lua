-- include clock.lua
-- include write_version.lua
-- include postponed.lua
-- Makes a new summary version current, moves the cursor, releases the user.
-- KEYS  st ready leases sum vers log live from
-- ARGV  member token version cursor new_cursor applied rebuild record keep_versions keep_events live_ms
--       calls (as claimed)
-- Gives {'OK', pending} | {'FENCED'} | {'CONFLICT'}
local st, ready, leases, sum, vers, log, live, from = unpack(KEYS)
local member, token, version, cursor, new_cursor = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local kept = redis.call('HMGET', st, 'tok', 'ver', 'cur', 'rebuild')
if kept[1] ~= token then return {'FENCED'} end
if (kept[2] or '0') ~= version or (kept[3] or '0-0') ~= cursor then return {'CONFLICT'} end
local now = clock_ms()

write_version(st, sum, vers, live, tonumber(version) + 1, ARGV[8], tonumber(ARGV[9]), ARGV[11])
redis.call('HSET', st, 'cur', new_cursor)
redis.call('HDEL', st, 'own', 'tok', 'fail', 'crash', 'cap', 'suspect', 'strikes', 'hold', 'refused', 'from') -- the last was kept here once
redis.call('ZREM', leases, member)
local again = kept[4]
if again and again == ARGV[7] then
  redis.call('HDEL', st, 'rebuild')
  again = false
end
local pending = redis.call('HINCRBY', st, 'pend', 0 - tonumber(ARGV[6]))
if pending <= 0 then
  -- The count and the log should agree. Where they do not, the log is right: nobody is to wait for nothing.
  local left = #redis.call('XRANGE', log, '(' .. new_cursor, '+', 'COUNT', 1)
  if pending ~= left then redis.call('HSET', st, 'pend', left) end
  pending = left
  again = again or (left == 0 and resume_postponed(st))
end
redis.call('XTRIM', log, 'MAXLEN', '~', tonumber(ARGV[10]) + pending)
if pending > 0 or again then
  redis.call('HSET', st, 't0', now)
  redis.call('ZADD', ready, now, member)
  -- Of the calls that asked for updates those stay that came after the claim.
  local calls, known = ARGV[12] .. ',', redis.call('GET', from)
  if known and known:sub(1, #calls) == calls then redis.call('SET', from, known:sub(#calls + 1)) end
else
  redis.call('UNLINK', from)
end
return {'OK', pending}
