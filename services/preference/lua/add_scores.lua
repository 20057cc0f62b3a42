-- Adds prequential sums to a user's state and to the tenant's sums. `hits` and `mass` are texts: Redis adds them
-- with more digits than a Lua number has. The user's latest predictions are kept one letter each.
local function add_scores(scorer, state, quality, tenant, scored)
  for _, sums in ipairs({{state, ''}, {quality, tenant .. ':'}}) do
    local key, prefix = sums[1], sums[2] .. scorer
    redis.call('HINCRBY', key, prefix .. '.n', scored.count)
    redis.call('HINCRBYFLOAT', key, prefix .. '.ok', scored.hits)
    redis.call('HINCRBYFLOAT', key, prefix .. '.p', scored.mass)
  end
  local window = (redis.call('HGET', state, scorer .. '.w') or '') .. scored.window
  redis.call('HSET', state, scorer .. '.w', window:sub(-50))
end
