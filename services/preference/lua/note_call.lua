-- Keeps which calls the next update comes from: the first 8, oldest first.
local function note_call(from, call)
  if call == '' then return end
  local known = redis.call('GET', from)
  if not known then
    redis.call('SET', from, call)
  elseif select(2, known:gsub(',', '')) < 7 then
    redis.call('SET', from, known .. ',' .. call)
  end
end
