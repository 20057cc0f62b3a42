-- Puts dead letters back at the end of the log, in their order: those whose event ids are keys of `selection`,
-- or all; at most `most`. Returns pairs of the old and the new event id. The first id of each goes with it as `o`.
local function revive(state, log, dead_letters, selection, most)
  local moved = {}
  for _, entry in ipairs(redis.call('XRANGE', dead_letters, '-', '+')) do
    local fields = {}
    for index = 1, #entry[2], 2 do fields[entry[2][index]] = entry[2][index + 1] end
    if #moved < most and (not selection or selection[fields.id]) then
      moved[#moved + 1] = {fields.id, redis.call('XADD', log, '*', 'd', fields.d, 'o', fields.o or fields.id)}
      redis.call('XDEL', dead_letters, entry[1])
    end
  end
  if #moved > 0 then
    mark_due(state, clock_ms())
    redis.call('HINCRBY', state, 'pend', #moved)
  end
  return moved
end
