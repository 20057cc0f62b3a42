-- include clock.lua
-- include write_version.lua
-- Writes a version by hand (a user's edit, a rollback); an update under way then conflicts and is
-- made again from the new text.
-- KEYS  st sum vers live profile
-- ARGV  expected_version record keep_versions live_ms stamp profile
-- Gives {'OK', version} | {'STALE', version} | {'MOVED'}
local st, sum, vers, live, profile = unpack(KEYS)
local kept = redis.call('HMGET', st, 'born', 'ver', 'n', 'edits')
local version = tonumber(kept[2] or 0)
if tostring(version) ~= ARGV[1] then return {'STALE', version} end
-- A profile goes with an edit only; it was made from this very state, as in append.
if ARGV[6] ~= '' then
  if table.concat({kept[1] or '0', kept[3] or '0', kept[4] or '0'}, ':') ~= ARGV[5] then return {'MOVED'} end
  redis.call('SET', profile, ARGV[6])
  redis.call('HINCRBY', st, 'edits', 1)
end
if not kept[1] then
  redis.call('HSET', st, 'born', clock_ms())
end
write_version(st, sum, vers, live, version + 1, ARGV[2], tonumber(ARGV[3]), ARGV[4])
return {'OK', version + 1}
