-- Makes `record` the current summary, version `newest`, keeps the one before it and drops the oldest. Needs clock.lua
-- and add_live.lua.
local function write_version(state, summary, versions, live, newest, record, settings)
  local previous = redis.call('GET', summary)
  if previous then
    redis.call('HSET', versions, newest - 1, previous)
    local excess = redis.call('HLEN', versions) - (settings.keep_versions - 1)
    if excess > 0 then
      local numbers = redis.call('HKEYS', versions) -- with gaps, where a user had events forgotten
      table.sort(numbers, function(one, other) return tonumber(one) < tonumber(other) end)
      redis.call('HDEL', versions, unpack(numbers, 1, excess))
    end
  end
  redis.call('SET', summary, record)
  redis.call('HSET', state, 'ver', newest, 'ver.at', clock_ms())
  add_live(live, 64, 'version', newest, settings)
end
