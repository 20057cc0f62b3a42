-- Checks an API key and takes one token from its bucket, in one step.
--
-- KEYS[1] key record   hash: digest tenant admin [rate] [burst] [revoked_at] …
-- KEYS[2] token bucket hash: tokens at(µs)
-- ARGV    digest, default rate (tokens a second), default burst (tokens)
--
-- Answers nil for an unknown key; {digest, tenant, admin, revoked_at} for a wrong secret or a
-- revoked key, whose bucket stays untouched; else these four and {taken, tokens left, rate, burst}.
-- The caller compares the digest once more, in constant time. A Redis that refuses writes still checks
-- keys: what is read, and the erasure that would make room again, need no bucket, so nothing is taken.

local record = redis.call('HMGET', KEYS[1], 'digest', 'tenant', 'admin', 'revoked_at', 'rate', 'burst')
local digest = record[1]
if not digest then
  return nil
end
local revoked_at = record[4] or ''
if digest ~= ARGV[1] or revoked_at ~= '' then
  return {digest, record[2], record[3], revoked_at}
end

local rate = tonumber(record[5] or ARGV[2])
local burst = tonumber(record[6] or ARGV[3])
local time = redis.call('TIME')
local now = tonumber(time[1]) * 1000000 + tonumber(time[2])

local bucket = redis.call('HMGET', KEYS[2], 'tokens', 'at')
local elapsed = math.max(0, now - (tonumber(bucket[2]) or now)) / 1000000
local tokens = math.min(burst, (tonumber(bucket[1]) or burst) + elapsed * rate)
local taken = 0
if tokens >= 1 then
  tokens = tokens - 1
  taken = 1
end
-- A bucket is worth neither a disk write nor a replica: after a restart it is simply full. (Redis 6
-- needs the first line before it allows the second; later ones always do.)
redis.replicate_commands()
redis.set_repl(redis.REPL_NONE)
local kept = redis.pcall('HSET', KEYS[2], 'tokens', string.format('%.6f', tokens), 'at', string.format('%.0f', now))
if type(kept) == 'table' and kept.err then
  local refused = false
  for _, code in ipairs({'OOM', 'READONLY', 'MISCONF', 'NOREPLICAS'}) do
    refused = refused or kept.err:find('%f[%u]' .. code .. ' ') ~= nil
  end
  if not refused then return kept end
  tokens, taken = math.min(burst, tokens + taken), 1
else
  -- A bucket that has had time to fill up again says nothing: let it go.
  redis.call('PEXPIRE', KEYS[2], math.ceil(burst / rate * 1000) + 1000)
end
return {digest, record[2], record[3], '', taken, string.format('%.6f', tokens), tostring(rate), tostring(burst)}
