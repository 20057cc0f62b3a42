-- Requests again the rebuild that was postponed until no event waits; whether there is one.
local function resume_postponed(state)
  local rebuild = redis.call('HGET', state, 'postponed')
  if not rebuild then return false end
  redis.call('HDEL', state, 'postponed')
  redis.call('HSET', state, 'rebuild', rebuild)
  return true
end
