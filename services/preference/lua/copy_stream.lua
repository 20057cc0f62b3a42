-- include arguments.lua
-- Copies a part of a stream of a user, without what is forgotten of it: Redis keeps the bytes of a deleted entry, so
-- forget_events.lua puts the whole copy in the stream's place. Part by part, so that nobody waits long for a script.
-- KEYS       state stream copy, or to begin: state, both copies
-- arguments  token (of this forgetting) | and first last (event ids) without[] (ids) keep_ms
-- Answers    1 | 0 when another forgetting has begun since, or the user is erased
local state, stream, copy = unpack(KEYS)
if not arguments.first then
  if redis.call('HEXISTS', state, 'born') == 0 then return 0 end
  redis.call('HSET', state, 'copying', arguments.token)
  redis.call('UNLINK', KEYS[2], KEYS[3])
  return 1
end
if redis.call('HGET', state, 'copying') ~= arguments.token then return 0 end
local without = {}
for _, id in ipairs(arguments.without) do without[id] = true end
for _, entry in ipairs(redis.call('XRANGE', stream, arguments.first, arguments.last)) do
  if not without[entry[1]] then redis.call('XADD', copy, entry[1], unpack(entry[2])) end
end
redis.call('PEXPIRE', copy, arguments.keep_ms)
return 1
