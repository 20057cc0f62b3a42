-- An endpoint is looked at when the first of its events is due, and no more while none waits.
local function look_again(hooks, due, member)
  local first = redis.call('ZRANGE', due, 0, 0, 'WITHSCORES')
  if first[1] then redis.call('ZADD', hooks, first[2], member) else redis.call('ZREM', hooks, member) end
end

-- The two parts of a log's value (emit.lua).
local function split_record(value)
  return value:match('^([^\n]*)\n(.*)$')
end

-- Drops what is kept of an event that has ended, and its entry in the user's index.
local function drop_record(log, own, id)
  local value = redis.call('HGET', log, id)
  if not value then return end
  local index = split_record(value)
  if index ~= '' then redis.call('SREM', index, own .. ' ' .. id) end
  redis.call('HDEL', log, id)
end
