-- Makes `record` the current summary, version `newest`, keeps the one before it and drops the oldest. Needs clock.lua.
local function write_version(state, summary, versions, live, newest, record, settings)
  local previous = redis.call('GET', summary)
  if previous then
    redis.call('HSET', versions, newest - 1, previous)
    local older = redis.call('HLEN', versions)
    while older > settings.keep_versions - 1 do
      redis.call('HDEL', versions, newest - older)
      older = older - 1
    end
  end
  redis.call('SET', summary, record)
  redis.call('HSET', state, 'ver', newest, 'ver.at', clock_ms())
  redis.call('XADD', live, 'MAXLEN', '~', 64, '*', 'e', 'version', 'd', newest)
  redis.call('PEXPIRE', live, settings.live_ms)
end
