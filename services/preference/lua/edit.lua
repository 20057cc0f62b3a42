-- include arguments.lua
-- include clock.lua
-- include write_version.lua
-- Writes a version by hand (a user's edit, a rollback). An update under way then conflicts and is made again
-- from the new text.
-- KEYS       state summary versions live profile
-- arguments  expected (version) stamp settings
-- ARGV       2 record, 3 profile or ''
-- Answers    {status: OK | STALE, version} | {status: MOVED}
local state, summary, versions, live, profile = unpack(KEYS)
local fields = redis.call('HMGET', state, 'born', 'ver', 'n', 'edits')
local version = tonumber(fields[2] or 0)
if version ~= arguments.expected then return cjson.encode({status = 'STALE', version = version}) end
-- A profile goes with an edit only; it was made from this very state, as in append.
if ARGV[3] ~= '' then
  local stamp = table.concat({fields[1] or '0', fields[3] or '0', fields[4] or '0'}, ':')
  if stamp ~= arguments.stamp then return cjson.encode({status = 'MOVED'}) end
  redis.call('SET', profile, ARGV[3])
  redis.call('HINCRBY', state, 'edits', 1)
end
if not fields[1] then redis.call('HSET', state, 'born', clock_ms()) end
write_version(state, summary, versions, live, version + 1, ARGV[2], arguments.settings)
return cjson.encode({status = 'OK', version = version + 1})
