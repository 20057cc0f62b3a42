-- Asks again for the rebuild that was put off until no event waits; whether there is one.
local function resume_postponed(st)
  local rebuild = redis.call('HGET', st, 'postponed')
  if not rebuild then return false end
  redis.call('HDEL', st, 'postponed')
  redis.call('HSET', st, 'rebuild', rebuild)
  return true
end
