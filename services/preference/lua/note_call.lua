-- Stores which calls the next update comes from: the first 8, oldest first.
local function note_call(calls, call)
  if call == '' then return end
  local known = redis.call('GET', calls)
  if not known then
    redis.call('SET', calls, call)
  elseif select(2, known:gsub(',', '')) < 7 then
    redis.call('SET', calls, known .. ',' .. call)
  end
end
