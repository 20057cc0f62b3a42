-- Puts dead letters back at the end of the log, in the order in which they were set aside: those whose
-- event ids are keys of `wanted`, or all; at most `most`. Gives their ids, the old one and the new one in turn.
local function revive(st, log, dlq, wanted, most)
  local moved = {}
  for _, entry in ipairs(redis.call('XRANGE', dlq, '-', '+')) do
    local fields = {}
    for place = 1, #entry[2], 2 do fields[entry[2][place]] = entry[2][place + 1] end
    if #moved / 2 < most and (not wanted or wanted[fields.id]) then
      moved[#moved + 1] = fields.id
      moved[#moved + 1] = redis.call('XADD', log, '*', 'd', fields.d)
      redis.call('XDEL', dlq, entry[1])
    end
  end
  if #moved > 0 then
    if tonumber(redis.call('HGET', st, 'pend') or 0) == 0 then redis.call('HSET', st, 't0', clock_ms()) end
    redis.call('HINCRBY', st, 'pend', #moved / 2)
  end
  return moved
end
