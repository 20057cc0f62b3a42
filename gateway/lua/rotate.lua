-- Gives an API key a new secret; the one until now opens for a while longer.
--
-- KEYS[1] key record
-- ARGV[1] {"digest", "now", "until": when the secret until now ends, "expires_at": "" keeps the record's}
--
-- Answers `unknown`; `ended` for a key that is revoked or has expired; else `rotated`. The secret before the one
-- until now ends here: two secrets open a key at most.

local arguments = cjson.decode(ARGV[1])
local record = redis.call('HMGET', KEYS[1], 'digest', 'generation', 'revoked_at', 'expires_at')
if not record[1] then
  return 'unknown'
end
local expires_at = arguments.expires_at
if expires_at == '' then
  expires_at = record[4] or ''
end
if record[3] or (expires_at ~= '' and expires_at <= arguments.now) then
  return 'ended'
end
local generation = string.format('%d', (record[2] or 0) + 1)
redis.call('HSET', KEYS[1], 'digest', arguments.digest, 'generation', generation,
  'previous_digest', record[1], 'previous_until', arguments['until'])
if expires_at ~= '' then
  redis.call('HSET', KEYS[1], 'expires_at', expires_at)
end
return 'rotated'
