-- Checks an API key, or the key behind a user token, and takes one token from each bucket, in one step.
--
-- KEYS[1]  key record    hash: digest tenant admin [scopes] [expires_at] [revoked_at] [rate] [burst]
--                              [generation previous_digest previous_until] …
-- KEYS[2…] token buckets hash: tokens at(µs); the key's, then that of a token's user
-- ARGV     proof, now, then rate (tokens a second) and burst (tokens) of each bucket; those of the record hold
--          for the key's. The proof is a digest, or `generation:<n>` for a token of that generation of the key.
--          Times are of one length, so that their order is that of the alphabet.
--
-- Answers nil for an unknown key, else {state, digest, tenant, admin, scopes, expires_at, generation}: the state is
-- `open`, `wrong`, `revoked` or `expired`, and any but the first leaves the buckets untouched. An open key's answer
-- goes on with {taken, tokens left, rate, burst, bucket} of the bucket that is empty, or of the last, if there is one.
-- The caller compares the digest once more, in constant time. A Redis that refuses writes still checks
-- keys: what is read, and the erasure that would make room again, need no bucket, so nothing is taken.

local record = redis.call('HMGET', KEYS[1], 'digest', 'tenant', 'admin', 'scopes', 'expires_at', 'revoked_at',
  'generation', 'rate', 'burst')
local digest, expires_at, generation = record[1], record[5] or '', record[7] or '0'
if not digest then
  return nil
end
local proof, now = ARGV[1], ARGV[2]
local state = 'open'
if proof ~= digest and proof ~= 'generation:' .. generation then
  local previous = redis.call('HMGET', KEYS[1], 'previous_digest', 'previous_until')
  local older = string.format('%d', generation - 1)
  if (proof == previous[1] or proof == 'generation:' .. older) and (previous[2] or '') > now then
    digest, generation = previous[1], older
  else
    state = 'wrong'
  end
end
if state == 'open' and record[6] then
  state = 'revoked'
elseif state == 'open' and expires_at ~= '' and expires_at <= now then
  state = 'expired'
end
local answer = {state, digest, record[2], record[3], record[4] or '', expires_at, generation}
if state ~= 'open' or #KEYS == 1 then
  return answer
end

local time = redis.call('TIME')
local moment = tonumber(time[1]) * 1000000 + tonumber(time[2])
local buckets, told, taken = {}, #KEYS, 1
for index = 2, #KEYS do
  local rate, burst = tonumber(ARGV[index * 2 - 1]), tonumber(ARGV[index * 2])
  if index == 2 then
    rate, burst = tonumber(record[8] or rate), tonumber(record[9] or burst)
  end
  local bucket = redis.call('HMGET', KEYS[index], 'tokens', 'at')
  local elapsed = math.max(0, moment - (tonumber(bucket[2]) or moment)) / 1000000
  local tokens = math.min(burst, (tonumber(bucket[1]) or burst) + elapsed * rate)
  buckets[index] = {tokens = tokens, rate = rate, burst = burst}
  if tokens < 1 and taken == 1 then
    told, taken = index, 0
  end
end

-- A bucket is worth neither a disk write nor a replica: after a restart it is simply full. (Redis 6
-- needs the first line before it allows the second; later ones always do.)
redis.replicate_commands()
redis.set_repl(redis.REPL_NONE)
for index, bucket in pairs(buckets) do
  local tokens, at = string.format('%.6f', bucket.tokens - taken), string.format('%.0f', moment)
  local kept = redis.pcall('HSET', KEYS[index], 'tokens', tokens, 'at', at)
  if type(kept) == 'table' and kept.err then
    local refused = false
    for _, code in ipairs({'OOM', 'READONLY', 'MISCONF', 'NOREPLICAS'}) do
      refused = refused or kept.err:find('%f[%u]' .. code .. ' ') ~= nil
    end
    if not refused then return kept end
    taken, tokens = 1, string.format('%.6f', bucket.tokens)
  else
    -- A bucket that has had time to fill up again says nothing: let it go.
    redis.call('PEXPIRE', KEYS[index], math.ceil(bucket.burst / bucket.rate * 1000) + 1000)
  end
  bucket.left = tokens
end
local bucket = buckets[told]
for _, value in ipairs({taken, bucket.left, tostring(bucket.rate), tostring(bucket.burst), told - 1}) do
  answer[#answer + 1] = value
end
return answer
