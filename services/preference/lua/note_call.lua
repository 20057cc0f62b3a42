-- Keeps which calls the next update comes from: the first 8, oldest first. `known` is the field now.
local function note_call(st, known, call)
  if call == '' then return end
  if not known then
    redis.call('HSET', st, 'from', call)
  elseif select(2, known:gsub(',', '')) < 7 then
    redis.call('HSET', st, 'from', known .. ',' .. call)
  end
end
