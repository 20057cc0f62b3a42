-- Checks an API key, or the key behind a user token, and takes one token from each bucket, in one step.
--
-- KEYS[1]  key record    hash: digest tenant admin [scopes] [expires_at] [revoked_at] [rate] [burst]
--                              [generation previous_digest previous_until] …
-- KEYS[2]  token bucket  hash: tokens at(µs); KEYS[3] the same for a token's user
-- ARGV     proof, now, then rate (tokens a second), burst (tokens) and debt of each bucket; rate and burst of the record
--          come first for the key's. A debt is what earlier requests have cost beyond the token that they took, and is
--          paid whatever the answer. The proof is a digest, or `generation:<n>` for a token of that generation of the key.
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
if state ~= 'open' or #KEYS == 1 then
  return {state, digest, record[2], record[3], record[4] or '', expires_at, generation}
end

local time = redis.call('TIME')
local moment = tonumber(time[1]) * 1000000 + tonumber(time[2])

local function read(bucket, rate, burst, debt)
  local kept = redis.call('HMGET', bucket, 'tokens', 'at')
  local elapsed = math.max(0, moment - (tonumber(kept[2]) or moment)) / 1000000
  return math.max(-10 * burst, math.min(burst, (tonumber(kept[1]) or burst) + elapsed * rate) - debt)
end

-- Whether the bucket was written, and the error unless Redis refuses all writes.
local function write(bucket, tokens, rate, burst)
  local at = string.format('%.0f', moment)
  local kept = redis.pcall('HSET', bucket, 'tokens', string.format('%.6f', tokens), 'at', at)
  if type(kept) == 'table' and kept.err then
    for _, code in ipairs({'OOM', 'READONLY', 'MISCONF', 'NOREPLICAS'}) do
      if kept.err:find('%f[%u]' .. code .. ' ') then return false end
    end
    return false, kept
  end
  -- A bucket that has had time to fill up again says nothing: let it go.
  redis.call('PEXPIRE', bucket, math.ceil((burst - math.min(0, tokens)) / rate * 1000) + 1000)
  return true
end

local rate, burst = tonumber(record[8] or ARGV[3]), tonumber(record[9] or ARGV[4])
local tokens = read(KEYS[2], rate, burst, tonumber(ARGV[5]))
local user_rate, user_burst, user_tokens = tonumber(ARGV[6]), tonumber(ARGV[7]), nil
if KEYS[3] then
  user_tokens = read(KEYS[3], user_rate, user_burst, tonumber(ARGV[8]))
end
local taken = (tokens >= 1 and (user_tokens or 1) >= 1) and 1 or 0
local told = (user_tokens and tokens >= 1) and 2 or 1

-- A bucket is worth neither a disk write nor a replica: after a restart it is simply full. (Redis 6
-- needs the first line before it allows the second; later ones always do.)
redis.replicate_commands()
redis.set_repl(redis.REPL_NONE)
local written, fault = write(KEYS[2], tokens - taken, rate, burst)
if written and user_tokens then
  written, fault = write(KEYS[3], user_tokens - taken, user_rate, user_burst)
end
if fault then
  return fault
end
if told == 2 then
  tokens, rate, burst = user_tokens, user_rate, user_burst
end
if written then
  tokens = tokens - taken
else
  taken = 1
end
return {state, digest, record[2], record[3], record[4] or '', expires_at, generation,
  taken, string.format('%.6f', tokens), tostring(rate), tostring(burst), told}
