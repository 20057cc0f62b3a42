-- Makes `record` the current summary, version `newest`, keeps the one before it and drops the oldest.
local function write_version(st, sum, vers, live, newest, record, keep, live_ms)
  local previous = redis.call('GET', sum)
  if previous then
    redis.call('HSET', vers, newest - 1, previous)
    local older = redis.call('HLEN', vers)
    while older > keep - 1 do
      redis.call('HDEL', vers, newest - older)
      older = older - 1
    end
  end
  redis.call('SET', sum, record)
  redis.call('HSET', st, 'ver', newest)
  redis.call('XADD', live, 'MAXLEN', '~', 64, '*', 'e', 'version', 'd', newest)
  redis.call('PEXPIRE', live, live_ms)
end
