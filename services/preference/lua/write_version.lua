-- Makes `record` the current summary, version `newest`, keeps the one before it and drops the oldest that no profile
-- needs. Needs clock.lua, add_live.lua and needed_versions.lua.
local function drop_versions(state, versions, newest, record, keep)
  local excess = redis.call('HLEN', versions) - (keep - 1)
  if excess <= 0 then return end
  local numbers, old = redis.call('HKEYS', versions), {} -- with gaps, where versions were dropped or forgotten
  table.sort(numbers, function(one, other) return tonumber(one) < tonumber(other) end)
  local needed, eventless = load_needed(state)
  if not needed or eventless[numbers[excess + 1]] then -- what is needed changes with the oldest that stays anyway
    store_needed(state, versions, newest, record, keep)
    needed = load_needed(state)
  end
  for place = 1, excess do
    if not needed[numbers[place]] then old[#old + 1] = numbers[place] end
  end
  if #old > 0 then redis.call('HDEL', versions, unpack(old)) end
end

local function write_version(state, summary, versions, live, newest, record, settings)
  if not has_events(record) then redis.call('HDEL', state, 'needed') end
  local previous = redis.call('GET', summary)
  if previous then
    redis.call('HSET', versions, newest - 1, previous)
    drop_versions(state, versions, newest, record, settings.keep_versions)
  end
  redis.call('SET', summary, record)
  redis.call('HSET', state, 'ver', newest, 'ver.at', clock_ms())
  add_live(live, 64, 'version', newest, settings)
end
