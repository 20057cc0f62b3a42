-- include arguments.lua
-- include clock.lua
-- include add_live.lua
-- include needed_versions.lua
-- include write_version.lua
-- include schedule.lua
-- include emit.lua
-- Writes a version by hand (a user's edit, a rollback). An update under way then conflicts and is made again
-- from the new text; events that wait are due, since they follow another text now.
-- KEYS       state summary versions live profile ready index
-- arguments  member user expected (version) stamp settings hook
-- ARGV       2 record, 3 profile or ''
-- Answers    {status: OK | STALE, version} | {status: MOVED}
local state, summary, versions, live, profile, ready, index = unpack(KEYS)
local fields = redis.call('HMGET', state, 'born', 'ver', 'n', 'edits', 'pend', 'hold')
local version = tonumber(fields[2] or 0)
if version ~= arguments.expected then return cjson.encode({status = 'STALE', version = version}) end
-- A profile goes with an edit only; it was made from this very state, as in append.
if ARGV[3] ~= '' then
  local stamp = table.concat({fields[1] or '0', fields[3] or '0', fields[4] or '0'}, ':')
  if stamp ~= arguments.stamp then return cjson.encode({status = 'MOVED'}) end
  redis.call('SET', profile, ARGV[3])
  redis.call('HINCRBY', state, 'edits', 1)
end
local now = clock_ms()
if not fields[1] then redis.call('HSET', state, 'born', now) end
redis.call('ZADD', index, 0, arguments.user)
if tonumber(fields[5] or 0) > 0 then
  mark_due(state, now)
  redis.call('ZADD', ready, 'XX', 'LT', math.max(now, tonumber(fields[6] or 0)), arguments.member)
end
write_version(state, summary, versions, live, version + 1, ARGV[2], arguments.settings)
emit(arguments.hook)
return cjson.encode({status = 'OK', version = version + 1})
