-- include arguments.lua
-- Adds one batch of changes to the counts of a bucket's items, once.
-- KEYS       counts applied
-- arguments  token items (prefix of each item's neighbours) slow_h fast_h max_items max_neighbours
--            changes{key: {u users, l likers, s {hour: shown}, t {hour: taken}, n {key: neighbours}}}
-- Answers    1 | 0 where the batch was added before
local counts, applied = unpack(KEYS)
if redis.call('ZSCORE', applied, arguments.token) then return 0 end
redis.call('ZADD', applied, '+inf', arguments.token)
local slow_h, fast_h = arguments.slow_h, arguments.fast_h

local function fade(hours, half_life) return 0.5 ^ (hours / half_life) end

-- Neighbours that are few are dropped once there are half as many again as are kept.
local function prune(neighbours)
  if redis.call('HLEN', neighbours) <= 1.5 * arguments.max_neighbours then return end
  local flat, ranked = redis.call('HGETALL', neighbours), {}
  for place = 1, #flat, 2 do ranked[#ranked + 1] = {tonumber(flat[place + 1]), place, flat[place]} end
  table.sort(ranked, function(one, other)
    if one[1] ~= other[1] then return one[1] > other[1] end
    return one[2] > other[2]
  end)
  for place = arguments.max_neighbours + 1, #ranked do redis.call('HDEL', neighbours, ranked[place][3]) end
end

local function drop(key)
  redis.call('HDEL', counts, key)
  redis.call('UNLINK', arguments.items .. key)
end

for key, change in pairs(arguments.changes) do
  local stored, record = redis.call('HGET', counts, key), {}
  for number in (stored or ''):gmatch('%S+') do record[#record + 1] = tonumber(number) end
  local newest, oldest = 0, math.huge
  for _, hours in ipairs({change.s, change.t}) do
    for hour, users in pairs(hours) do
      hour = tonumber(hour)
      newest = math.max(newest, hour)
      if users > 0 then oldest = math.min(oldest, hour) end
    end
  end
  -- What was dropped for want of room is not there to be taken away from.
  if stored or change.u > 0 then
    local users, likers, first, at, shown, taken, fast_shown, fast_taken =
      unpack(stored and record or {0, 0, oldest, newest, 0, 0, 0, 0})
    local now = math.max(at, newest)
    shown, taken = shown * fade(now - at, slow_h), taken * fade(now - at, slow_h)
    fast_shown, fast_taken = fast_shown * fade(now - at, fast_h), fast_taken * fade(now - at, fast_h)
    for hour, number in pairs(change.s) do
      shown = shown + number * fade(now - hour, slow_h)
      fast_shown = fast_shown + number * fade(now - hour, fast_h)
    end
    for hour, number in pairs(change.t) do
      taken = taken + number * fade(now - hour, slow_h)
      fast_taken = fast_taken + number * fade(now - hour, fast_h)
    end
    users, likers = users + change.u, math.max(0, likers + change.l)
    if users <= 0 then
      drop(key)
    else
      redis.call('HSET', counts, key, string.format('%d %d %d %d %.7g %.7g %.7g %.7g', users, likers,
        math.min(first, oldest), now, math.max(0, shown), math.max(0, taken), math.max(0, fast_shown),
        math.max(0, fast_taken)))
      local neighbours = arguments.items .. key
      for other, number in pairs(change.n) do
        if redis.call('HINCRBY', neighbours, other, number) <= 0 then redis.call('HDEL', neighbours, other) end
      end
      prune(neighbours)
    end
  end
end

-- Of a few items the one that was met least lately goes, until there is room.
local SAMPLE = 8
for _ = arguments.max_items + 1, redis.call('HLEN', counts) do
  local sample, victim, least = redis.call('HRANDFIELD', counts, SAMPLE, 'WITHVALUES'), nil, math.huge
  for place = 1, #sample, 2 do
    local at = tonumber(sample[place + 1]:match('^%S+ %S+ %S+ (%S+)'))
    if at < least then victim, least = sample[place], at end
  end
  drop(victim)
end
return 1
