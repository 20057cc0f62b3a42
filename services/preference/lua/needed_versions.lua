-- Which versions stay however old they are, because a profile made anew needs them (HistoryFold of
-- storage/user_profile.py): the user's own text that holds, and what shows which events a rollback took back.

-- Newest rollbacks that are looked at; each needs six versions at most.
local MOST_ROLLBACKS = 5

-- Whether a stored version adds events. Texts written by hand add none, nor does the version that follows a forgotten
-- event. Quotes within a text are escaped, so a field is found nowhere else.
local function has_events(record)
  return record:find('"last":"', 1, true) ~= nil
end

-- Whether it is the user's own text, and the version that it restored if it is a rollback.
local function read_origin(record)
  local _, name_end = record:find('"restored_from":', 1, true)
  return record:find('"source":"user"', 1, true) ~= nil, name_end and tonumber(record:match('^%d+', name_end + 1))
end

-- Their numbers as a set, and the numbers of those that add no events. `records` are all versions by their number, of
-- which the newest `keep` stay anyway and may be restored.
local function find_needed(records, keep)
  local numbers, own, restored, eventless, needed = {}, {}, {}, {}, {}
  for number, record in pairs(records) do
    numbers[#numbers + 1] = number
    own[number], restored[number] = read_origin(record)
    eventless[number] = not has_events(record) or nil
  end
  table.sort(numbers, function(one, other) return one > other end)

  local function newest_up_to(limit, accepts)
    for _, number in ipairs(numbers) do
      if number <= limit and accepts(number) then return number end
    end
  end
  local function is_any() return true end
  local function is_rollback(number) return restored[number] end
  local function is_own_or_rollback(number) return own[number] or restored[number] end
  local function is_inferred(number) return not own[number] end
  local function is_eventful(number) return not eventless[number] end
  local function need(number)
    if number then needed[number] = true end
  end

  -- A text goes on from the version before, or from what a rollback restored. What one took back may be restored too.
  local oldest = numbers[math.min(keep, #numbers)]
  if eventless[oldest] then need(newest_up_to(oldest, is_eventful)) end
  local heads, rollbacks = {numbers[1], oldest}, {}
  local most_heads = #heads + MOST_ROLLBACKS
  for _, head in ipairs(heads) do
    local has_own, number = false, newest_up_to(head, is_own_or_rollback)
    while number do
      local before = number - 1
      if restored[number] then
        local target = math.min(restored[number], before)
        if not rollbacks[number] and #heads < most_heads then
          rollbacks[number], heads[#heads + 1] = true, before
          need(number)
          need(newest_up_to(before, is_eventful))
          need(newest_up_to(target, is_any))
          need(newest_up_to(target, is_eventful))
        end
        before = target
      elseif not has_own then
        has_own = true
        need(number)
        need(newest_up_to(before, is_inferred)) -- its sentences may be in the text: forgetting compares them
      end
      number = newest_up_to(before, has_own and is_rollback or is_own_or_rollback)
    end
  end
  return needed, eventless
end

-- Both sets, of numbers as strings, as they were found last; nil where none were since a version without events came or
-- versions were forgotten.
local function load_needed(state)
  local needed, eventless = {}, {}
  local stored = redis.call('HGET', state, 'needed')
  if not stored then return nil end
  local first, second = stored:match('^(.*);(.*)$')
  for number in first:gmatch('%d+') do needed[number] = true end
  for number in second:gmatch('%d+') do eventless[number] = true end
  return needed, eventless
end

-- Finds them in `versions` and the `record` of the `newest`, which is not there.
local function store_needed(state, versions, newest, record, keep)
  local records, fields = {[newest] = record}, redis.call('HGETALL', versions)
  for place = 1, #fields, 2 do records[tonumber(fields[place])] = fields[place + 1] end
  local lists = {}
  for place, found in ipairs({find_needed(records, keep)}) do
    local numbers = {}
    for number in pairs(found) do numbers[#numbers + 1] = number end
    table.sort(numbers)
    lists[place] = table.concat(numbers, ' ')
  end
  redis.call('HSET', state, 'needed', table.concat(lists, ';'))
end
